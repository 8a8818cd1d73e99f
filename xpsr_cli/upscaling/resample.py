"""Resizing that can be had window by window: any window of the result is the crop of the whole, to the last bit.

The filters and their edges are Pillow's (which widen when they shrink), computed in float32 instead of 8 bits. Every
output value is a sum over a fixed number of input values in a fixed order, so it does not matter what else is
computed with it.
"""

# shapes: C channels, H W pixels of the input, h w pixels of a window of the result

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Span = tuple[int, int]
"""First index and the one behind the last."""

PART_PX = 2048
"""Columns of a band that are made at a time, so that what is needed meanwhile does not grow with the width."""


def bicubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -0.5, as in Pillow; distance in pixels, not negative."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def bilinear(distance: Tensor) -> Tensor:
    """A triangle."""
    return (1 - distance).clamp_min(0)


_SUPPORT: dict[Callable[[Tensor], Tensor], float] = {bicubic: 2.0, bilinear: 1.0}


class Axis:
    """One side of a picture turned into another: for every output index, which inputs count and how much.

    ``weights`` and ``indices`` are (outputs, taps); indices are inputs, weights float64, which count in float32.
    """

    def __init__(self, weights: Tensor, indices: Tensor) -> None:
        self._weights = weights.float()
        self._indices = indices

    @classmethod
    def resizing(cls, length: int, wanted: int, filter_: Callable[[Tensor], Tensor]) -> Axis:
        """From ``length`` to ``wanted`` pixels."""
        step = length / wanted  # input pixels per output pixel
        widening = max(step, 1.0)
        reach = _SUPPORT[filter_] * widening
        centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step
        starts = (centres - reach + 0.5).long().clamp_min(0)
        ends = (centres + reach + 0.5).long().clamp_max(length)
        taps = torch.arange(int((ends - starts).max()))
        indices = starts[:, None] + taps  # (wanted, taps)
        weights = filter_((indices + 0.5 - centres[:, None]).abs() / widening)
        weights = torch.where(indices < ends[:, None], weights, 0.0)
        return cls(weights / weights.sum(dim=1, keepdim=True), indices.clamp_max(length - 1))

    def taps(self) -> tuple[Tensor, Tensor]:
        """Weights as they count, and the inputs they belong to, (outputs, taps) each."""
        return self._weights, self._indices

    def needs(self, outputs: Tensor) -> Span:
        """The inputs that the output indices ``outputs`` depend on."""
        indices = self._indices[outputs]
        return int(indices.min()), int(indices.max()) + 1

    def __call__(self, values: Tensor, first: int, outputs: Tensor, dim: int) -> Tensor:
        """``values``, inputs from index ``first`` on along ``dim`` (-1 or -2), at the output indices ``outputs``."""
        if self._weights.shape[1] == 1:
            return values.index_select(dim, self._indices[outputs, 0] - first)
        weights = self._weights[outputs] if dim == -1 else self._weights[outputs][:, None]  # (w, taps) or (h, 1, taps)
        total: Tensor | None = None
        for tap in range(self._weights.shape[1]):
            part = values.index_select(dim, self._indices[outputs, tap] - first) * weights[..., tap]
            total = part if total is None else total.add_(part)
        assert total is not None
        return total


class Picture(Protocol):
    """Pixels that can be had by window."""

    width: int
    height: int

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """(C, h, w) float32 of a window within the picture."""


class Resized:
    """A picture at another size."""

    def __init__(self, picture: Picture, size: tuple[int, int], filter_: Callable[[Tensor], Tensor] = bicubic) -> None:
        self.width, self.height = size
        self._picture = picture
        self._rows = Axis.resizing(picture.height, self.height, filter_)
        self._columns = Axis.resizing(picture.width, self.width, filter_)

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`Picture`."""
        rows, columns = torch.arange(top, top + height), torch.arange(left, left + width)
        (y, bottom), (x, right) = self._rows.needs(rows), self._columns.needs(columns)
        values = self._picture.read(y, x, bottom - y, right - x)
        return self._rows(
            self._columns(values, x, columns, -1), y, rows, -2
        )  # columns cost more: take them of few rows


class Padded:
    """A picture with its last column and row repeated to the right and below."""

    def __init__(self, picture: Picture, size: tuple[int, int]) -> None:
        self.width, self.height = size
        self._picture = picture

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`Picture`."""
        y, x = (min(first, side - 1) for first, side in ((top, self._picture.height), (left, self._picture.width)))
        h, w = min(top + height, self._picture.height) - y, min(left + width, self._picture.width) - x
        values = self._picture.read(y, x, max(h, 1), max(w, 1))
        rows = (torch.arange(top, top + height) - y).clamp_max(values.shape[-2] - 1)
        columns = (torch.arange(left, left + width) - x).clamp_max(values.shape[-1] - 1)
        if len(rows) == values.shape[-2] and len(columns) == values.shape[-1]:
            return values
        return values[:, rows][..., columns]


def next_multiple(side: int, multiple: int) -> int:
    """The smallest multiple that is not below ``side``."""
    return math.ceil(side / multiple) * multiple
