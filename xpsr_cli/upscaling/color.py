"""Colour fixes: the sampled photo keeps its detail and takes its colours from the enlarged input (spec C9)."""

# shapes: H W pixels

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xpsr_cli.settings import ColorFix

WAVELET_LEVELS = 5


def fix_color(photo_01: Tensor, reference_01: Tensor, fix: ColorFix) -> Tensor:
    """``photo_01`` (1, 3, H, W) with the colours of ``reference_01``, both in [0, 1]; the result is not clamped.

    The released script then truncates to 8 bits, which darkens by half a level; round instead.
    """
    if fix is ColorFix.ADAIN:
        return adain(photo_01, reference_01)
    if fix is ColorFix.WAVELET:
        return wavelet(photo_01, reference_01)
    return photo_01


def adain(photo: Tensor, reference: Tensor) -> Tensor:
    """Every channel with the mean and deviation it has in the reference (Huang and Belongie, ICCV 2017)."""
    variance, mean = torch.var_mean(photo.double(), dim=(-2, -1), keepdim=True)
    wanted_variance, wanted_mean = torch.var_mean(reference.double(), dim=(-2, -1), keepdim=True)
    scale = ((wanted_variance + 1e-5) / (variance + 1e-5)).sqrt()
    return photo * scale.float() + (wanted_mean - mean * scale).float()


def wavelet(photo: Tensor, reference: Tensor) -> Tensor:
    """The fine structure of the photo over the coarse one of the reference, split by an a-trous wavelet transform."""
    return photo - _coarse(photo) + _coarse(reference)


def _coarse(photo: Tensor) -> Tensor:
    """What five [1 2 1] x [1 2 1] / 16 low passes of growing dilation leave."""
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=photo.dtype, device=photo.device).repeat(3, 1)
    for level in range(WAVELET_LEVELS):
        step = 2**level
        photo = F.conv2d(_padded(photo, 0, step), kernel[:, None, None, :], dilation=(1, step), groups=3)
        photo = F.conv2d(_padded(photo, step, 0), kernel[:, None, :, None], dilation=(step, 1), groups=3)
    return photo


def _padded(photo: Tensor, rows: int, columns: int) -> Tensor:
    return F.pad(photo, (columns, columns, rows, rows), mode="replicate")
