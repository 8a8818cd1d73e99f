"""Score every picture of every method, each metric once, and go on where a run before has stopped."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xpsr_cli import __version__
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.judging import Judge, Judged, SamplesOfFiles, Task
from xpsr_cli.evaluation.methods import Method
from xpsr_cli.evaluation.metric import Metric
from xpsr_cli.evaluation.score_store import Scored, ScoreStore
from xpsr_cli.evaluation.scores import Evaluation, EvaluationSet, Missing
from xpsr_cli.progress import Progress, SilentProgress

_AT_A_TIME = 8
"""Pictures that are in memory together, and that go to a network together; twice as many while the next are read."""
_LIBRARIES = ("numpy", "scipy", "pillow", "imagecodecs", "torch")


def evaluate(
    pictures: EvaluationSet,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    missing: Sequence[Missing],
    output: Path,
    progress: Progress | None = None,
    *,
    provenance: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score the pictures of all methods.

    Args:
        pictures: what is evaluated on.
        methods: what is compared, each with its pictures.
        metrics: what is measured. One that needs large or small photos which the set does not have is listed as
            missing.
        missing: metrics that were asked for and cannot be computed here.
        output: receives ``scores.jsonl``; what stands there already is not computed again.
        progress: told of every picture.
        provenance: joins what is known of versions, metrics and methods.

    Raises:
        UsageError: no metric is left.
        PhotoError: not one picture could be scored.
    """
    metrics, missing = usable_metrics(pictures, metrics, missing)
    store = ScoreStore(output)
    judge = Judge([metric for metric in metrics if not metric.facts.whole_set], store)
    tasks = [
        Task(method.name, seed, pair, method.results[seed, pair.name])
        for pair in pictures.pairs
        for method in methods
        for seed in method.seeds
        if (seed, pair.name) in method.results
    ]
    told = progress or SilentProgress()
    scores: dict[tuple[str, int, str, str], float] = {}
    failures = [failure for method in methods for failure in method.failures]
    conversions: Counter[tuple[str, str]] = Counter()
    fit: list[Task] = []
    told.stage("scores", len(tasks))
    for judged in _judged(judge, tasks, told):
        failures += judged.failures
        if not judged.fits:
            continue
        fit.append(judged.task)
        conversions.update((judged.task.method, words) for words in judged.conversions)
        name = (judged.task.method, judged.task.seed, judged.task.pair.name)
        scores |= {(*name, key): value for key, value in judged.scores.items() if not math.isnan(value)}
    if not fit:
        reason = failures[0].reason if failures else "there is none."
        raise PhotoError(f"No picture can be scored: {reason}", "Check the folders.")
    return Evaluation(
        set=pictures,
        methods=tuple(method.name for method in methods),
        seeds={method.name: method.seeds for method in methods},
        metrics=tuple(metric.facts for metric in metrics),
        scores=scores,
        whole=_whole_sets([metric for metric in metrics if metric.facts.whole_set], methods, fit, store, told),
        results={(method.name, *place): path for method in methods for place, path in method.results.items()},
        missing=tuple(missing),
        failures=tuple(failures),
        provenance={
            **_versions(),
            "metrics": {metric.facts.key: dict(metric.provenance()) for metric in metrics},
            "methods": {method.name: dict(method.about) for method in methods},
            "conversions": [f"{count} of {name}: {words}" for (name, words), count in sorted(conversions.items())],
            **(provenance or {}),
        },
    )


def usable_metrics(
    pictures: EvaluationSet, metrics: Sequence[Metric], missing: Sequence[Missing]
) -> tuple[list[Metric], list[Missing]]:
    """The metrics that have all they compare with; the others join those that are missing.

    :class:`UsageError` if none is left.
    """
    there = {
        "hr": all(pair.hr is not None for pair in pictures.pairs),
        "lr": all(pair.lr is not None for pair in pictures.pairs),
    }
    words = {"hr": ("large originals", "xpsr eval --hr FOLDER"), "lr": ("small photos", "xpsr eval --lr FOLDER")}
    usable, lacking = [], list(missing)
    for metric in metrics:
        absent = sorted(side for side in metric.facts.needs if not there[side])
        if absent:
            what, command = words[absent[0]]
            lacking.append(Missing(metric.facts.key, f"it compares with {what}, and there are none", command))
        else:
            usable.append(metric)
    if not usable:
        first = lacking[0] if lacking else None
        reason = f": {first.name}, {first.reason.rstrip('.')}" if first else ""
        remedy = f"To get it: {first.command}. Or name" if first else "Name"
        raise UsageError(f"No metric is left to compute{reason}.", f"{remedy} others with --metrics.")
    return usable, lacking


def _judged(judge: Judge, tasks: Sequence[Task], progress: Progress) -> Iterator[Judged]:
    """Every task with its scores, in order. Files are read and plain metrics computed on all cores, a batch ahead."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    batches = [tasks[start : start + _AT_A_TIME] for start in range(0, len(tasks), _AT_A_TIME)]

    def submitted(batch: Sequence[Task]) -> list[Future[Judged]]:
        return [pool.submit(judge.look, task) for task in batch]

    try:
        ahead = submitted(batches[0]) if batches else []
        for number in range(len(batches)):
            now, ahead = ahead, submitted(batches[number + 1]) if number + 1 < len(batches) else []
            batch = []
            for future in now:
                batch.append(judge.keep(future.result()))
                progress.skip(1) if batch[-1].known_before else progress.advance()
            yield from judge.with_networks(batch)
    finally:
        pool.shutdown(cancel_futures=True)


def _whole_sets(
    metrics: Sequence[Metric], methods: Sequence[Method], fit: Sequence[Task], store: ScoreStore, progress: Progress
) -> dict[tuple[str, int, str], float]:
    """The values that all pictures of a method have together; only runs without a gap have one."""
    runs = [(method.name, seed) for method in methods for seed in method.seeds]
    values: dict[tuple[str, int, str], float] = {}
    if metrics:
        progress.stage("scores of whole sets", len(runs) * len(metrics))
    pictures = {task.pair.name for task in fit}
    for name, seed in runs if metrics else ():
        samples = SamplesOfFiles([task for task in fit if (task.method, task.seed) == (name, seed)])
        for metric in metrics:
            if len(samples) == len(pictures):
                key = samples.key(metric)
                known = store.get(key)
                if known is None:
                    (value,) = metric.score(samples)
                    known = Scored(key, float(value), about={"method": name, "seed": seed, "metric": metric.facts.key})
                    store.add([known])
                if not math.isnan(known.score):
                    values[name, seed, metric.facts.key] = known.score
            progress.advance()
    return values


def _versions() -> dict[str, str]:
    return {"xpsr": __version__, "python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
