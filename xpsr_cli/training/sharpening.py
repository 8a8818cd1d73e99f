"""Unsharp masking of training targets, as Real-ESRGAN does it: edges are made steeper, flat areas stay as they are."""

# shapes: photos are (3, H, W) float32 in [0, 1]

from __future__ import annotations

import numpy as np
from torch import Tensor

from xpsr_cli.training.degradation_steps import convolve

SIGMA_PX = 8.0
WIDTH_PX = 51
WEIGHT = 0.5
THRESHOLD = 10 / 255  # what differs less from its surroundings is noise, not an edge


def sharpen(photo: Tensor) -> Tensor:
    """The photo plus half of what a wide blur takes away, where that is more than the threshold, softly masked."""
    span = np.arange(WIDTH_PX) - WIDTH_PX // 2
    profile = np.exp(-0.5 * (span / SIGMA_PX) ** 2)
    kernel = np.outer(profile, profile)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    detail = photo - convolve(photo, kernel)
    mask = convolve((detail.abs() > THRESHOLD).to(photo.dtype), kernel)
    return photo + mask * ((photo + WEIGHT * detail).clamp(0, 1) - photo)
