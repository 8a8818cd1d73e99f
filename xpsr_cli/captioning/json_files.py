"""Small JSON files that are whole or absent, in folders that many processes share. Standard library only."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from xpsr_cli.photos.whole_file import whole_or_absent

_LEFT_OVER_S = 3600.0  # writing takes milliseconds, but clocks of a shared disk need not agree


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Put an object into a file that a person can read and change; :class:`PhotoError` if that cannot be done.

    What processes that were killed have left in the folder is cleared away.
    """
    _clear(path.parent)
    text = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    with whole_or_absent(path, path.parent / f".caption-{secrets.token_hex(8)}.tmp") as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))  # which is how JSON writes what is no character


@cache
def _clear(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.glob(".caption-*.tmp"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - _LEFT_OVER_S:
                    path.unlink()
