"""A file that is whole or absent: written under another name, brought to the disk, and only then put in its place."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_or_absent(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A file that stands at ``path`` once the block is done, and of which nothing is left when it fails.

    Until then it is ``temporary``, which lies on the same disk as ``path`` and may be left over from a run that was
    killed; ``None`` is a hidden name of its own beside ``path``. Whatever encoders raise becomes a
    :class:`PhotoError` that names ``path``.
    """
    unfinished = temporary or path.parent / f".xpsr-{secrets.token_hex(8)}.tmp"
    try:
        with unfinished.open("w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except (PhotoError, MemoryError):
        raise
    except Exception as error:  # encoders raise anything
        full = isinstance(error, OSError) and error.errno in _FULL
        hint = "Make room on the disk." if full else "Check the folder, or write another format."
        raise PhotoError(f"{path} could not be written: {reason(error)}.", hint) from error
    finally:
        with suppress(OSError):  # already gone after the replacement
            unfinished.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
