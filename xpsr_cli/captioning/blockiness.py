"""How much the edges of 8 x 8 blocks stand out in a photo, and where the blocks lie.

JPEG's blocks are still seen where its steps are not: after a change of brightness, colour or size by a little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpsr_cli.captioning.sample_windows import BLOCK_PX, SampleWindow
from xpsr_cli.photos.photo import Floats

_LARGEST_JUMP = 8.0  # in 1/255: an edge of the picture counts no more than one of a block
_VISIBLE, _CHANCE = 0.04, 0.75  # least strength, and that times the edges: photos without JPEG stay below
_NOTHING = 0.5  # in 1/255, added to the usual change from pixel to pixel


class Blockiness(NamedTuple):
    """``strength``: how much larger changes are between blocks than within, relative to those; 0: not for certain.

    ``phase`` (down, right) is where in the photo the first whole block begins.
    """

    strength: float
    phase: tuple[int, int]


def blockiness(windows: list[SampleWindow]) -> Blockiness:
    """Of the grid that stands out most; the direction it stands out less in counts."""
    down = _excess([(window.luma, window.top) for window in windows])
    right = _excess([(window.luma.T, window.left) for window in windows])
    phase = int(np.argmax(down)), int(np.argmax(right))
    edges = min(sum(window.luma.shape[axis] for window in windows) for axis in (0, 1)) // BLOCK_PX
    strength = min(_above_others(down), _above_others(right))
    return Blockiness(strength if strength > max(_VISIBLE, _CHANCE / edges) else 0.0, phase)


def _above_others(excess: np.ndarray) -> float:
    """Above the second largest: enlarging a photo twofold makes every other row stand out."""
    second, first = np.sort(excess)[-2:]
    return float(first - second)


def _excess(parts: list[tuple[Floats, int]]) -> np.ndarray:
    """(8,) how much more rows ``k``, ``k`` + 8, ... differ from the row before than their neighbours do, relatively.

    Each part is (h, w) brightness and the row of the photo it begins with.
    """
    sums, counts, change = np.zeros(BLOCK_PX), np.zeros(BLOCK_PX), 0.0
    for luma, first in parts:
        step = np.abs(np.diff(luma, axis=0))
        between = step[1:-1] - (step[:-2] + step[2:]) / 2
        each = np.clip(between, -_LARGEST_JUMP, _LARGEST_JUMP).mean(axis=1)
        rows = (np.arange(len(each)) + first + 2) % BLOCK_PX
        sums += np.bincount(rows, each, minlength=BLOCK_PX)
        counts += np.bincount(rows, minlength=BLOCK_PX)
        change += float(np.minimum(step, _LARGEST_JUMP).mean()) / len(parts)
    return sums / np.maximum(counts, 1) / (change + _NOTHING)
