"""What a person sees of a training run on a terminal: a bar with the time that is left, and the losses under it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[str, int, int, str], None]
"""Shows a stage, how many of its steps are done, how many there are, and a text."""


@contextmanager
def training_bar(wanted: bool) -> Iterator[Show | None]:
    """Something that draws on stderr inside the block; ``None`` where nothing is wanted or stderr is no terminal."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    # steps are told of rarely, so the speed is taken from the last hour
    bars, under = Progress(*columns, speed_estimate_period=3600), Text(style="dim")
    task = bars.add_task("starting", total=None)
    drawn = [""]

    def show(stage: str, step: int, steps: int, text: str) -> None:
        nonlocal task
        if stage != drawn[0]:
            bars.remove_task(task)
            task, drawn[0] = bars.add_task(stage, total=steps, completed=step), stage
        bars.update(task, completed=step)
        under.plain = text

    # rich would take over stdout too, and write results that go to a file or a pipe to the terminal instead
    redirect = sys.stdout.isatty()
    with Live(Group(bars, under), console=Console(stderr=True), transient=True, redirect_stdout=redirect):
        yield show
