"""Which samples a step sees, and how they come to the device.

What a step sees depends on numbers alone. With P processes and A batches of B samples per optimizer step, sample ``i``
of batch ``a`` of process ``p`` in step ``s`` is number ((s A + a) P + p) B + i, whose photo, words, noise and timestep
follow from it and the seed: P processes see what one process with the same global batch sees.
"""

# shapes: B batch, S crop side in pixels, L text tokens

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

_MOST_WORKERS = 16
_AHEAD = 8  # batches of all workers together, or two of each
PIXELS = ("target_pm1", "enlarged_pm1")
TEXTS = ("high", "low")


@dataclass(frozen=True)
class Share:
    """The part of every step's samples that one process trains on."""

    batch_size: int
    accumulation: int = 1
    processes: int = 1
    process: int = 0

    def samples(self, first: int, last: int, offset: int = 0) -> Iterator[range]:
        """Numbers of the samples of each batch of steps ``first`` to ``last`` (not included)."""
        for batch in range(first * self.accumulation, last * self.accumulation):
            start = offset + (batch * self.processes + self.process) * self.batch_size
            yield range(start, start + self.batch_size)


def useful_workers(device: torch.device, processes: int) -> int:
    """How many processes should make batches: on a CPU, which trains itself, one; else what cores there are."""
    cores = (os.cpu_count() or 1) // processes
    return 1 if device.type == "cpu" else max(1, min(cores - 1, _MOST_WORKERS))


def load_batches(pairs: Dataset, batches: Iterator[Sequence[int]], *, workers: int) -> DataLoader:
    """Batches of the samples with these numbers, made ahead by ``workers`` processes."""
    return DataLoader(
        pairs,
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable will do
        num_workers=workers,
        prefetch_factor=max(2, _AHEAD // workers) if workers else None,
        pin_memory=torch.cuda.is_available(),
        # forks share the photos in memory, and notice when a kill leaves them behind
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_leave_signals_to_the_loop,
    )


def to_device(
    batch: dict[str, Tensor | list[str]], tokenizer: CLIPTokenizer, device: torch.device
) -> dict[str, Tensor]:
    """Pixels (B, 3, S, S) channels last, texts as token ids (B, L), everything else as it is."""
    layout = torch.channels_last if device.type != "mps" else torch.contiguous_format
    moved = {}
    for name, value in batch.items():
        if isinstance(value, Tensor):
            layouts = {"memory_format": layout} if name in PIXELS else {}
            moved[name] = value.to(device, non_blocking=True, **layouts)  # type: ignore[call-overload]
        elif name in TEXTS:
            moved[name] = _tokens(value, tokenizer).to(device)
    return moved


def _tokens(texts: list[str], tokenizer: CLIPTokenizer) -> Tensor:
    encoded: Tensor = tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )["input_ids"]
    return encoded


def _leave_signals_to_the_loop(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; the loop still wants its batches until it has saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
