"""What an evaluation leaves behind: ``report.json``, ``per_image.csv`` and ``report.html``, each whole or absent."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from enum import Enum
from itertools import product
from pathlib import Path
from typing import Any

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation import intervals, paired, statistics
from xpsr_cli.evaluation.metric import MetricFacts
from xpsr_cli.evaluation.published import published_tables
from xpsr_cli.evaluation.report_page import report_page
from xpsr_cli.evaluation.scores import Evaluation, Pair
from xpsr_cli.evaluation.statistics import Statistics, summarise
from xpsr_cli.evaluation.tables import Cell, Table, summary_tables
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.whole_file import whole_or_absent

__all__ = ["Cell", "Table", "per_image_csv", "report_data", "summary_tables", "write_report"]

FORMAT = 1
"""Of report.json; another number when a program that reads it would have to change."""


def write_report(evaluation: Evaluation, folder: Path, *, reference: str | None = None) -> list[Path]:
    """Write the three files into ``folder``, which is made; returns their paths.

    Methods are compared with ``reference``, the first one if ``None``. Raises
    :class:`~xpsr_cli.errors.UsageError` for a reference that is none of the methods, and :class:`PhotoError` if a file
    cannot be written.
    """
    found = summarise(evaluation, reference)
    data = report_data(evaluation, found)
    texts = {
        "per_image.csv": per_image_csv(evaluation),
        "report.json": json.dumps(data, indent=2, allow_nan=False) + "\n",
        "report.html": report_page(evaluation, found),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhotoError(f"{folder} could not be made: {reason(error)}.", "Name another folder.") from error
    for name, text in texts.items():
        with whole_or_absent(folder / name) as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))  # names of files may hold what is no character
    return [folder / name for name in texts]


def per_image_csv(evaluation: Evaluation) -> str:
    """One row per method, seed and picture, one column per metric key; an empty cell where there is no score.

    Scores have all their digits, an infinite one is ``inf``. The text begins with a byte order mark: without it,
    Excel takes names for Latin-1.
    """
    keys = [facts.key for facts in evaluation.metrics if not facts.whole_set]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["method", "seed", "picture", *keys])
    for method in evaluation.methods:
        for seed in evaluation.seeds[method]:
            for pair in evaluation.set.pairs:
                found = (evaluation.scores.get((method, seed, pair.name, key), math.nan) for key in keys)
                cells = ("" if math.isnan(score) else repr(float(score)) for score in found)
                writer.writerow([method, seed, pair.name, *cells])
    return "\ufeff" + text.getvalue()


def report_data(evaluation: Evaluation, found: Statistics) -> dict[str, Any]:
    """All of the evaluation but the scores of single pictures, as JSON values in a fixed order."""
    data = {
        "format": FORMAT,
        "dataset": _dataset(evaluation),
        "methods": [{"name": method, "seeds": evaluation.seeds[method]} for method in evaluation.methods],
        "metrics": [_metric(facts) for facts in evaluation.metrics],
        "reference": found.reference,
        "statistics": _choices(),
        "summaries": [asdict(summary) for summary in found.summaries.values()],
        "comparisons": [
            {**asdict(comparison), "verdict": comparison.verdict} for comparison in found.comparisons.values()
        ],
        "best": {facts.key: found.best(facts.key) for facts in evaluation.metrics},
        "missing": [asdict(missing) for missing in evaluation.missing],
        "failures": [asdict(failure) for failure in evaluation.failures],
        "results": [
            {"method": method, "seed": seed, "picture": picture, "file": path.name, "sha256": _hash(path)}
            for method, seed, picture, path in _result_files(evaluation)
        ],
        "as_reported": [asdict(table) for table in published_tables(evaluation.set.known)],
        "provenance": evaluation.provenance,
    }
    values: dict[str, Any] = _json_values(data)
    return values


def _dataset(evaluation: Evaluation) -> dict[str, Any]:
    chosen = evaluation.set
    return {
        "name": chosen.name,
        "scale": chosen.scale,
        "about": chosen.about,
        "pictures": [_picture(pair) for pair in chosen.pairs],
    }


def _picture(pair: Pair) -> dict[str, Any]:
    files = {"lr": pair.lr, "hr": pair.hr}
    return {"name": pair.name} | {
        role: {"file": path.name, "sha256": _hash(path)} for role, path in files.items() if path is not None
    }


def _result_files(evaluation: Evaluation) -> Iterator[tuple[str, int, str, Path]]:
    """In the order of the methods and of the set: scores that were made at once come in any order."""
    for method in evaluation.methods:
        for seed, pair in product(evaluation.seeds[method], evaluation.set.pairs):
            if path := evaluation.results.get((method, seed, pair.name)):
                yield method, seed, pair.name, path


def _metric(facts: MetricFacts) -> dict[str, Any]:
    return {"key": facts.key} | asdict(facts)


def _choices() -> dict[str, Any]:
    return {
        "confidence": intervals.CONFIDENCE,
        "interval_of_means": "percentile bootstrap over pictures",
        "resamples": intervals.RESAMPLES,
        "bootstrap_seed": intervals.BOOTSTRAP_SEED,
        "interval_of_win_rates": "Wilson",
        "test": "Wilcoxon signed-rank, two-sided, on gains (positive is better)",
        "correction": "Holm, over all pairs of methods and all metrics",
        "significance": paired.SIGNIFICANCE,
        "worst_share": statistics.WORST_SHARE,
        "infinite_scores": "left out of means, spreads and intervals; the highest rank in tests",
    }


def _hash(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:  # moved away since
        return None


def _json_values(value: Any) -> Any:
    """What JSON can hold: no NaN and no infinity (null), no tuples, sets, paths or numbers of other libraries."""
    if isinstance(value, Mapping):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_json_values(item) for item in value)
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Iterable):
        return [_json_values(item) for item in value]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None
