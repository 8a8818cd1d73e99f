"""Locks between processes: who has one works, who has not is told so at once. They end with the process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Hold the lock of a file inside the block; yields whether this process has it. The file goes with the lock.

    Folders are made as needed. :class:`OSError` if the file cannot be made.
    """
    handle = _lock(path)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):  # on Windows an open file cannot be removed; there it stays
                path.unlink()
            os.close(handle)


def _lock(path: Path) -> int | None:
    """The handle of a lock that this process has now, or ``None`` if another one has it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # another process was done and took the folder away
            continue
        if not _try_lock(handle):
            os.close(handle)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # the one that had it took it away meanwhile


def _try_lock(handle: int) -> bool:
    """Whether nobody else has the lock. File systems without locks say yes."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True
