"""How far a mean or a share can be trusted: 95 % intervals, the same ones for the same scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

CONFIDENCE = 0.95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
_AT_A_TIME = 500  # resamples: 12 MB for 3,000 pictures


@dataclass(frozen=True)
class Interval:
    """From where to where a mean or a share lies with 95 % confidence."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width: what stands after the plus-minus sign."""
        return (self.high - self.low) / 2


def bootstrap_intervals(table: np.ndarray) -> list[Interval | None]:
    """The percentile bootstrap interval of the mean of every column of a (pictures, columns) table.

    Whole pictures are drawn again, so that all columns see the same ones. What is not finite is absent. ``None`` for a
    column with fewer than two values.
    """
    known = np.isfinite(table)
    counts = known.sum(axis=0)
    centres = np.where(known, table, 0).sum(axis=0) / np.maximum(counts, 1)
    deviations = np.where(known, table, centres) - centres  # small numbers: equal scores give an interval of no width
    means = _resampled_means(deviations, known.astype(np.float64))
    tail = 50 * (1 - CONFIDENCE)
    return [
        _percentiles(column, centre, tail) if count > 1 else None
        for centre, column, count in zip(centres, means.T, counts, strict=True)
    ]


def wilson_interval(wins: float, count: int) -> Interval:
    """The 95 % interval of a share of ``count`` pictures (Wilson 1927); it has a width at 0 and at 100 %, too."""
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    share = wins / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def _resampled_means(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(RESAMPLES, columns) means of pictures drawn with replacement; NaN where none of those drawn has a value."""
    pictures, columns = values.shape
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.empty((RESAMPLES, columns))
    places = np.arange(_AT_A_TIME)[:, None] * pictures  # one row of counters per resample
    for start in range(0, RESAMPLES, _AT_A_TIME):
        drawn = generator.integers(0, pictures, (_AT_A_TIME, pictures)) + places
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[start : start + _AT_A_TIME] = (times @ values) / (times @ known)
    return means


def _percentiles(shifts: np.ndarray, centre: float, tail: float) -> Interval:
    low, high = np.nanpercentile(shifts, [tail, 100 - tail])
    return Interval(float(centre + low), float(centre + high))
