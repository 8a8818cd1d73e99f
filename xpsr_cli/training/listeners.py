"""Who hears of a training run: its diary ``metrics.jsonl``, lines in the log, TensorBoard, the plot of the losses."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


class Listener:
    """Hears of a run and does nothing; others answer what concerns them. Steps are optimizer steps done."""

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """``losses`` are means over the steps since the last call."""

    def validate(self, step: int, model_folder: Path) -> None:
        """``model_folder`` holds the model as it is now, in the layout that people use."""

    def saved(self, step: int, folder: Path) -> None:
        """A checkpoint stands in ``folder``."""


class Listeners(Listener):
    """Several as one, told in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._all = list(listeners)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        for listener in self._all:
            listener.log(step, losses, learning_rate)

    def validate(self, step: int, model_folder: Path) -> None:
        for listener in self._all:
            listener.validate(step, model_folder)

    def saved(self, step: int, folder: Path) -> None:
        for listener in self._all:
            listener.saved(step, folder)


class MetricsFile(Listener):
    """``metrics.jsonl``: a JSON object a line, of losses and of validations. A kill leaves whole lines.

    ``resumed`` is the step the run goes on from: what an earlier session told of later steps is forgotten, since those
    steps are done again.
    """

    def __init__(self, path: Path, resumed: int) -> None:
        self.path = path
        rows = [row for row in read_metrics(path) if row["step"] <= resumed]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text("".join(map(_line, rows)), encoding="utf-8")
        os.replace(part, path)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self.write({"step": step, "learning_rate": learning_rate, "losses": losses})

    def write(self, row: dict[str, Any]) -> None:
        """Append a line in one go."""
        with self.path.open("ab", buffering=0) as file:
            file.write(_line(row).encode())


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a ``metrics.jsonl``; none where there is no file, and a line that was cut off is passed over."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_rounded(row), allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    """Six digits of every number; what is no number is null, which JSON has no other word for."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


class LogLines(Listener):
    """A line in the log each time, for terminals that draw no bars."""

    def __init__(self, total: int) -> None:
        self.total = total

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        terms = " ".join(f"{name} {value:.4g}" for name, value in losses.items())
        log.info("step %d of %d: %s, learning rate %.3g", step, self.total, terms, learning_rate)

    def saved(self, step: int, folder: Path) -> None:
        log.info("saved step %d in %s", step, folder)


class TensorBoard(Listener):
    """The same numbers for TensorBoard, under ``folder``."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def open(cls, folder: Path, resumed: int) -> TensorBoard | None:
        """Where the ``tensorboard`` package is installed; else ``None``, and a note says what is missing."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.info("The curves are not written for TensorBoard: the package tensorboard is not installed.")
            return None
        return cls(SummaryWriter(str(folder), purge_step=resumed + 1))

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self.write("loss", step, losses)
        self.write("optimizer", step, {"learning_rate": learning_rate})

    def write(self, group: str, step: int, values: dict[str, float]) -> None:
        """Numbers of one step under ``group``."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()


class Told(Listener):
    """Calls back with every row as ``metrics.jsonl`` has it; for ``--json``."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self._tell({"step": step, "learning_rate": learning_rate, "losses": losses})
