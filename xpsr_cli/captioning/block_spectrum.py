"""Blocks of a photo in the frequencies JPEG works in, and what its rounding does to their power."""

# shapes: N blocks, 64 frequencies in the order of rows of an 8 x 8 block

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import dctn
from scipy.special import ndtr

from xpsr_cli.photos.photo import Floats

_INDEX = np.arange(8)
ORDER = np.add.outer(_INDEX, _INDEX).ravel()
"""Vertical and horizontal frequency together, 0 to 14."""
FREQUENCY_SQUARED = np.add.outer(_INDEX**2, _INDEX**2).ravel() / 256.0
"""In cycles per pixel, squared: index ``k`` of eight is ``k`` half waves in eight pixels."""

_BLACK, _WHITE = 3.0, 252.0  # beyond them noise and rounding are cut off
_FEWEST_BLOCKS = 8


def spectrum(blocks: Floats) -> Floats:
    """(N, 8, 8) of 0 to 255 to (N, 64) coefficients, scaled as in JPEG: white noise keeps its standard deviation."""
    return dctn(blocks - np.float32(128), axes=(1, 2), norm="ortho").reshape(-1, 64)


def unclipped(luma: Floats) -> np.ndarray:
    """(N,) whether a block has neither black nor white in it."""
    return (luma.min(axis=(1, 2)) > _BLACK) & (luma.max(axis=(1, 2)) < _WHITE)


def flattest(luma: Floats, coefficients: Floats, share: float, at_least: int) -> np.ndarray:
    """Indices of the blocks with the least slow change: noise is seen in other frequencies than they are chosen by."""
    candidates = np.flatnonzero(unclipped(luma))
    if len(candidates) < _FEWEST_BLOCKS:
        candidates = np.arange(len(luma))
    slow = (coefficients[candidates][:, (ORDER >= 1) & (ORDER <= 2)] ** 2).sum(axis=1)
    count = max(at_least, int(len(luma) * share))
    return candidates[np.argsort(slow, kind="stable")[:count]]


def rounded_power(power: np.ndarray, steps: Floats | None) -> np.ndarray:
    """Mean square of coefficients that JPEG rounded to multiples of ``steps`` (64,).

    ``power`` (..., 64) is theirs before it, as variances of normal distributions.
    """
    if steps is None:
        return power
    ratio = np.sqrt(power) / steps
    fine = np.square(ratio) + 1 / 12  # rounding adds noise of its own
    return np.where(ratio > _RATIOS[-1], fine, np.interp(ratio, _RATIOS, _rounded_squares())) * np.square(steps)


_RATIOS = np.linspace(0.0, 2.0, 401)  # standard deviation of a coefficient over its step


@cache
def _rounded_squares() -> np.ndarray:
    """Mean square of a rounded normal variable, for each standard deviation of ``_RATIOS``."""
    multiples = np.arange(1, 14)[:, None]
    sigma = np.maximum(_RATIOS, 1e-6)
    shares = ndtr((multiples + 0.5) / sigma) - ndtr((multiples - 0.5) / sigma)
    return (2 * multiples**2 * shares).sum(axis=0)
