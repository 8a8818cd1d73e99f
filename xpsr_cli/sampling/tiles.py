"""Windows: how a canvas of any size is cut into pieces the networks take, and put together again without trace.

Un-tiled work is a grid of one window; there is no second path for large photos.
"""

# shapes: H W canvas cells, h w window cells; a cell is a latent cell, or a pixel where a window was scaled to pixels

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


@dataclass(frozen=True, order=True)
class Window:
    """The place of a tile on its canvas: top left cell, height and width."""

    y: int
    x: int
    h: int
    w: int

    def crop(self, canvas: Tensor) -> Tensor:
        """The part of ``canvas`` (..., H, W) under the window, as a view."""
        return canvas[..., self.y : self.y + self.h, self.x : self.x + self.w]

    def grown(self, margin: int, height: int, width: int) -> Window:
        """The window with ``margin`` cells more on every side, as far as a canvas of that size goes."""
        y, x = max(self.y - margin, 0), max(self.x - margin, 0)
        return Window(y, x, min(self.y + self.h + margin, height) - y, min(self.x + self.w + margin, width) - x)

    def within(self, outer: Window) -> Window:
        """The same place on a canvas that is the crop of ``outer``."""
        return Window(self.y - outer.y, self.x - outer.x, self.h, self.w)

    def scaled(self, factor: int, divisor: int = 1) -> Window:
        """The same place where a cell is ``factor`` / ``divisor`` cells wide, such as 8 pixels per latent cell."""
        return Window(*(side * factor // divisor for side in (self.y, self.x, self.h, self.w)))


def blocks(height: int, width: int, side: int) -> list[Window]:
    """Windows that cover a canvas of ``height`` x ``width`` cells once, row by row; the last ones are smaller."""
    return [
        Window(y, x, min(side, height - y), min(side, width - x))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def window_grid(height: int, width: int, tile: int, overlap: int) -> list[Window]:
    """Windows of one size that cover a canvas of ``height`` x ``width`` cells, row by row (published rule, spec C6).

    A canvas of no more than ``tile**2`` cells is one window. Otherwise windows start every ``tile - overlap`` cells
    and the last one is moved back to end at the border. Where a side is shorter than ``tile`` the window takes that
    side whole and keeps its length along the other (the released script cuts squares of the short side, and none at
    all once that is below the overlap).

    Raises:
        ValueError: unless 0 <= overlap < tile and the canvas has cells.
    """
    if not 0 <= overlap < tile or min(height, width) < 1:
        raise ValueError(f"No grid of tile {tile}, overlap {overlap} over {height} x {width} cells.")
    if height * width <= tile**2:
        return [Window(0, 0, height, width)]
    h, w = min(tile, height), min(tile, width)
    return [Window(y, x, h, w) for y in _starts(height, h, overlap) for x in _starts(width, w, overlap)]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """First cells of the windows along one side."""
    if tile == length:
        return [0]
    stride = tile - overlap
    count = math.ceil((length - tile) / stride) + 1
    return [*range(0, (count - 1) * stride, stride), length - tile]


class Centre(str, Enum):
    """Where the Gaussian weights of a window peak."""

    MIDDLE = "middle"  # the middle of the window: (h - 1) / 2, (w - 1) / 2
    PUBLISHED = "published"  # as released, half a cell too low: h / 2, (w - 1) / 2 (spec F5); for comparison only


def gaussian_weights(window: Window, centre: Centre = Centre.MIDDLE) -> Tensor:
    """How much each cell of a window counts, (h, w) float32: a Gaussian of variance 0.01 in units of the side (C6)."""
    shift = 0.5 if centre is Centre.PUBLISHED else 0.0
    rows = _gaussian(window.h, (window.h - 1) / 2 + shift)
    columns = _gaussian(window.w, (window.w - 1) / 2)
    return (rows[:, None] * columns[None, :]).float()


def _gaussian(length: int, middle: float, variance: float = 0.01) -> Tensor:
    distance = (torch.arange(length, dtype=torch.float64) - middle) / length
    return torch.exp(-(distance**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


class Blend:
    """Puts windows together: a weighted mean, in float32, always summed in the order of the grid.

    ``weights`` gives a window's (h, w) weights. They are divided by their sum over all windows first, so that they
    add up to one in every cell, and to exactly one where there is a single window.
    """

    def __init__(self, windows: Sequence[Window], weights: Callable[[Window], Tensor]) -> None:
        self.windows = windows
        self.height = max(window.y + window.h for window in windows)
        self.width = max(window.x + window.w for window in windows)
        by_size = {(window.h, window.w): weights(window) for window in windows}
        self._weights = [by_size[window.h, window.w] for window in windows]
        self._total = torch.zeros(self.height, self.width)
        for window, weight in zip(windows, self._weights, strict=True):
            window.crop(self._total).add_(weight)

    def share(self, index: int) -> Tensor:
        """Normalised weights (h, w) of window ``index``."""
        return self._weights[index] / self.windows[index].crop(self._total)

    def empty(self, *channels: int) -> Tensor:
        """A canvas (*channels, H, W) of zeros to :meth:`add` windows to."""
        return torch.zeros(*channels, self.height, self.width)

    def add(self, canvas: Tensor, index: int, piece: Tensor) -> None:
        """Add the piece (..., h, w) of window ``index`` to the canvas."""
        self.windows[index].crop(canvas).add_(piece.float() * self.share(index))
