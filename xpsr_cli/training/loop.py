"""The training loop: one explicit loop for every model, on one process or many, that can be killed at any step."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTokenizer

from xpsr_cli.device import memory_errors
from xpsr_cli.errors import XpsrError
from xpsr_cli.training import checkpoint
from xpsr_cli.training.batches import Share, load_batches, to_device, useful_workers
from xpsr_cli.training.checkpoint import STAGES, Position, RunState
from xpsr_cli.training.networks import Networks
from xpsr_cli.training.objective import AutoencoderObjective
from xpsr_cli.training.optimizer import learning_rate, make_optimizer, weights_layout
from xpsr_cli.training.processes import StopRequest
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.stages import Stage, fit_transform, make_stage

_FROZEN_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 2.0**-10  # of a loss in fp16: gradients that overflow even so are no numbers


class Listener:
    """Who is told what happens, in the main process only. A subclass overrides what it wants to hear."""

    def begin(self, stage: str, step: int, steps: int) -> None:
        """A stage begins, or goes on after ``step`` of its ``steps``; later calls count the steps of this stage."""

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Every ``log_steps``: unweighted loss terms, ``total`` and ``gradient_norm``.

        They are means over the processes and over the steps since the last time.
        """

    def validate(self, step: int, model_folder: Path) -> None:
        """Every ``validate_steps`` of the diffusion stage: the averaged model lies in ``model_folder``."""

    def saved(self, step: int, folder: Path) -> None:
        """A checkpoint stands in ``folder``."""


@dataclass(kw_only=True)
class Trainer:
    """One run: the recipe, the networks, and where it stands.

    ``pairs`` gives ``target_pm1`` and ``enlarged_pm1`` (3, S, S) in [-1, 1] and the texts ``high`` and ``low`` for the
    number of a sample. ``export`` writes the networks as they then are (averaged) as a folder people can use.
    """

    recipe: Recipe
    networks: Networks
    tokenizer: CLIPTokenizer
    pairs: Dataset
    scheduler_config: dict[str, Any]
    output: Path
    export: Callable[[Path], None]
    accelerator: Accelerator
    listener: Listener = field(default_factory=Listener)
    deadline: float = math.inf  # time.monotonic() at which to save and stop
    workers: int | None = None  # processes beside this one that make its pairs; None is as many as are useful
    position: Position = field(init=False)

    def __post_init__(self) -> None:
        """Bring the networks to their device."""
        optimizer, output = self.recipe.optimizer, self.recipe.output
        device, dtype = self.accelerator.device, _FROZEN_DTYPES[optimizer.mixed_precision]
        self.networks.place(device, dtype, weights_layout(optimizer, device))
        self.networks.train()
        if optimizer.gradient_checkpointing:
            self.networks.checkpoint_gradients()
        self.position = Position(STAGES[0] if self.recipe.autoencoder else STAGES[1])
        self.stop = StopRequest(self.deadline, 60 * output.save_minutes or math.inf)
        self._trained = list(self.networks.trained().values())
        self._average: EMAModel | None = None
        if optimizer.ema_decay > 0:
            self._average = EMAModel(
                self._trained, decay=optimizer.ema_decay, use_ema_warmup=True, power=0.75, foreach=True
            )
        self._resumed: Path | None = None  # checkpoint whose optimizer is still to be loaded
        self._saved = ""  # name of the position

    def skip_autoencoder(self) -> None:
        """Start at the second stage, with the autoencoder that the networks have."""
        self.position = Position("diffusion")

    def resume(self, folder: Path | None = None) -> Path | None:
        """Go on from a checkpoint, by default from the furthest whole one of the output folder.

        Returns:
            The checkpoint, or None when there is none.

        Raises:
            UsageError: ``folder`` is not a checkpoint, or the output folder holds a later one.
            WeightsError: it is damaged, or of another shape.
        """
        if folder is None:
            folder = checkpoint.find_whole(self.output)
        else:
            checkpoint.check_whole(folder)
            checkpoint.refuse_detour(self.output, folder)
        if folder is not None:
            checkpoint.load_weights(folder, self.networks)
            if self._average is not None:
                checkpoint.load_average(folder, self.networks, self._average)
            self.position = checkpoint.read_position(folder)
            self._resumed = folder
        return folder

    def run(self) -> bool:
        """Train from the present position to the end of the recipe; False when the deadline came first.

        Ctrl-C and SIGTERM are obeyed after the step and a save.

        Raises:
            UsageError: a loss or an optimizer that this model or device cannot have.
            XpsrError: the loss is not finite; what was learnt before is saved.
            WeightsError: a checkpoint cannot be written; the ones before are untouched.
            OutOfMemoryError: a batch is too large for the device.
        """
        with self.stop.listening():
            finished = all(self._train(self._stage(name)) for name in STAGES[STAGES.index(self.position.stage) :])
        if self.stop.number is not None and not finished:
            signal.raise_signal(self.stop.number)
        return finished

    def _train(self, stage: Stage) -> bool:
        """The loop. False when the stage was left before its end."""
        accelerator, limit = self.accelerator, self.recipe.optimizer.max_grad_norm
        objective, optimizer = accelerator.prepare(
            stage.objective, make_optimizer(stage.parameters, stage.optimizer, accelerator.device)
        )
        state = self._begin(stage, optimizer)
        with closing(self._batches(stage)) as batches, memory_errors(*self._too_much()):
            for batch in batches:
                with accelerator.accumulate(objective):
                    losses = objective(batch)
                    accelerator.backward(losses["total"])
                    self._note(losses)
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(stage.parameters, limit)
                        self._check(norm, state)
                        for group in optimizer.param_groups:
                            group["lr"] = learning_rate(stage.optimizer, self.position.step, stage.steps)
                    optimizer.step()
                    optimizer.zero_grad()
                if not accelerator.sync_gradients:
                    continue
                if self._average is not None:
                    self._average.step(self._trained)
                if self._step_done(stage, state):
                    return False
        self._save(state)
        accelerator.free_memory()
        return True

    def _stage(self, name: str) -> Stage:
        """The stage with this name; a stage other than the present one begins at its first step."""
        if self.position.stage != name:
            self.position = Position(name, seconds=self.position.seconds)
        stage = make_stage(name, self.recipe, self.networks, self.scheduler_config)
        if self.position.step == 0 and self.recipe.autoencoder and isinstance(stage.objective, AutoencoderObjective):
            fit_transform(stage.objective.vae, self.pairs, self.recipe.autoencoder.fit_crops, self.accelerator.device)
        return stage

    def _begin(self, stage: Stage, optimizer: Any) -> RunState:
        state = RunState(self.networks, optimizer, stage.optimizer.name, self._average, self.accelerator.scaler)
        if self._resumed is not None:
            checkpoint.load_optimizer(self._resumed, state)
            if self.accelerator.is_main_process:
                checkpoint.publish_saved(self.output, self._resumed)
            self._resumed, self._saved = None, self.position.name
        self._started = time.monotonic() - self.position.seconds
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        if self.accelerator.is_main_process:
            self.listener.begin(stage.name, self.position.step, stage.steps)
        return state

    def _batches(self, stage: Stage) -> Generator[dict[str, Tensor]]:
        """This process's batches from the present step to the end of the stage."""
        accelerator, optimizer = self.accelerator, self.recipe.optimizer
        share = Share(
            self.recipe.data.batch_size, optimizer.accumulation, accelerator.num_processes, accelerator.process_index
        )
        steps = self.position.step, stage.steps
        workers = self.workers
        if workers is None:
            workers = useful_workers(accelerator.device, accelerator.num_processes)
        loader = load_batches(self.pairs, share.samples(*steps, stage.first_sample), workers=workers)
        for samples, batch in zip(share.samples(*steps, stage.first_sample), loader, strict=True):
            drawn = stage.objective.draw(samples, *batch["target_pm1"].shape[-2:])
            yield to_device({**batch, **drawn}, self.tokenizer, accelerator.device)

    def _step_done(self, stage: Stage, state: RunState) -> bool:
        """After a step: count it, log, validate and save as the recipe says; True when the run is to stop."""
        output, position = self.recipe.output, self.position
        position.step += 1
        position.seconds = time.monotonic() - self._started
        stop, save = self.stop.agreed(self.accelerator)
        if _is_due(position.step, output.log_steps):
            self._log(stage)
        if stop or save or _is_due(position.step, output.save_steps):
            self._save(state)
        if stage.name == "diffusion" and _is_due(position.step, output.validate_steps):
            self._validate()
        return stop and (stage.name, position.step) != (STAGES[-1], stage.steps)

    def _note(self, terms: dict[str, Tensor]) -> None:
        """Add terms to those that are logged next, without waiting for the device."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0) + term.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def _log(self, stage: Stage) -> None:
        means = torch.stack([total / self._counts[name] for name, total in self._sums.items()])
        means = self.accelerator.reduce(means, "mean")
        losses = dict(zip(self._sums, means.tolist(), strict=True))
        self._sums, self._counts = {}, {}
        if self.accelerator.is_main_process:
            rate = learning_rate(stage.optimizer, self.position.step - 1, stage.steps)
            self.listener.log(self.position.step, losses, rate)

    def _check(self, norm: Tensor, state: RunState) -> None:
        """Stop before anything that is not finite reaches the weights. In fp16 gradients alone may overflow."""
        if torch.isfinite(norm):
            self._note({"gradient_norm": norm})
            return
        loss, scaler = self.accelerator.reduce(self._sums["total"], "sum"), self.accelerator.scaler  # every process's
        if scaler is not None and torch.isfinite(loss) and scaler.get_scale() > _SMALLEST_SCALE:
            return
        kept = ""
        if self.position.step > 0 and all(bool(torch.isfinite(parameter).all()) for parameter in self._trained):
            fresh = replace(state, scaler=None)  # one that many overflows have lowered would let gradients vanish
            self._save(fresh, keep=len(checkpoint.checkpoints(self.output)) + 1)
            kept = f" What was learnt before is in {checkpoint.latest(self.output)}."
        what = "gradient" if torch.isfinite(loss) else "loss"
        raise XpsrError(
            f"The {what} of {self.position.stage} step {self.position.step + 1} is not finite.{kept}",
            "Go on with --resume latest and a lower learning rate, as in --set optimizer.learning_rate=1e-5.",
        )

    def _save(self, state: RunState, keep: int | None = None) -> None:
        """A checkpoint of the present position, unless there is one already."""
        if self._saved != self.position.name and self.accelerator.is_main_process:
            keep = self.recipe.output.keep if keep is None else keep
            folder = checkpoint.save_checkpoint(self.output, state, self.position, self._export_average, keep)
            self.listener.saved(self.position.step, folder)
        self.accelerator.wait_for_everyone()
        self._saved = self.position.name
        self.stop.saved()

    def _validate(self) -> None:
        if self.accelerator.is_main_process:
            folder = self.output / "model"
            if self._saved != self.position.name:
                checkpoint.publish(self.output, self._export_average)
            self.listener.validate(self.position.step, folder)
        self.accelerator.wait_for_everyone()

    def _export_average(self, folder: Path) -> None:
        """Export the networks as their average; they are then what they were, to the last bit."""
        if self._average is None:
            self.export(folder)
            return
        self._average.store(self._trained)
        self._average.copy_to(self._trained)
        try:
            self.export(folder)
        finally:
            self._average.restore(self._trained)

    def _too_much(self) -> tuple[str, str]:
        data = self.recipe.data
        return (
            f"{data.batch_size} crops of {data.crop_px} pixels at a time",
            "Lower data.batch_size and raise optimizer.accumulation, or set optimizer.gradient_checkpointing=true.",
        )


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
