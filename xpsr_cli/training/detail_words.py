"""Words for the detail of a picture, true because it is measured: what a small picture leaves open, words can decide.

Measured is the residual: the picture less itself reduced four times and enlarged again, in brightness, 0 to 255.
"""

# shapes: S S pixels of the picture

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMOOTH, DETAILED = "smooth", "detailed"
HORIZONTAL, VERTICAL = "horizontal lines", "vertical lines"
COARSE, FINE = "coarse texture", "fine texture"
DETAIL_WORDS = (SMOOTH, DETAILED, HORIZONTAL, VERTICAL, COARSE, FINE)
_SMOOTH, _DETAILED = 11.0, 20.0  # of the amount
_LEAST = 4.0  # of the amount, below which there are neither lines nor texture to speak of
_LINES = 0.6
_COARSE, _FINE = 0.62, 0.72  # of the fineness
"""About the outer quarters of photos at 64 and at 256 pixels: most pictures have one or two of the words."""


class Detail(NamedTuple):
    """What is measured: the larger each number, the more the second word of its pair is true."""

    amount: float  # standard deviation of the residual
    lines: float  # log2 of the energy of its gradient along rows over that along columns
    fineness: float  # share of the finest octave in its standard deviation


def detail_words(picture: Image.Image, enlarged: Image.Image) -> list[str]:
    """Those of :data:`DETAIL_WORDS` that are true of ``picture``, at most one of each pair of opposites.

    Args:
        picture: (S, S) RGB.
        enlarged: the same, reduced four times and enlarged again.
    """
    amount, lines, fineness = detail_of(picture, enlarged)
    words = [_outside(amount, _SMOOTH, _DETAILED, SMOOTH, DETAILED)]
    if amount >= _LEAST:
        words.append(_outside(lines, -_LINES, _LINES, HORIZONTAL, VERTICAL))
        words.append(_outside(fineness, _COARSE, _FINE, COARSE, FINE))
    return [word for word in words if word]


def detail_of(picture: Image.Image, enlarged: Image.Image) -> Detail:
    """The measures behind :func:`detail_words`, of the same two pictures."""
    residual = _brightness(picture) - _brightness(enlarged)
    across, down = (float((np.diff(residual, axis=axis) ** 2).mean()) for axis in (1, 0))
    half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
    finest = _brightness(picture) - _brightness(half.resize(picture.size, Image.Resampling.BILINEAR))
    amount = float(residual.std())
    return Detail(amount, float(np.log2((across + 1e-3) / (down + 1e-3))), float(finest.std()) / max(amount, 1e-3))


def _outside(value: float, low: float, high: float, below: str, above: str) -> str:
    """The word for a value below ``low`` or above ``high``, and none between."""
    return below if value < low else above if value > high else ""


def _brightness(picture: Image.Image) -> NDArray[np.float64]:
    return np.asarray(picture.convert("L"), np.float64)
