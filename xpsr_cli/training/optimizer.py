"""AdamW over the trained parameters, whole or with 8-bit moments, and the learning rate of every step."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from xpsr_cli.errors import MissingExtraError, UsageError
from xpsr_cli.training.recipe import OptimizerRecipe

_FLOOR = 0.01  # of the cosine, so that the last steps still learn something


def make_optimizer(
    parameters: Iterable[nn.Parameter], recipe: OptimizerRecipe, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's optimizer.

    Raises:
        MissingExtraError: ``adamw8bit`` without bitsandbytes.
        UsageError: bitsandbytes has no 8-bit AdamW for ``device``.
    """
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.name == "adamw8bit":
        return _adamw8bit(device)(parameters, **options)
    return torch.optim.AdamW(parameters, fused=True, **options)


def weights_layout(recipe: OptimizerRecipe, device: torch.device) -> torch.memory_format:
    """How weights should lie in memory: channels last where convolutions are faster for it and the optimizer keeps it.

    bitsandbytes makes weights contiguous at the first step; a run that goes on has to begin like that.
    """
    kept = recipe.name == "adamw" and device.type != "mps"
    return torch.channels_last if kept else torch.contiguous_format


def learning_rate(recipe: OptimizerRecipe, step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0: a linear warm-up, then constant or half a cosine."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - recipe.warmup_steps) / max(1, steps - recipe.warmup_steps)
    return recipe.learning_rate * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))


def _adamw8bit(device: torch.device) -> Any:
    """bitsandbytes' AdamW with 8-bit moments, after one step of it on the device has succeeded."""
    try:
        adamw = importlib.import_module("bitsandbytes").optim.AdamW8bit
    except ImportError:
        raise MissingExtraError(
            "optimizer.name=adamw8bit needs bitsandbytes, which is not installed.", "Run: pip install 'xpsr[quant]'"
        ) from None
    try:
        trial = nn.Parameter(torch.zeros(8192, device=device))  # smaller ones are kept in 32 bits
        trial.grad = torch.ones_like(trial)
        adamw([trial], lr=1.0).step()
    except Exception as error:  # a kernel that is missing raises anything
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise UsageError(
            f"bitsandbytes has no 8-bit AdamW for {device.type}: {reason}.", "Set optimizer.name=adamw."
        ) from error
    return adamw
