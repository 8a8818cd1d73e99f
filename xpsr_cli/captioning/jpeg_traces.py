"""Which steps JPEG rounded the frequencies of a photo to, from the pixels alone.

In blocks on the right grid, coefficients lie near multiples of their step. Of a JPEG that was saved again, those of
the last time lie there exactly, and near multiples of the larger steps from before.
"""

# shapes: N blocks, T tables of 64 steps, 64 frequencies in the order of rows of an 8 x 8 block

from __future__ import annotations

from functools import cache

import numpy as np

from xpsr_cli.photos.photo import Floats

_BIN, _BINS = 0.25, 512  # histograms of magnitudes reach to 128
_SEEN_FROM = 1.5  # what is smaller says nothing: photos are full of almost nothing
_ERROR = 0.4  # standard deviation that rounding to 8 bits leaves on a coefficient
_STRAY = 0.05  # share of coefficients that lie anywhere
_LEAST_IN_ALL, _LEAST_EACH = 30.0, 0.08  # nats; in photos without JPEG there are below 0.03 for each coefficient
_COARSER = 3.0  # steps from before are seen if they are so much larger than the last ones
_MULTIPLES = 60


def is_enough(score: float, count: int) -> bool:
    """Whether the evidence of ``count`` coefficients is more than chance."""
    return score > max(_LEAST_IN_ALL, _LEAST_EACH * count)


def evidence(coefficients: Floats, tables: Floats) -> tuple[np.ndarray, int]:
    """How much likelier (N, 64) coefficients are with each of (T, 64) steps, 1 to 255, than without JPEG.

    Returns (T,) logarithms, and the number of coefficients that have a say.
    """
    bins = np.rint(np.abs(coefficients) / _BIN).astype(np.int64)
    bins[bins >= _BINS] = 0
    bins[:, 0] = 0  # the average brightness
    counts = np.bincount((bins + np.arange(64) * _BINS).ravel(), minlength=64 * _BINS).reshape(64, _BINS)
    by_step = _evidence() @ counts.T  # (steps, 64)
    scores = by_step[tables.astype(int), np.arange(64)].sum(axis=1)
    return scores, int(counts[:, int(_SEEN_FROM / _BIN) :].sum())


@cache
def _evidence() -> np.ndarray:
    """(step, bin) for every whole step up to 255."""
    magnitudes, steps = np.arange(_BINS) * _BIN, np.arange(256.0).clip(1)[:, None]
    table = np.log((1 - _STRAY) * _nearness(magnitudes, steps, _ERROR) + _STRAY)
    table[:, magnitudes < _SEEN_FROM] = 0
    table[:2] = 0  # multiples of 1 are everywhere
    return table


def _nearness(magnitudes: np.ndarray, steps: np.ndarray, error: np.ndarray | float) -> np.ndarray:
    """Density around multiples of the steps; 1 on average."""
    off = magnitudes - steps * np.rint(magnitudes / steps)
    return np.exp(-0.5 * (off / error) ** 2) * steps / (error * np.sqrt(2 * np.pi))


def earlier_evidence(coefficients: Floats, tables: Floats, last: Floats) -> tuple[np.ndarray, int]:
    """How much likelier coefficients are if they had been rounded to (T, 64) steps before the ``last`` (64,) ones.

    Returns what :func:`evidence` does.
    """
    multiples = np.rint(np.abs(coefficients) / last).astype(np.int64)
    multiples[multiples > _MULTIPLES] = 0
    scores, seen = np.zeros(len(tables)), 0
    for frequency in range(1, 64):
        counts = np.bincount(multiples[:, frequency], minlength=_MULTIPLES + 1)[1:]
        reach = int(np.flatnonzero(counts).max(initial=-1)) + 1
        magnitudes = np.arange(1, reach + 1) * last[frequency]
        steps, error = tables[:, frequency, None], np.hypot(_ERROR, last[frequency] / np.sqrt(12))
        near = _nearness(magnitudes, steps, error)
        near[steps[:, 0] < _COARSER * max(last[frequency], 1.0)] = 1
        scores += np.log((1 - _STRAY) * near + _STRAY) @ counts[:reach]
        seen += int(counts.sum())
    return scores, seen
