"""Which of two methods is better, told from the pictures that both have.

Each picture gives a gain: how much better one method is, whatever the direction of the metric. Wilcoxon's signed-rank
test says whether the gains could be chance; its p-values are corrected by Holm's method for all that was compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.stats import rankdata, wilcoxon

from xpsr_cli.evaluation.intervals import Interval, bootstrap_intervals, wilson_interval
from xpsr_cli.evaluation.metric import MetricFacts

SIGNIFICANCE = 0.05
_SAME = 1e-9  # a gain below it is rounding

Scores = Mapping[tuple[str, str], np.ndarray]
"""(pictures,) scores by (method, metric key); NaN where there is none."""


@dataclass(frozen=True)
class Comparison:
    """How ``method`` does against ``other`` under one metric, on the ``count`` pictures that both have.

    ``left_out`` counts the pictures that one of the two lacks. ``gain`` is the mean over the pictures, ``None`` where
    it is infinite for all of them. A tie counts as half a win. ``rank_biserial`` goes from -1, where every picture
    is worse, to 1. ``p`` is Wilcoxon's, two-sided; ``p_holm`` is after Holm's correction.
    """

    method: str
    other: str
    key: str
    count: int
    left_out: int
    gain: float | None
    interval: Interval | None
    wins: int
    ties: int
    losses: int
    win_rate: float
    win_interval: Interval
    rank_biserial: float
    p: float
    p_holm: float

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where it is more than chance and the mean and the ranks agree, else ``""``."""
        if self.p_holm >= SIGNIFICANCE or (self.gain is not None and self.gain * self.rank_biserial < 0):
            return ""
        return "better" if self.rank_biserial > 0 else "worse"


def compare_methods(
    methods: Sequence[str], metrics: Sequence[MetricFacts], scores: Scores
) -> dict[tuple[str, str, str], Comparison]:
    """Every pair of methods that share pictures, both ways round, under every metric: by (method, other, key)."""
    found: dict[tuple[str, str, str], np.ndarray] = {}
    for (method, other), facts in product(combinations(methods, 2), metrics):
        values = gains(facts, scores[method, facts.key], scores[other, facts.key])
        if not np.isnan(values).all():
            found[method, other, facts.key] = values
    if not found:
        return {}
    intervals = bootstrap_intervals(np.array(list(found.values())).T)
    p_values = [signed_rank_p(values) for values in found.values()]
    comparisons = {}
    for named, interval, p, p_holm in zip(found.items(), intervals, p_values, holm(p_values), strict=True):
        (method, other, key), values = named
        in_either = ~(np.isnan(scores[method, key]) & np.isnan(scores[other, key]))
        left_out = int((in_either & np.isnan(values)).sum())
        turned = Interval(-interval.high, -interval.low) if interval else None
        comparisons[method, other, key] = _comparison((method, other, key), values, left_out, interval, (p, p_holm))
        comparisons[other, method, key] = _comparison((other, method, key), -values, left_out, turned, (p, p_holm))
    return comparisons


def gains(facts: MetricFacts, scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much better each score is than the other; 0 for two that are the same, NaN where one is missing."""
    pairs = zip(scores.tolist(), others.tolist(), strict=True)
    values = np.array([0.0 if score == other else facts.gain(score, other) for score, other in pairs])
    values[np.abs(values) < _SAME] = 0
    return values


def signed_rank_p(values: np.ndarray) -> float:
    """Wilcoxon's two-sided p that gains lie about zero; 1 where all are zero. An infinite one has the highest rank."""
    known = _ranked(values)
    if not known.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few pictures are an approximation: their p is far from small
        return float(wilcoxon(known).pvalue)


def rank_biserial(values: np.ndarray) -> float:
    """The ranks of the gains less those of the losses, as a share of all (Kerby 2014)."""
    known = _ranked(values)
    known = known[known != 0]
    ranks = rankdata(np.abs(known))
    return float((ranks * np.sign(known)).sum() / ranks.sum()) if len(known) else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values after the step-down correction of Holm (1979), in their order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _comparison(
    names: tuple[str, str, str],
    values: np.ndarray,
    left_out: int,
    interval: Interval | None,
    p_values: tuple[float, float],
) -> Comparison:
    known = values[~np.isnan(values)]
    finite = known[np.isfinite(known)]
    wins, ties, losses = int((known > 0).sum()), int((known == 0).sum()), int((known < 0).sum())
    return Comparison(
        *names,
        count=len(known),
        left_out=left_out,
        gain=float(finite.mean()) if len(finite) else None,
        interval=interval,
        wins=wins,
        ties=ties,
        losses=losses,
        win_rate=(wins + ties / 2) / len(known),
        win_interval=wilson_interval(wins + ties / 2, len(known)),
        rank_biserial=rank_biserial(values),
        p=p_values[0],
        p_holm=p_values[1],
    )


def _ranked(values: np.ndarray) -> np.ndarray:
    """The gains that are known; infinite ones a little larger than the largest of the others."""
    known = values[~np.isnan(values)]
    largest = np.abs(known[np.isfinite(known)]).max(initial=0) + 1
    return np.clip(known, -largest, largest)
