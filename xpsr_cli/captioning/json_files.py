"""Small JSON files that are whole or absent, in folders that many processes share. Standard library only."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from xpsr_cli.photos.whole_file import whole_or_absent

_JUST_MADE_S, _LEFT_OVER_S = 1.0, 3600.0  # a file is locked as soon as it is made, and written within milliseconds


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Put an object into a file that a person can read and change; :class:`PhotoError` if that cannot be done.

    What processes that were killed have left in the folder is cleared away.
    """
    _clear(path.parent)
    text = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    with whole_or_absent(path, path.parent / f".caption-{secrets.token_hex(8)}.tmp") as stream:
        with suppress(OSError):  # a file system without locks
            _lock(stream)
        stream.write(text.encode("utf-8", "backslashreplace"))  # which is how JSON writes what is no character


@cache
def _clear(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.glob(".caption-*.tmp"):
            with suppress(OSError):
                if _is_left_over(path):
                    path.unlink()


def _is_left_over(path: Path) -> bool:
    """Whether nobody is writing the file any more; :class:`OSError` where that cannot be told."""
    age = time.time() - path.stat().st_mtime
    if _JUST_MADE_S < age < _LEFT_OVER_S:
        with path.open("r+b") as stream:
            _lock(stream)
    return age > _JUST_MADE_S


def _lock(stream: BinaryIO) -> None:
    """Hold the file until it is closed; :class:`OSError` if another process does."""
    if sys.platform != "win32":  # there an open file cannot be removed anyway
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
