"""What the scores of an evaluation say: means with their uncertainty, and differences of methods on the same pictures.

Intervals hold 95 %: a percentile bootstrap of 10,000 resamples of the pictures, with a fixed seed. The scores of
several seeds are averaged for each picture first. An infinite score, the PSNR of a picture that equals its original,
counts as better than every other one, but stays out of means, spreads and intervals; how many there are is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.intervals import Interval, bootstrap_intervals
from xpsr_cli.evaluation.metric import MetricFacts
from xpsr_cli.evaluation.paired import Comparison, Scores, compare_methods
from xpsr_cli.evaluation.scores import Evaluation

WORST_SHARE = 0.05


@dataclass(frozen=True)
class Summary:
    """One metric of one method over all pictures. What cannot be told from so few pictures is ``None``.

    ``count`` pictures have a score, ``absent`` have none, ``infinite`` equal their originals. ``spread`` is the
    standard deviation between pictures; ``seed_spread`` that between the seeds of one picture, as a mean over the
    pictures (the G-STD of CCSR). ``worst`` names the worst 5 % of the pictures, the worst one first, and
    ``worst_mean`` is the mean of their scores.
    """

    method: str
    key: str
    count: int
    absent: int
    infinite: int
    mean: float | None
    spread: float | None
    interval: Interval | None
    seed_spread: float | None
    worst: tuple[str, ...] = ()
    worst_mean: float | None = None


@dataclass(frozen=True)
class Statistics:
    """All that is said of an evaluation.

    ``scores`` holds those of the pictures, ``summaries`` are by (method, metric key), ``comparisons`` by (method,
    other, metric key), every pair of methods both ways round.
    """

    reference: str
    scores: Scores
    summaries: Mapping[tuple[str, str], Summary]
    comparisons: Mapping[tuple[str, str, str], Comparison]

    def best(self, key: str) -> str | None:
        """The method that is better than each of the others under a metric, and not by chance, if there is one."""
        methods = list(dict.fromkeys(method for method, _ in self.summaries))
        for method in methods:
            against = [self.comparisons.get((method, other, key)) for other in methods if other != method]
            if against and all(found is not None and found.verdict == "better" for found in against):
                return method
        return None

    def against_reference(self, method: str, key: str) -> Comparison | None:
        """How a method does against the reference, ``None`` where they share no pictures."""
        return self.comparisons.get((method, self.reference, key))


def summarise(evaluation: Evaluation, reference: str | None = None) -> Statistics:
    """Everything that is said of the scores; methods are compared with ``reference``, the first one if ``None``.

    Raises :class:`UsageError` for a reference that is none of the methods.
    """
    reference = evaluation.methods[0] if reference is None else reference
    if reference not in evaluation.methods:
        raise UsageError(
            f"The reference {reference} is none of the methods.", f"Name one of {', '.join(evaluation.methods)}."
        )
    of_pictures = [facts for facts in evaluation.metrics if not facts.whole_set]
    pairs = [(method, facts) for method in evaluation.methods for facts in of_pictures]
    by_seed = {(method, facts.key): seed_scores(evaluation, method, facts.key) for method, facts in pairs}
    scores = {names: _row_means(table) for names, table in by_seed.items()}
    summaries: dict[tuple[str, str], Summary] = {}
    if evaluation.set.pairs and pairs:
        intervals = bootstrap_intervals(np.array(list(scores.values())).T)
        for (method, facts), interval in zip(pairs, intervals, strict=True):
            summaries[method, facts.key] = _summary(evaluation, method, facts, by_seed[method, facts.key], interval)
    for facts in evaluation.metrics:
        if facts.whole_set:
            summaries |= {(method, facts.key): _of_set(evaluation, method, facts.key) for method in evaluation.methods}
    return Statistics(reference, scores, summaries, compare_methods(evaluation.methods, of_pictures, scores))


def seed_scores(evaluation: Evaluation, method: str, key: str) -> np.ndarray:
    """(pictures, seeds) scores in the order of the set; NaN where there is none."""
    rows = [
        [evaluation.scores.get((method, seed, pair.name, key), math.nan) for seed in evaluation.seeds[method]]
        for pair in evaluation.set.pairs
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(evaluation.seeds[method]))


def _summary(
    evaluation: Evaluation, method: str, facts: MetricFacts, by_seed: np.ndarray, interval: Interval | None
) -> Summary:
    scores = _row_means(by_seed)
    finite, known = scores[np.isfinite(scores)], np.flatnonzero(~np.isnan(scores)).tolist()
    order = sorted(known, key=lambda index: facts.gain(float(scores[index]), 0.0))  # the worst comes first
    worst = order[: math.ceil(WORST_SHARE * len(order))]
    return Summary(
        method=method,
        key=facts.key,
        count=len(known),
        absent=len(scores) - len(known),
        infinite=int(np.isinf(scores).sum()),
        mean=_mean(finite),
        spread=_spread(finite),
        interval=interval,
        seed_spread=_seed_spread(by_seed),
        worst=tuple(evaluation.set.pairs[index].name for index in worst),
        worst_mean=_mean(scores[worst]),
    )


def _of_set(evaluation: Evaluation, method: str, key: str) -> Summary:
    """A metric with one value for all pictures: nothing to resample, and only seeds to differ."""
    found = np.array([evaluation.whole.get((method, seed, key), math.nan) for seed in evaluation.seeds[method]])
    values, pictures = found[np.isfinite(found)], len(evaluation.set.pairs)
    count = pictures if len(values) else 0
    return Summary(method, key, count, pictures - count, 0, _mean(values), None, None, _spread(values))


def _row_means(table: np.ndarray) -> np.ndarray:
    """(rows,) means over the columns that are no NaN."""
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.where(known, table, 0).sum(axis=1) / known.sum(axis=1)


def _seed_spread(by_seed: np.ndarray) -> float | None:
    """The mean over pictures of the standard deviation over seeds."""
    spreads = [_spread(row[np.isfinite(row)]) for row in by_seed] if by_seed.shape[1] > 1 else []
    return _mean(np.array([spread for spread in spreads if spread is not None]))


def _mean(values: np.ndarray) -> float | None:
    """``None`` for no values, and for a mean that is infinite."""
    mean = float(values.mean()) if len(values) else math.nan
    return mean if math.isfinite(mean) else None


def _spread(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
