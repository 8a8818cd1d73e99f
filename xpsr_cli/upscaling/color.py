"""Colour fixes: the sampled photo keeps its detail and takes its colours from the enlarged input (spec C9).

All work on bands of a picture of any size: one with statistics of the whole picture, the others by looking a little
beyond the band. So no window has colours of its own.
"""

# shapes: H W pixels

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WAVELET_LEVELS = 5
CHROMA_LEVELS = 3
WAVELET_REACH_PX = 2**WAVELET_LEVELS - 1
"""Pixels around a pixel that the wavelet fix looks at."""
_LUMA = (0.299, 0.587, 0.114)


class Moments:
    """Mean and variance per channel of all bands added (pooled as in Chan et al. 1979, in float64)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(3, 1, 1, dtype=torch.float64)
        self._squares = torch.zeros(3, 1, 1, dtype=torch.float64)

    def add(self, band: Tensor) -> None:
        """(3, h, W) pixels."""
        variance, mean = torch.var_mean(band.double(), dim=(-2, -1), correction=0, keepdim=True)
        count, total = band[0].numel(), self.count + band[0].numel()
        delta = mean - self.mean
        self._squares += variance * count + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """(3, 1, 1), with Bessel's correction."""
        return self._squares / (self.count - 1)


def adain(photo: Tensor, moments: Moments, wanted: Moments) -> Tensor:
    """A band (3, h, W) of a picture with ``moments``, with the ``wanted`` ones (Huang and Belongie, ICCV 2017).

    The released script then truncates to 8 bits, which darkens by half a level; round instead.
    """
    scale = ((wanted.variance + 1e-5) / (moments.variance + 1e-5)).sqrt()
    return photo * scale.float() + (wanted.mean - moments.mean * scale).float()


def wavelet(photo: Tensor, reference: Tensor) -> Tensor:
    """The fine structure of the photo over the coarse one of the reference, split by an a-trous wavelet transform.

    Both are (3, h, W); edges are repeated, so rows within :data:`WAVELET_REACH_PX` of a cut are not those of the
    whole picture.
    """
    return photo + _coarse(reference - photo)


def wavelet_chroma(photo: Tensor, reference: Tensor) -> Tensor:
    """As :func:`wavelet` for brightness; colour differences come from the reference where they are coarser than 8 px.

    What a model adds to a photo is hardly ever colour alone, and small saturated things keep theirs.
    """
    difference = reference - photo
    luma = (difference * torch.tensor(_LUMA, device=photo.device).view(3, 1, 1)).sum(dim=0, keepdim=True)
    return photo + _coarse(luma) + _coarse(difference - luma, CHROMA_LEVELS)


def _coarse(photo: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """What [1 2 1] x [1 2 1] / 16 low passes of growing dilation leave of (c, h, W)."""
    height, width = photo.shape[1:]
    for level in range(levels):
        step = 2**level
        wide = F.pad(photo, (step, step), mode="replicate")
        photo = (wide[..., :width] + wide[..., 2 * step :]).mul_(0.25).add_(photo, alpha=0.5)
        tall = F.pad(photo, (0, 0, step, step), mode="replicate")
        photo = (tall[:, :height] + tall[:, 2 * step :]).mul_(0.25).add_(photo, alpha=0.5)
    return photo
