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


CanvasImage = Callable[[Window], Tensor]
"""The enlarged input under a window of pixels, (1, 3, h, w) float32 in [0, 1], in memory."""
CanvasLatents = Callable[[Window], Tensor]
"""The latents under a window of latent cells, (1, c, h, w) float32, scaled for diffusion, in memory."""


def block_rows(height: int, width: int, block: tuple[int, int]) -> list[list[Window]]:
    """Windows of ``block`` (height, width) that cover a canvas once, row by row; the last ones are smaller."""
    h, w = block
    return [
        [Window(y, x, min(h, height - y), min(w, width - x)) for x in range(0, width, w)] for y in range(0, height, h)
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

    @property
    def shift_down(self) -> float:
        """Cells from the middle down to the peak."""
        return 0.5 if self is Centre.PUBLISHED else 0.0


def gaussian_profile(length: int, shift: float = 0.0) -> Tensor:
    """How much each of ``length`` cells in a row counts, float64: a Gaussian of variance 0.01 in units of the length
    (spec C6), whose peak lies ``shift`` cells behind the middle."""
    distance = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2 - shift) / length
    return torch.exp(-(distance**2) / 0.02) / math.sqrt(0.02 * math.pi)


def window_weights(window: Window, centre: Centre = Centre.MIDDLE) -> Tensor:
    """How much each cell of a window counts, (h, w) float32."""
    rows, columns = gaussian_profile(window.h, centre.shift_down), gaussian_profile(window.w)
    return (rows[:, None] * columns[None, :]).float()


class Blend:
    """Puts the windows of a grid together: a weighted mean, in float32, always summed in the order of the grid.

    The weights of a window are Gaussian (:func:`window_weights`), divided by their sum over all windows, so that they
    add up to one in every cell, and to exactly one where there is a single window. Both the grid and the weights are
    products of one along the rows and one along the columns, so nothing the size of the canvas is kept.
    """

    def __init__(self, windows: Sequence[Window], centre: Centre = Centre.MIDDLE) -> None:
        self.height = max(window.y + window.h for window in windows)
        self.width = max(window.x + window.w for window in windows)
        self._rows = _shares({(window.y, window.h) for window in windows}, self.height, centre.shift_down)
        self._columns = _shares({(window.x, window.w) for window in windows}, self.width, 0.0)
        if len(windows) != len(self._rows) * len(self._columns):
            raise ValueError("The windows are not those of a grid.")

    def share(self, window: Window) -> Tensor:
        """Normalised weights (h, w) of a window."""
        return (self._rows[window.y][:, None] * self._columns[window.x][None, :]).float()


def _shares(spans: set[tuple[int, int]], length: int, shift: float) -> dict[int, Tensor]:
    """By first cell, the weights of the windows along one side, which add up to one in every cell."""
    total = torch.zeros(length, dtype=torch.float64)
    profiles = {start: gaussian_profile(size, shift) for start, size in sorted(spans)}
    for start, profile in profiles.items():
        total[start : start + len(profile)] += profile
    return {start: profile / total[start : start + len(profile)] for start, profile in profiles.items()}
