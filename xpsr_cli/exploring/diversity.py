"""How different several answers to one small picture are, and which of many differ most.

Answers that agree with the same small picture can differ in detail only, so they are compared at a size where detail
shows and noise from pixel to pixel counts little.
"""

# shapes: pictures are (H, W, 3) uint8 of one size, n of them

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpsr_cli.photos.photo import Pixels

COMPARED_PX = 64
"""Longer side at which pictures are compared, unless twice the small picture's is more."""


@dataclass(frozen=True)
class Diversity:
    """How far answers lie from each other, both in parts of 1 (black to white).

    ``std`` is the standard deviation over the answers, taken at each pixel and channel and then averaged (0 for one
    answer); ``distance`` is the mean of :func:`distances` over all pairs (0 where there is none).
    """

    std: float
    distance: float


def measure(pictures: Sequence[Pixels], small_px: int) -> Diversity:
    """The diversity of pictures that are reduced to one small picture whose longer side is ``small_px``."""
    apart = distances(pictures, small_px)
    pairs = apart[np.triu_indices(len(pictures), 1)]
    return Diversity(mean_std(pictures), float(pairs.mean()) if pairs.size else 0.0)


def mean_std(pictures: Sequence[Pixels]) -> float:
    """See :class:`Diversity`. Pictures are gone through one by one, so that many large ones need little memory."""
    total = np.zeros(pictures[0].shape)
    squares = np.zeros(pictures[0].shape)
    for picture in pictures:
        values = picture / 255.0
        total += values
        squares += values**2
    variance = squares / len(pictures) - (total / len(pictures)) ** 2
    return float(np.sqrt(np.maximum(variance, 0)).mean())


def distances(pictures: Sequence[Pixels], small_px: int) -> NDArray[np.float64]:
    """(n, n) root mean squared differences between pictures, each reduced to ``COMPARED_PX`` or twice ``small_px``."""
    reduced = [_reduced(picture, max(COMPARED_PX, 2 * small_px)) for picture in pictures]
    apart = np.zeros((len(reduced), len(reduced)))
    for one in range(len(reduced)):
        for other in range(one):
            difference = np.sqrt(np.mean((reduced[one] - reduced[other]) ** 2))
            apart[one, other] = apart[other, one] = difference
    return apart


def farthest(apart: NDArray[np.float64], count: int) -> list[int]:
    """``count`` of n points that lie far from each other, in ascending order (Gonzalez 1985).

    Point 0 is kept; then always the one is taken that is farthest from all that were taken, the first of equals.
    ``apart`` are their (n, n) distances.
    """
    chosen = [0]
    nearest = apart[0].copy()
    while len(chosen) < min(count, len(apart)):
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    return sorted(chosen)


def _reduced(picture: Pixels, longest: int) -> NDArray[np.float64]:
    height, width = picture.shape[:2]
    shrink = max(height, width) / longest
    if shrink > 1:
        size = max(1, round(width / shrink)), max(1, round(height / shrink))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    return picture / 255.0
