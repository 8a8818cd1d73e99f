"""Where the weights of learned metrics lie on this machine, and whether they are the published ones.

The libraries fetch them by themselves when they find none, each into a folder of its own. Here nothing is ever
fetched: a file is found or it is missing.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from xpsr_cli.integrity import hash_file
from xpsr_cli.weights import hub_folder


class Home(str, Enum):
    """Whose folder a file lies in."""

    TORCH = "torch"  # TORCH_HOME/hub
    PACKAGE = "package"  # a library's own; the path begins with its name
    PYTHON = "python"  # sys.prefix
    HUGGING_FACE = "hugging face"  # the hub's cache; the path is a hub id and a file


@dataclass(frozen=True)
class MetricFile:
    """One file of weights. ``digits`` are those its SHA-256 begins with, as far as its publisher says them."""

    home: Home
    path: str
    digits: str = ""

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.path.rpartition("/")[2]

    def place(self, torch_home: Path) -> Path | None:
        """Where it belongs, whether it is there or not; ``None`` where not even its folder exists."""
        if self.home is Home.TORCH:
            return torch_home / "hub" / self.path
        if self.home is Home.PYTHON:
            return Path(sys.prefix) / self.path
        folder: Path | None
        if self.home is Home.HUGGING_FACE:
            hub_id, _, path = self.path.rpartition("/")
            folder = hub_folder(hub_id)
        else:
            package, _, path = self.path.partition("/")
            spec = find_spec(package)
            folder = Path(spec.origin).parent if spec is not None and spec.origin else None
        return None if folder is None else folder / path

    def is_intact(self, path: Path) -> bool:
        """Whether the file has the published hash, as far as that is known."""
        return hash_file(path).startswith(self.digits)


def usual_torch_home() -> Path:
    """Torch's folder for what it fetches: ``TORCH_HOME``, else in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch").expanduser()


@contextmanager
def no_network() -> Iterator[None]:
    """Whoever looks for a server in this thread inside the block is told that there is none."""
    look_up, here = socket.getaddrinfo, threading.get_ident()

    def refuse(*arguments: object, **options: object) -> object:
        if threading.get_ident() == here:
            raise OSError(f"nothing is fetched from {arguments[0]} without being asked for")
        return look_up(*arguments, **options)  # type: ignore[arg-type]

    socket.getaddrinfo = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
