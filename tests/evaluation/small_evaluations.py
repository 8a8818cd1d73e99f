"""Evaluations made of a few numbers, for the tests of what is said about them."""

from dataclasses import replace
from pathlib import Path

from xpsr_cli.evaluation.metric import Better, MetricFacts
from xpsr_cli.evaluation.scores import Evaluation, EvaluationSet, Pair

PSNR = MetricFacts("psnr", "PSNR", Better.HIGHER, 2, "dB", "osediff", frozenset({"hr"}))
LPIPS = MetricFacts("lpips", "LPIPS", Better.LOWER, 4, needs=frozenset({"hr"}))
SHARPNESS = MetricFacts("sharpness", "sharpness", Better.NEAR_ONE, 3, needs=frozenset({"hr"}))
FID = MetricFacts("fid", "FID", Better.LOWER, 2, whole_set=True)


def names(count: int) -> list[str]:
    return [f"picture_{index:03d}" for index in range(count)]


def evaluation_of(scores: dict, *, metrics=(PSNR,), dataset="somewhere", pictures=None, **more) -> Evaluation:
    """``scores``: a list per (method, metric) of one score per picture, or a list of those, one per seed.

    ``None`` stands for a score that is absent.
    """
    methods = tuple(dict.fromkeys(method for method, _ in scores))
    table = {key: rows if isinstance(rows[0], (list, tuple)) else [rows] for key, rows in scores.items()}
    seeds = {
        method: tuple(range(max(len(rows) for (m, _), rows in table.items() if m == method))) for method in methods
    }
    pictures = pictures or names(max(len(row) for rows in table.values() for row in rows))
    found = {
        (method, seed, picture, facts.key): value
        for (method, facts), rows in table.items()
        for seed, row in enumerate(rows)
        for picture, value in zip(pictures, row, strict=False)
        if value is not None
    }
    pairs = tuple(Pair(name, None, None) for name in pictures)
    return Evaluation(EvaluationSet(dataset, pairs, 4.0, known=dataset), methods, seeds, tuple(metrics), found, **more)


def with_files(evaluation: Evaluation, pairs, results: dict[tuple[str, int, str], Path]) -> Evaluation:
    """The same with files of pictures."""
    chosen = replace(evaluation.set, pairs=tuple(pairs))
    return Evaluation(
        chosen, evaluation.methods, evaluation.seeds, evaluation.metrics, evaluation.scores, results=results
    )
