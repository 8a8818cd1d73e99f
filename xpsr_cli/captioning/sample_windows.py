"""The pixels that a photo is judged by: a few windows all over it, and blocks of 8 x 8 pixels in them."""

# shapes: N blocks

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xpsr_cli.captioning.captions import Box
from xpsr_cli.photos.photo import Floats, PhotoSource

WINDOW_PX = 256
MAX_WINDOWS = 9
BLOCK_PX = 8  # of JPEG
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class SampleWindow:
    """Pixels at ``top``, ``left`` of the photo.

    ``colour`` is (h, w, 3) and ``luma`` (h, w), both 0 to 255; ``visible`` (h, w) says which are not transparent.
    """

    top: int
    left: int
    colour: Floats
    luma: Floats
    visible: np.ndarray


@dataclass(frozen=True, eq=False)
class Blocks:
    """``colour`` (N, 8, 8, 3) and ``luma`` (N, 8, 8), 0 to 255."""

    colour: Floats
    luma: Floats

    def __len__(self) -> int:
        return len(self.luma)


def read_windows(photo: PhotoSource, box: Box | None = None) -> list[SampleWindow]:
    """Up to ``MAX_WINDOWS`` windows of ``WINDOW_PX`` a side, spread evenly, from top to bottom.

    Small photos are read as a whole; windows overlap where they do not fit beside each other.
    """
    area = box or Box(0, 0, photo.info.width, photo.info.height)
    columns, rows = _grid(area.width, area.height)
    height, width = min(area.height, WINDOW_PX), min(area.width, WINDOW_PX)
    places = [
        (area.top + _start(row, rows, area.height), area.left + _start(column, columns, area.width))
        for row in range(rows)
        for column in range(columns)
    ]
    return [_read(photo, top, left, height, width) for top, left in places]


def _grid(width: int, height: int) -> tuple[int, int]:
    """(columns, rows) of windows, in the shape of the photo."""
    columns, rows = (math.ceil(side / WINDOW_PX) for side in (width, height))
    if columns * rows <= MAX_WINDOWS:
        return columns, rows
    columns = min(columns, MAX_WINDOWS, max(1, round(math.sqrt(MAX_WINDOWS * width / height))))
    rows = min(rows, MAX_WINDOWS // columns)
    return min(MAX_WINDOWS // rows, math.ceil(width / WINDOW_PX)), rows


def _start(index: int, count: int, side: int) -> int:
    """Where window ``index`` of ``count`` begins; a single one lies in the middle."""
    free = max(side - WINDOW_PX, 0)
    return free // 2 if count == 1 else free * index // (count - 1)


def _read(photo: PhotoSource, top: int, left: int, height: int, width: int) -> SampleWindow:
    region = photo.read(top, left, height, width)
    missing = [(0, max(2 * BLOCK_PX - side, 0)) for side in (height, width)]
    colour = np.pad(region.colour * np.float32(255), [*missing, (0, 0)], mode="symmetric")
    visible = np.ones(colour.shape[:2], bool)
    if region.alpha is not None:
        visible = np.pad(region.alpha > 0, missing, mode="symmetric")
    return SampleWindow(top, left, colour, colour @ _LUMA, visible)


def blocks_of(windows: list[SampleWindow], phase: tuple[int, int] = (0, 0)) -> Blocks:
    """The blocks of a grid that begins ``phase`` (down, right) pixels into the photo, without transparent ones."""
    colours, lumas = [], []
    for window in windows:
        down, right = (phase[0] - window.top) % BLOCK_PX, (phase[1] - window.left) % BLOCK_PX
        seen = _cut(window.visible, down, right).all(axis=(1, 2))
        colours.append(_cut(window.colour, down, right)[seen])
        lumas.append(_cut(window.luma, down, right)[seen])
    return Blocks(np.concatenate(colours), np.concatenate(lumas))


def _cut(samples: np.ndarray, down: int, right: int) -> np.ndarray:
    """(H, W, ...) to (N, 8, 8, ...)."""
    rows, columns = (samples.shape[0] - down) // BLOCK_PX, (samples.shape[1] - right) // BLOCK_PX
    whole = samples[down : down + rows * BLOCK_PX, right : right + columns * BLOCK_PX]
    shape = (rows, BLOCK_PX, columns, BLOCK_PX, *samples.shape[2:])
    return whole.reshape(shape).swapaxes(1, 2).reshape(-1, BLOCK_PX, BLOCK_PX, *samples.shape[2:])
