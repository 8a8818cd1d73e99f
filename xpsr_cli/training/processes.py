"""The processes a run is trained on, and how they are asked to stop: by a signal or a deadline, all together."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from accelerate import (  # type: ignore[import-untyped]
    Accelerator,
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
)
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]

from xpsr_cli.device import choose_placement
from xpsr_cli.errors import UsageError
from xpsr_cli.training.recipe import Recipe, StableDiffusionRecipe

_PATIENCE = timedelta(hours=2)  # of processes that wait while one saves or validates


def make_accelerator(recipe: Recipe, device: str = "auto") -> Accelerator:
    """The processes and devices that a recipe is trained on: all that a launcher started, or this one.

    Raises:
        UsageError: a device that this machine does not have, or fp16 on a CPU.
    """
    on_cpu = choose_placement(device).device.type == "cpu"
    precision = recipe.optimizer.mixed_precision
    if on_cpu and precision == "fp16":
        raise UsageError("optimizer.mixed_precision is 'fp16', which does not work on a CPU.", "Use no or bf16.")
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    return Accelerator(
        cpu=on_cpu,
        mixed_precision=precision,
        gradient_accumulation_steps=recipe.optimizer.accumulation,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=_leaves_out(recipe)),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


def _leaves_out(recipe: Recipe) -> bool:
    """Whether a term is switched off that some trained parameters learn from alone: a head, or a small decoder."""
    loss = recipe.loss
    decoder = loss.pixel_weight == 0 and not isinstance(recipe.model, StableDiffusionRecipe)
    return decoder or 0 in (loss.degradation_pixel_weight, loss.degradation_latent_weight)


@dataclass
class StopRequest:
    """Whether a run should save and stop, or save and go on."""

    deadline: float = math.inf  # of time.monotonic()
    save_seconds: float = math.inf  # between saves
    number: int | None = None  # of the signal that came
    _saved: float = field(default_factory=time.monotonic)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM inside the block; a second one does at once what it does outside."""
        if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
            yield
            return

        def note(number: int, _: object) -> None:
            if self.number is not None:
                signal.signal(number, before[signal.Signals(number)])
                signal.raise_signal(number)
            self.number = number

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> tuple[bool, bool]:
        """(stop, save): what any of the processes is asked for, so that none waits for another that has left."""
        now = time.monotonic()
        asked = [self.number is not None or now > self.deadline, now - self._saved > self.save_seconds]
        if accelerator.num_processes > 1:
            votes = torch.tensor(asked, dtype=torch.float32, device=accelerator.device)
            asked = [bool(count) for count in accelerator.reduce(votes, "sum").tolist()]
        return asked[0], asked[1]

    def saved(self) -> None:
        """The run was saved just now."""
        self._saved = time.monotonic()
