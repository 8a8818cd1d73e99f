"""The stages of an enlargement: told to a progress, and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from xpsr_cli.progress import Progress, SilentProgress


class Stages:
    """Tells a progress which stage runs and keeps how long each took."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or SilentProgress()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, total: int) -> Iterator[None]:
        """A stage of ``total`` advances."""
        self.progress.stage(name, total)
        with self.clock(name):
            yield

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to the stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 4)
