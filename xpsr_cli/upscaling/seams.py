"""Seams: how visible the borders of the windows are in a result, as two figures.

The seam index compares the steps between neighbouring pixels on the borders of windows with those beside them, on luma
(Rec. 709 weights on the values as they are encoded). A border is the line between the last row or column outside of a
window and the first one inside; the border of the picture is none. It is compared with the lines 8, 16, 24 and 32
pixels to either side that are borders of no window themselves: they see the same content, and they lie at the same
place of the lattice in which the networks work, whose cells are 8 pixels at most. The index is the mean absolute step
on borders over that on the lines beside them, each raised by 0.01/255 so that rounding in the far digits of a flat
area counts for nothing. Without seams it is 1, and below where the overlaps, which lie beside the borders, carry a
slow change from one window to the next. Its 99 % interval is the normal approximation of a ratio estimator over
segments of the borders.

The brightness step is the mean difference in brightness between neighbouring windows that is not in the input: the
mean of (result - enlarged input) over the cells of two neighbours, subtracted, in 1/255, averaged without sign over
all neighbours. The cell of a window is the part nearer to its middle than to its neighbours': the cuts run through the
middles of the overlaps. Without seams it is 0.
"""

# shapes: H W pixels of the result, h rows of a band, n borders in one direction, s segments along one border

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpsr_cli.sampling.tiles import Window

BESIDE_PX = (8, 16, 24, 32)
"""How far from a border the lines lie to which it is compared."""
SEGMENT_PX = 64
FLOOR = 0.01 / 255
"""Added to every step; far below one level of 8 bits, far above the rounding of float32."""
NORMAL_99 = 2.5758293
"""99 of 100 values of a normal distribution are within so many deviations."""

Array = NDArray[Any]
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709


@dataclass(frozen=True)
class SeamReport:
    """The figures of one result: the seam index with its 99 % interval, and the brightness step in 1/255."""

    index: float
    index_low: float
    index_high: float
    brightness_step: float


class SeamMeter:
    """Measures a result while it is written, from top to bottom; it keeps a few rows' worth of sums.

    Args:
        windows: the grid, in pixels of the result; what reaches beyond the picture is ignored.
        width, height: of the picture, in pixels.
    """

    def __init__(self, windows: Sequence[Window], width: int, height: int) -> None:
        rows = sorted({(window.y, window.h) for window in windows})
        columns = sorted({(window.x, window.w) for window in windows})
        self._width, self._height = width, height
        self._next_row = 0
        self._row_above: Array = np.zeros((0, width), np.float32)
        self._ratio = _Ratio()
        self._across = _RowBorders(_borders(rows, height), width, height, self._ratio)
        self._down = _ColumnBorders(_borders(columns, width), width, height, self._ratio)
        self._cells = _Cells(_cuts(rows, height), _cuts(columns, width), height, width)

    def add(self, top: int, result_01: Any, enlarged_01: Any) -> None:
        """Take the next rows: (3, h, W) float32 in [0, 1] each, arrays or tensors in memory, before quantisation.

        Raises:
            ValueError: the band is not the one that follows.
        """
        result, enlarged = _luma(result_01), _luma(enlarged_01)
        height = len(result)
        if top != self._next_row or result.shape != enlarged.shape or result.shape[1] != self._width:
            raise ValueError(f"A band {result.shape} at row {top} does not follow row {self._next_row}.")
        with_above = np.concatenate([self._row_above, result])
        self._across.add(top - len(self._row_above), with_above)
        self._down.add(top, result)
        self._cells.add(top, result - enlarged)
        self._next_row, self._row_above = top + height, result[-1:].copy()

    def report(self) -> SeamReport:
        """The figures, once all rows were added.

        Raises:
            ValueError: rows are missing.
        """
        if self._next_row != self._height:
            raise ValueError(f"{self._next_row} of {self._height} rows were measured.")
        index, margin = self._ratio.result()
        return SeamReport(index, max(index - margin, 0.0), index + margin, self._cells.step() * 255)


class _Ratio:
    """Mean of the steps on borders over that beside them, and how sure it is, from sums over all segments."""

    def __init__(self) -> None:
        self.count = 0
        self.on = self.beside = self.on_on = self.on_beside = self.beside_beside = 0.0

    def add(self, on: Array, beside: Array, length: Array) -> None:
        """Segments of ``length`` pixels: the sums of their steps on a border and, on average, on a line beside it."""
        on, beside = on + FLOOR * length, beside + FLOOR * length
        self.count += on.size
        self.on += float(on.sum())
        self.beside += float(beside.sum())
        self.on_on += float((on * on).sum())
        self.on_beside += float((on * beside).sum())
        self.beside_beside += float((beside * beside).sum())

    def result(self) -> tuple[float, float]:
        """The ratio, and half of its 99 % interval."""
        if self.count == 0:
            return 1.0, 0.0
        ratio = self.on / self.beside
        squares = self.on_on - 2 * ratio * self.on_beside + ratio**2 * self.beside_beside
        variance = max(squares, 0.0) * self.count / max(self.count - 1, 1) / self.beside**2
        return ratio, NORMAL_99 * math.sqrt(variance)


class _RowBorders:
    """Steps across the borders that run from left to right: all of a border's segments in one go."""

    def __init__(self, borders: Sequence[int], width: int, height: int, ratio: _Ratio) -> None:
        self._ratio = ratio
        self._segments = _segments(width)
        self._length = np.diff(self._segments, append=width)
        self._beside = {border: lines for border in borders if (lines := _lines_beside(border, borders, height))}
        self._on: dict[int, Array] = {}  # (s,) by border, until the lines below it have come
        self._sum: dict[int, Array] = {border: np.zeros(len(self._segments)) for border in self._beside}

    def add(self, top: int, luma: Array) -> None:
        """Rows from ``top`` on: (1 + h, W) with the last one of before, but for the first band."""
        for border in list(self._sum):
            beside = self._beside[border]
            for line in beside:
                if top < line < top + len(luma):
                    self._sum[border] += self._steps(luma, line - top)
            if top < border < top + len(luma):
                self._on[border] = self._steps(luma, border - top)
            if max(border, *beside) < top + len(luma):
                self._ratio.add(self._on.pop(border), self._sum.pop(border) / len(beside), self._length)

    def _steps(self, luma: Array, row: int) -> Array:
        """Sums of |step| between a row and the one above, by segment."""
        return np.add.reduceat(np.abs(luma[row] - luma[row - 1]).astype(np.float64), self._segments)


class _ColumnBorders:
    """Steps across the borders that run from top to bottom: one segment of all borders at a time."""

    def __init__(self, borders: Sequence[int], width: int, height: int, ratio: _Ratio) -> None:
        self._ratio = ratio
        beside = {border: lines for border in borders if (lines := _lines_beside(border, borders, width))}
        self._on_lines = np.array(list(beside), np.intp)
        self._beside_lines = np.array([line for lines in beside.values() for line in lines], np.intp)
        self._beside_counts = np.array([len(lines) for lines in beside.values()], np.intp)
        self._ends = [*_segments(height)[1:], height]
        self._rows = 0  # of the segment so far
        self._sums = np.zeros(len(self._on_lines)), np.zeros(len(self._beside_lines))

    def add(self, top: int, luma: Array) -> None:
        """Rows (h, W) from ``top`` on."""
        if not len(self._on_lines):
            return
        steps = [
            np.abs(luma[:, lines] - luma[:, lines - 1]).astype(np.float64)
            for lines in (self._on_lines, self._beside_lines)
        ]
        first = 0
        while first < len(luma):
            last = min(len(luma), self._ends[0] - top)
            for total, step in zip(self._sums, steps, strict=True):
                total += step[first:last].sum(axis=0)
            self._rows += last - first
            if top + last == self._ends[0]:
                self._close_segment()
            first = last

    def _close_segment(self) -> None:
        on, beside = self._sums
        starts = np.cumsum(self._beside_counts) - self._beside_counts
        mean_beside = np.add.reduceat(beside, starts) / self._beside_counts
        self._ratio.add(on, mean_beside, np.full(len(on), self._rows))
        on[:], beside[:], self._rows = 0, 0, 0
        self._ends.pop(0)


class _Cells:
    """Mean of (result - enlarged) over the cell of every window."""

    def __init__(self, row_cuts: Sequence[int], column_cuts: Sequence[int], height: int, width: int) -> None:
        self._row_ends = np.array([*row_cuts[1:], height])
        self._column_starts = np.array(column_cuts, np.intp)
        areas = np.diff(row_cuts, append=height)[:, None] * np.diff(column_cuts, append=width)[None, :]
        self._areas = areas.astype(np.float64)
        self._sums = np.zeros(self._areas.shape)

    def add(self, top: int, difference: Array) -> None:
        """Rows (h, W) from ``top`` on."""
        by_column = np.add.reduceat(difference, self._column_starts, axis=1, dtype=np.float64)
        rows = np.searchsorted(self._row_ends, np.arange(top, top + len(difference)), side="right")
        np.add.at(self._sums, rows, by_column)

    def step(self) -> float:
        """Mean |difference| between neighbours."""
        means = self._sums / self._areas
        steps = np.concatenate([np.abs(np.diff(means, axis=axis)).ravel() for axis in (0, 1)])
        return float(steps.mean()) if steps.size else 0.0


def _luma(image_01: Any) -> Array:
    """(3, h, W) to (h, W) float32."""
    red, green, blue = np.asarray(image_01, np.float32)
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def _borders(spans: Sequence[tuple[int, int]], length: int) -> list[int]:
    """Where windows begin and end along one side: border k lies between the cells k - 1 and k."""
    ends = {start for start, _ in spans} | {start + size for start, size in spans}
    return sorted(end for end in ends if 0 < end < length)


def _lines_beside(border: int, borders: Sequence[int], length: int) -> list[int]:
    """The lines to which a border is compared: as many on either side, or those there are near the picture's end."""
    pairs = [(border - distance, border + distance) for distance in BESIDE_PX]
    usable = {line for pair in pairs for line in pair if 0 < line < length} - set(borders)
    both = [line for pair in pairs if usable.issuperset(pair) for line in pair]
    return both or sorted(usable)


def _cuts(spans: Sequence[tuple[int, int]], length: int) -> list[int]:
    """First rows or columns of the windows' own parts along one side, which end where the next one begins."""
    spans = [span for span in spans if span[0] < length]
    return [0, *((min(before + size, length) + start) // 2 for (before, size), (start, _) in pairwise(spans))]


def _segments(length: int) -> Array:
    """First cells of the segments along a border; the last one is longer than the others, by less than one more."""
    size = max(1, min(SEGMENT_PX, length // 8))
    return np.arange(max(1, length // size)) * size
