"""What is shown of a run over photos: a line for the photo, a line for the folder, and the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xpsr_cli.progress import Eta, in_words
from xpsr_cli.settings import Mode, UpscaleSettings

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from xpsr_cli.upscaling.upscaler import Upscaler

FILE = "file"
"""The stage of the work that is not in windows: reading, writing, keeping the journal."""

_MAIN = ("sample", "reference")
"""The stage that takes longest: the first of these that there is."""
_LEAST_STEPS = 0.25
"""What a reference takes per window that needs no steps."""

Show = Callable[[str, int, int], None]
"""Shows a stage, how much of it is done, and how much there is."""


def units_of(windows: int, steps: int, reference_steps: int | None = None) -> dict[str, float]:
    """The work on one photo, by stage.

    ``reference_steps`` are those that each window takes in the first of two stages, 0 where they are no matter; it is
    ``None`` where there is one stage.
    """
    units = {FILE: 1.0, "encode": windows, "sample": windows * steps, "decode": windows}
    if reference_steps is None:
        return units
    first = {FILE: 1.0, "reference": windows * max(reference_steps, _LEAST_STEPS)}
    return first | units if steps else first


def reference_steps(upscaler: Upscaler, settings: UpscaleSettings) -> int | None:
    """The steps of a mode's first stage; ``None`` for a mode of one stage."""
    return None if settings.mode is Mode.XPSR else upscaler.reference_steps(settings)


class PhotoProgress:
    """The progress of one photo: it moves the time that is left, and shows itself.

    ``units`` is the work on the photo by stage; a stage's advances share its units equally, however many there are.
    """

    def __init__(self, eta: Eta, units: Mapping[str, float], show: Show | None = None) -> None:
        self._eta = eta
        self._units = units
        self._show = show
        self._left = {FILE: 0.0, **units}
        self._stage, self._total, self._done = FILE, 0, 0
        eta.go()

    def stage(self, name: str, total: int) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self._account(0)
        if name in self._units:  # stages before it are over, or were not needed
            over = list(self._units)[1 : list(self._units).index(name)]
            self._drop({stage: self._left[stage] for stage in over})
        self._stage, self._total, self._done = name, total, 0
        self._redraw()

    def advance(self, count: int = 1) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self._account(self._units_of(count))
        self._done += count
        self._redraw()

    def skip(self, count: int) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self._drop({self._stage: self._units_of(count)})
        self._done += count
        self._redraw()

    def finish(self, *, failed: bool = False) -> None:
        """Nothing more comes for this photo; what did not come is no work."""
        self._stage = FILE
        self._account(0.0 if failed else self._left[FILE])
        self._drop(dict(self._left))

    def _units_of(self, count: int) -> float:
        share = count / self._total if self._total else 0.0
        return min(share * self._units.get(self._stage, 0.0), self._left.get(self._stage, 0.0))

    def _account(self, units: float) -> None:
        stage = self._stage if self._stage in self._units else FILE  # time of stages that nobody planned
        self._left[stage] -= units
        self._eta.advance(stage, units)

    def _drop(self, units: Mapping[str, float]) -> None:
        for stage in filter(self._left.__contains__, units):
            self._left[stage] -= units[stage]
        self._eta.drop(units)

    def _redraw(self) -> None:
        if self._show is not None:
            self._show(self._stage, self._done, self._total)


class RunProgress:
    """The progress of all photos of a run. ``bars`` draw it; without them nothing is shown before a photo is done."""

    def __init__(self, works: Mapping[str, Mapping[str, float]], bars: Bars | None = None) -> None:
        """``works`` is the work on each photo, by its label."""
        self.eta = Eta(next((stage for units in works.values() for stage in _MAIN if stage in units), _MAIN[0]))
        self._works = works
        self._finished = 0
        self._bars = bars
        for units in works.values():
            self.eta.add(units)
        if bars is not None:
            self._photo = bars.add_task("", total=None, count="", left="")
            several = len(works) > 1
            self._folder = bars.add_task("all photos", total=1.0, count="", left="", visible=several)

    @contextmanager
    def photo(self, label: str) -> Iterator[PhotoProgress]:
        """The progress of one photo."""
        progress = PhotoProgress(self.eta, self._works[label], self._show(label))
        failed = True
        try:
            yield progress
            failed = False
        finally:
            progress.finish(failed=failed)
            self._finished += 1

    @property
    def left(self) -> str:
        """The time that is left, in words; empty while nothing honest can be said, and at the end."""
        seconds = self.eta.seconds_left
        return f"about {in_words(seconds)} left" if seconds and self._finished < len(self._works) else ""

    def _show(self, label: str) -> Show | None:
        bars = self._bars
        if bars is None:
            return None

        def show(stage: str, done: int, total: int) -> None:
            count, name = f"{done}/{total}" if total else "", f"{label}: {stage}".replace("[", "\\[")
            alone = self.left if len(self._works) == 1 else ""
            bars.update(self._photo, description=name, completed=done, total=total or None, count=count, left=alone)
            photos = f"{self._finished}/{len(self._works)}"
            bars.update(self._folder, completed=self.eta.share, count=photos, left=self.left)

        return show


@contextmanager
def run_progress(works: Mapping[str, Mapping[str, float]], *, quiet: bool = False) -> Iterator[RunProgress]:
    """The progress of a run, drawn on stderr where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield RunProgress(works)
        return
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn())
    fields = (TextColumn("{task.fields[count]}"), TextColumn("{task.fields[left]}"))
    # rich would take over stdout too, and write results that go to a file or a pipe to the terminal instead
    terminal, redirect = RichConsole(stderr=True), sys.stdout.isatty()
    with Progress(*columns, *fields, console=terminal, transient=True, redirect_stdout=redirect) as bars:
        yield RunProgress(works, bars)
