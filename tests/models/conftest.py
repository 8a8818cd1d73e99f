"""Factories of tiny networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_networks import TEXT_WIDTH, TINY_CONTROLNET, TINY_UNET, randomise

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.unet import XpsrUNet


@pytest.fixture
def make_unet() -> Callable[..., XpsrUNet]:
    return lambda **options: randomise(XpsrUNet(**{**TINY_UNET, **options}))


@pytest.fixture
def make_controlnet() -> Callable[..., XpsrControlNet]:
    return lambda **options: randomise(XpsrControlNet(**{**TINY_CONTROLNET, **options}))


@pytest.fixture
def inputs() -> Callable[..., dict[str, Any]]:
    """Arguments of a ControlNet call for latents of a given size."""

    def make(height: int = 8, width: int = 8, channels: int = 4, batch: int = 2) -> dict[str, Any]:
        return {
            "latents": torch.randn(batch, channels, height, width),
            "timestep": torch.randint(0, 1000, (batch,)),
            "high": torch.randn(batch, 5, TEXT_WIDTH),
            "low": torch.randn(batch, 7, TEXT_WIDTH),
            "image": torch.rand(batch, 3, 8 * height, 8 * width),
        }

    return make
