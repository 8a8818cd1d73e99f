"""What a run leaves to look at: its diary, curves for TensorBoard, sheets of held-out photos, a plot, a model card."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from xpsr_cli.errors import PhotoError
from xpsr_cli.training.checkpoint import STAGES
from xpsr_cli.training.held_out import HeldOut
from xpsr_cli.training.listeners import (
    METRICS,
    Listener,
    Listeners,
    LogLines,
    MetricsFile,
    Row,
    TensorBoard,
    read_metrics,
    told_terms,
)
from xpsr_cli.training.loop import Trainer
from xpsr_cli.training.model_card import write_model_card
from xpsr_cli.training.plots import PLOT, plot_metrics
from xpsr_cli.training.training_photo import LeftOut
from xpsr_cli.training.validation import Look, Validation, title_of, told_measures

log = logging.getLogger(__name__)

_EXAMPLES = 20  # of files that are left out


class Records:
    """Listens to a trainer, in the main process, and sums up when it is done.

    Args:
        trainer: stands where the run begins or goes on.
        held_out: what it is shown on, of photos that are not trained on.
        look: what becomes of ``held_out``.
        listener: hears of the run instead of the log.
        tell: hears every object of ``metrics.jsonl``.
    """

    def __init__(
        self,
        trainer: Trainer,
        held_out: Sequence[HeldOut],
        look: Look,
        listener: Listener | None,
        tell: Callable[[Row], None] | None,
    ) -> None:
        self._trainer = trainer
        output = trainer.output
        self._metrics = MetricsFile(output / METRICS, tell)
        board = TensorBoard(output / "tensorboard")
        self._validation: Validation | None = None
        if trainer.recipe.output.validate_steps and held_out:
            self._validation = Validation(
                held_out,
                look,
                output / "validation",
                self._metrics,
                ours=title_of(trainer.recipe),
                board=board,
            )
        elif trainer.recipe.output.validate_steps:
            log.warning("no photo is held out (data.held_out_photos), so there is no validation")
        looks = [self._validation] if self._validation is not None else []
        trainer.listener = Listeners([self._metrics, board, *looks, listener or LogLines()])

    def plot(self) -> None:
        """Draw what was told so far; a disk that is full is no reason to fail."""
        try:
            plot_metrics(self._trainer.output / METRICS, self._trainer.output / PLOT)
        except PhotoError as error:
            log.warning("%s", error.message)

    def finish(self, finished: bool, facts: Mapping[str, str]) -> None:
        """A last validation if the recipe was finished, the plot, the card with ``facts``, and a line that sums up."""
        output, recipe, position = self._trainer.output, self._trainer.recipe, self._trainer.position
        if self._validation is not None and finished and self._last("validation").get("step") != position.step:
            self._validation.validate(position.step, output / "model")
        self.plot()
        stage = recipe.autoencoder if recipe.autoencoder and position.stage == STAGES[0] else recipe.optimizer
        steps = f"{position.step} of {stage.steps} ({position.stage})"
        try:
            write_model_card(output / "model", recipe, output / METRICS, {**facts, "steps": steps})
        except PhotoError as error:
            log.warning("%s", error.message)
        losses, validation = self._last("losses").get("losses", {}), self._last("validation").get("validation", {})
        log.info("%s", "; ".join(filter(None, (f"steps: {steps}", told_terms(losses), told_measures(validation)))))

    def _last(self, about: str) -> Row:
        rows = [row for row in read_metrics(self._trainer.output / METRICS) if about in row]
        return rows[-1] if rows else {}


def tell_left_out(files: Sequence[LeftOut]) -> None:
    """What was not trained on and why, in the log; of many files the first ones."""
    for file in files[:_EXAMPLES]:
        log.warning("not trained on: %s: %s", file.file, file.reason)
    if len(files) > _EXAMPLES:
        log.warning("not trained on: %d more files", len(files) - _EXAMPLES)


def named_left_out(files: Sequence[LeftOut]) -> str:
    """``3 files: a.jpg, b.jpg, c.jpg``; empty for none. The reasons may name folders of the machine."""
    if not files:
        return ""
    names = ", ".join(file.file for file in files[:_EXAMPLES])
    more = f" and {len(files) - _EXAMPLES} more" if len(files) > _EXAMPLES else ""
    return f"{len(files)} {'file' if len(files) == 1 else 'files'}: {names}{more}"
