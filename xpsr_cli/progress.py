"""How long work reports its progress, and how long it will still take; no drawing (``cli/console.py`` draws)."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol


class Progress(Protocol):
    """Receives what the library is doing, stage by stage."""

    def stage(self, name: str, total: int) -> None:
        """A stage such as ``"sample"`` begins and will take ``total`` advances."""

    def advance(self, count: int = 1) -> None:
        """``count`` units of the current stage are done."""

    def skip(self, count: int) -> None:
        """``count`` units of the current stage need not be done: an earlier run has."""


class SilentProgress:
    """The progress of callers that do not look."""

    def stage(self, name: str, total: int) -> None:
        """Nothing is shown."""

    def advance(self, count: int = 1) -> None:
        """Nothing is shown."""

    def skip(self, count: int) -> None:
        """Nothing is shown."""


RELATIVE_COST = {"file": 0.1, "reference": 1.0, "encode": 0.1, "sample": 1.0, "decode": 0.25}
"""Seconds per unit of a stage in those of the main one, until they are measured."""


class Eta:
    """When work will be done, from what this run has measured of it and nothing else.

    Work is counted in units by stage. Every stage has its own seconds per unit; until one has been measured its cost
    is taken from that of the ``main`` one. Nothing is said before the main stage has been measured for some seconds
    and a part of the whole.
    """

    def __init__(self, main: str = "sample", clock: Callable[[], float] = time.monotonic) -> None:
        self._main = main
        self._clock = clock
        self._left: dict[str, float] = defaultdict(float)  # units to do, by stage
        self._done: dict[str, float] = defaultdict(float)  # units done by this run
        self._seconds: dict[str, float] = defaultdict(float)  # that they took
        self._since: float | None = None

    def add(self, units: Mapping[str, float]) -> None:
        """More work, by stage."""
        for stage, count in units.items():
            self._left[stage] += count

    def drop(self, units: Mapping[str, float]) -> None:
        """Work that need not be done after all."""
        for stage, count in units.items():
            self._left[stage] -= count

    def go(self) -> None:
        """The clock runs from here; what came before belongs to no stage."""
        self._since = self._clock()

    def advance(self, stage: str, units: float) -> None:
        """``units`` of a stage are done, in the time since the last call."""
        now = self._clock()
        self._seconds[stage] += now - (now if self._since is None else self._since)
        self._done[stage] += units
        self._left[stage] -= units
        self._since = now

    @property
    def share(self) -> float:
        """How much of the work is done, 0 to 1, by what its stages usually cost."""
        done, left = (
            sum(RELATIVE_COST.get(stage, 0.0) * n for stage, n in units.items()) for units in (self._done, self._left)
        )
        return done / (done + left) if done + left > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take; ``None`` while too little is known."""
        measured = self._seconds[self._main]
        if measured < 2 or (self.share < 0.02 and measured < 30):
            return None
        return sum(self._cost(stage) * max(units, 0.0) for stage, units in self._left.items())

    def _cost(self, stage: str) -> float:
        """Seconds per unit, of which the main stage's have been measured."""
        usual = RELATIVE_COST.get(stage, 0.0) * (self._measured(self._main) or 0.0)
        return self._measured(stage) or usual

    def _measured(self, stage: str) -> float | None:
        done, seconds = self._done.get(stage, 0.0), self._seconds.get(stage, 0.0)
        return seconds / done if done > 0 and seconds > 0 else None


def in_words(seconds: float) -> str:
    """A duration as people say it: ``"40 s"``, ``"4 min"``, ``"2 h 30 min"``, ``"3 days"``."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 3570:
        return f"{max(1, round(seconds / 60))} min"
    if seconds < 36 * 3600:
        hours, minutes = divmod(10 * round(seconds / 600), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(seconds / 86400)} days"
