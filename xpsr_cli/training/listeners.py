"""Who hears of a training run: its diary ``metrics.jsonl``, lines in the log, TensorBoard.

Names of loss terms with a slash in them, such as ``degradation_latent/mid``, are parts of another term.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpsr_cli.photos.formats import reason
from xpsr_cli.training.checkpoint import STAGES
from xpsr_cli.training.loop import Listener

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
Row = dict[str, Any]


class Listeners(Listener):
    """Several as one, told in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._all = list(listeners)

    def begin(self, stage: str, step: int, steps: int) -> None:
        """See :class:`~xpsr_cli.training.loop.Listener`, as for the others."""
        for listener in self._all:
            listener.begin(stage, step, steps)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """All hear it."""
        for listener in self._all:
            listener.log(step, losses, learning_rate)

    def validate(self, step: int, model_folder: Path) -> None:
        """All hear it."""
        for listener in self._all:
            listener.validate(step, model_folder)

    def saved(self, step: int, folder: Path) -> None:
        """All hear it."""
        for listener in self._all:
            listener.saved(step, folder)


class MetricsFile(Listener):
    """``metrics.jsonl``: one JSON object a line, of losses and of validations.

    A line is written in one go, so that a kill leaves whole ones. When a run goes on from a checkpoint, what was told
    of later steps is forgotten: those steps are done again.

    Args:
        path: the file.
        tell: hears every object too.
    """

    def __init__(self, path: Path, tell: Callable[[Row], None] | None = None) -> None:
        self.path = path
        self.stage = STAGES[0]
        self._tell = tell

    def begin(self, stage: str, step: int, steps: int) -> None:
        """Forget what comes after ``step`` of this stage."""
        self.stage = stage
        position = STAGES.index(stage), step
        rows = list(read_metrics(self.path))
        kept = [row for row in rows if (STAGES.index(row["stage"]), row["step"]) <= position]
        if len(kept) < len(rows) or _is_torn(self.path):
            part = self.path.with_name(self.path.name + ".part")
            part.write_text("".join(map(_line, kept)), encoding="utf-8")
            os.replace(part, self.path)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """A line of losses."""
        self.write(step, {"learning_rate": learning_rate, "losses": losses})

    def write(self, step: int, values: Row) -> None:
        """A line about a step of the present stage."""
        row = _rounded({"stage": self.stage, "step": step, **values})
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(_line(row).encode())
        except OSError as error:  # the run is worth more than its diary
            log.warning("%s misses step %d: %s", self.path, step, reason(error))
        if self._tell is not None:
            self._tell(row)


def read_metrics(path: Path) -> Iterator[Row]:
    """The objects of a ``metrics.jsonl``; none where there is no file, and a line that was cut off is passed over."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and row.get("stage") in STAGES:
            yield row


def main_terms(losses: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that are no parts of others."""
    return {n: v for n, v in losses.items() if "/" not in n and isinstance(v, int | float) and math.isfinite(v)}


def _is_torn(path: Path) -> bool:
    content = path.read_bytes() if path.is_file() else b""
    return bool(content) and not content.endswith(b"\n")


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    """Six digits of every number; what is no number is null, which JSON has no other word for."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


class Shown(Listener):
    """For a bar: ``show(stage, step, steps, text)``, the text being losses and learning rate."""

    def __init__(self, show: Callable[[str, int, int, str], None]) -> None:
        self._show = show
        self._stage, self._steps = "", 0

    def begin(self, stage: str, step: int, steps: int) -> None:
        """A bar of another stage."""
        self._stage, self._steps = stage, steps
        self._show(stage, step, steps, "")

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """The bar moves."""
        self._show(self._stage, step, self._steps, f"{told_terms(losses)}, learning rate {learning_rate:.3g}")


class LogLines(Listener):
    """A line in the log each time, for where no bar is drawn."""

    def __init__(self) -> None:
        self._stage, self._steps = "", 0

    def begin(self, stage: str, step: int, steps: int) -> None:
        """Say what is trained, and from where it goes on."""
        self._stage, self._steps = stage, steps
        log.info("%s: %s %d steps", stage, f"on after {step} of" if step else "begins,", steps)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Losses of a step."""
        log.info(
            "%s %d/%d: %s, learning rate %.3g",
            self._stage, step, self._steps, told_terms(losses), learning_rate,
        )  # fmt: skip

    def saved(self, step: int, folder: Path) -> None:
        """Where a checkpoint stands."""
        log.info("saved %s", folder)


def told_terms(losses: Mapping[str, float]) -> str:
    """``total 1.234, noise 0.5678``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in main_terms(losses).items())


class TensorBoard(Listener):
    """The same numbers as curves for TensorBoard, under ``folder``, where its package is installed.

    Without it nothing is written, and the log says so once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._open: Callable[..., Any] | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.info("no curves for TensorBoard: its package tensorboard is not installed")
        else:
            self._open = SummaryWriter

    def begin(self, stage: str, step: int, steps: int) -> None:
        """Open the stage's curves; what they told of steps that are done again is cut off."""
        if self._open is not None:
            self._writer = self._open(str(self._folder / stage), purge_step=step + 1)

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Losses and learning rate of a step."""
        self.write(step, {f"loss/{name.replace('/', ' ')}": value for name, value in losses.items()})
        self.write(step, {"learning_rate": learning_rate})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step by name."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
