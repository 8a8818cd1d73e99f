"""Where xpsr keeps what it could make again. Standard library only."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """What xpsr keeps and could make again: ``XPSR_CACHE``, else its folder in the platform's one for caches."""
    named = os.environ.get("XPSR_CACHE")
    if named:
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "xpsr" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "xpsr"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "xpsr"
