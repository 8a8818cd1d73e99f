"""The working canvas: the photo enlarged to a size the networks take, window by window, and the way back."""

# shapes: H W pixels of the canvas, h w pixels of a window

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.photos.photo import PhotoSource
from xpsr_cli.sampling.tiles import CanvasImage
from xpsr_cli.settings import Sizing, output_size
from xpsr_cli.upscaling.resample import Padded, Picture, Resized, bilinear, next_multiple
from xpsr_cli.upscaling.transparency import REACH_PX, fill_hidden

MULTIPLE_PX = 8
"""Sides of a canvas are multiples of this: a latent cell of Stable Diffusion, two of a small model."""
SMALLEST_PX = 128
"""Smallest side of a padded canvas: below that the networks' coarsest features would be a few cells."""
PROCESS_SIZE_PX = 512
"""Smallest side of a resized canvas (the released script's ``process_size``)."""


def canvas_size(size: tuple[int, int], sizing: Sizing) -> tuple[int, int]:
    """Width and height at which a result of ``size`` is worked on."""
    if sizing is Sizing.PAD:
        width, height = (max(next_multiple(side, MULTIPLE_PX), SMALLEST_PX) for side in size)
    else:
        width, height = (side // MULTIPLE_PX * MULTIPLE_PX for side in _process_size(size))
    return width, height


def _process_size(size: tuple[int, int]) -> tuple[int, int]:
    """The released script's rule (spec C3): the short side at least :data:`PROCESS_SIZE_PX`."""
    width, height = size
    short, long = min(size), max(size)
    if short >= PROCESS_SIZE_PX:
        return size
    long = int(PROCESS_SIZE_PX * long / short)
    return (PROCESS_SIZE_PX, long) if width <= height else (long, PROCESS_SIZE_PX)


class Canvas:
    """The enlarged input at working size, read from the photo whenever a window of it is needed.

    ``size`` (width, height) is what was asked for, ``photo`` the input at its own size. Of a padded canvas the top
    left part of ``size`` is the photo; a resized one is the photo as a whole.
    """

    def __init__(self, source: PhotoSource, scale: float, sizing: Sizing) -> None:
        info = source.info
        self.size = output_size(info.width, info.height, scale)
        self.scale, self.sizing = scale, sizing
        self.photo: Picture = _Colour(source)
        self.width, self.height = canvas_size(self.size, sizing)
        self._enlarged = Resized(self.photo, self.size)
        self.image = self.seen(self._enlarged)
        """What the networks and the colour fix see under a window, (1, 3, h, w) float32 in [0, 1]."""
        self._alpha = Resized(_Alpha(source), self.size) if info.alpha else None

    @property
    def visible(self) -> tuple[int, int]:
        """Width and height of the part of the canvas that is photo and not padding."""
        return self.size if self.sizing is Sizing.PAD else (self.width, self.height)

    def seen(self, picture: Picture) -> CanvasImage:
        """A picture of :attr:`size` as the networks see it."""
        if self.sizing is Sizing.PAD:
            working: Picture = Padded(picture, (self.width, self.height))
        else:
            processed = _process_size(self.size)
            if processed != self.size:
                picture = Resized(picture, processed, bilinear)
            working = Resized(picture, (self.width, self.height))
        return lambda window: working.read(window.y, window.x, window.h, window.w).clamp_(0, 1)[None]

    def enlarged(self, top: int, height: int) -> Tensor:
        """Rows of the input enlarged to the size asked for, (3, height, width) in [0, 1]: plain bicubic."""
        return self._enlarged.read(top, 0, height, self.size[0]).clamp_(0, 1)

    def alpha(self, top: int, height: int) -> Tensor | None:
        """Rows of the transparency at the size asked for, (height, width) in [0, 1], if the photo has any."""
        return None if self._alpha is None else self._alpha.read(top, 0, height, self.size[0]).clamp_(0, 1)[0]


class _Colour:
    """A photo's colours as a picture, with visible ones carried into hidden parts."""

    def __init__(self, source: PhotoSource) -> None:
        self.width, self.height = source.info.size
        self._source = source

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        if not self._source.info.alpha:
            colour = self._source.read(top, left, height, width).colour
        else:
            y, x = max(top - REACH_PX, 0), max(left - REACH_PX, 0)
            bottom, right = min(top + height + REACH_PX, self.height), min(left + width + REACH_PX, self.width)
            region = self._source.read(y, x, bottom - y, right - x)
            assert region.alpha is not None
            filled = fill_hidden(region.colour, region.alpha)
            colour = filled[top - y : top - y + height, left - x : left - x + width]
        return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))


class _Alpha:
    """A photo's transparency as a picture."""

    def __init__(self, source: PhotoSource) -> None:
        self.width, self.height = source.info.size
        self._source = source

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        alpha = self._source.read(top, left, height, width).alpha
        assert alpha is not None
        return torch.from_numpy(np.ascontiguousarray(alpha))[None]
