"""What the command line shows and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xpsr_cli.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

_JOINERS = "\u200c\u200d"  # invisible: of Persian and Indian letters, and of emoji


class Console:
    """The two streams of one command, under its ``--quiet`` and ``--json``."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json

    def note(self, text: str) -> None:
        """A line for the person at the terminal, on stderr; silent under ``--quiet``."""
        if not self.quiet:
            print_stderr(text)

    def result(self, record: Mapping[str, Any], line: str = "") -> None:
        """One result on stdout: ``record`` as a JSON object under ``--json``, else ``line`` unless ``--quiet``."""
        if self.as_json:
            words = json.dumps(record, ensure_ascii=False)
            plain = json.dumps(record)
            _write(words if _is_unicode(words) else plain, otherwise=plain)
        elif line and not self.quiet:
            _write(line, otherwise=line.encode("ascii", "backslashreplace").decode())

    @contextmanager
    def log_lines(self, name: str, *, warnings_only: bool = False) -> Iterator[None]:
        """What the logger ``name`` reports, as lines on stderr: with the time of day, for work that runs for hours.

        ``warnings_only`` are notes: without the time, and silent under ``--quiet``.
        """
        logger, handler = logging.getLogger(name), _StderrHandler()
        if not warnings_only:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        level = logger.level
        loudest = logging.ERROR if warnings_only else logging.WARNING
        logger.setLevel(loudest if self.quiet else logging.WARNING if warnings_only else logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    @contextmanager
    def progress(self, label: str, *, in_bytes: bool = False) -> Iterator[Progress]:
        """A bar on stderr with the stage and the time that is left; nothing where stderr is no terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield SilentProgress()
            return
        from rich.console import Console as RichConsole
        from rich.progress import Progress as Bars

        # rich would take over stdout too, and write results that go to a file or a pipe to the terminal instead
        terminal, redirect = RichConsole(stderr=True), sys.stdout.isatty()
        with Bars(*_columns(in_bytes), console=terminal, transient=True, redirect_stdout=redirect) as bars:
            yield BarProgress(bars, label)


class _StderrHandler(logging.Handler):
    """Lines on whatever stderr is when they come: above the bars where there are some."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        print_stderr(self.format(record))


class BarProgress:
    """Draws stage after stage of one photo, or file after file of one download, on a single bar."""

    def __init__(self, bars: Bars, label: str) -> None:
        self._bars = bars
        self._label = label
        self._task: TaskID = bars.add_task(label, total=None)

    def stage(self, name: str, total: int) -> None:
        """See :class:`xpsr_cli.progress.Progress`. A total of 0 is unknown."""
        self._bars.remove_task(self._task)
        description = f"{self._label}: {name}".replace("[", "\\[")
        self._task = self._bars.add_task(description, total=total or None)

    def advance(self, count: int = 1) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self._bars.advance(self._task, count)

    def skip(self, count: int) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self.advance(count)


def _is_unicode(text: str) -> bool:
    """Whether it can be written in UTF-8: what stands for bytes that are no text cannot, whatever stdout lets pass."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write(line: str, *, otherwise: str) -> None:
    """A line on stdout, ``otherwise`` where that cannot hold it: the name of a file may be no text."""
    try:
        sys.stdout.write(line + "\n")
    except UnicodeEncodeError:
        sys.stdout.write(otherwise + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """The text without what a terminal would take for a command; what joins letters and emoji stays."""
    return "".join(letter if letter.isprintable() or letter in _JOINERS else "\ufffd" for letter in text)


def print_stderr(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_error(message: str, hint: str = "") -> None:
    """An error as the user sees it: what is wrong, then what to do."""
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print_stderr(f"{red}error:{plain} {message}")
    if hint:
        print_stderr(f"       {hint}")


def quiet_third_parties() -> None:
    """Keep other libraries off the user's terminal, and off the network. Call it before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in (
        "accelerate",
        "bitsandbytes",
        "diffusers",
        "huggingface_hub",
        "PIL",
        "tifffile",
        "torch",
        "transformers",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def _columns(in_bytes: bool) -> tuple[ProgressColumn, ...]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    return (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
