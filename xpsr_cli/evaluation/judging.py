"""One picture at a time: read it as it is scored, check that it fits, and compute what is not known yet."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import overload

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.metric import Metric, Sample
from xpsr_cli.evaluation.metrics import PixelMetric
from xpsr_cli.evaluation.score_store import Scored, ScoreStore, key_of, metric_identity
from xpsr_cli.evaluation.scored_pictures import ScoredPicture, read_picture
from xpsr_cli.evaluation.scores import Failure, Pair
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.formats import reason


@dataclass(frozen=True)
class Task:
    """A picture of a method that is to be scored."""

    method: str
    seed: int
    pair: Pair
    path: Path

    def failure(self, why: str) -> Failure:
        """It could not be."""
        return Failure(self.method, self.seed, self.pair.name, why)


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture with the scores it has so far.

    ``sample`` is there while networks still have to see it, which ``waiting`` are. ``fits`` says that the picture
    could be read and has the right size.
    """

    task: Task
    fits: bool
    scores: dict[str, float] = field(default_factory=dict)
    conversions: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    known_before: bool = False
    new: tuple[Scored, ...] = ()
    sample: Sample | None = None
    waiting: frozenset[str] = frozenset()
    keys: dict[str, str] = field(default_factory=dict)


class Judge:
    """Scores pictures by metrics of single pictures, with a store of what was computed before.

    What is plain arithmetic (:class:`PixelMetric`) runs on all cores; other metrics are networks and take batches.
    """

    def __init__(self, metrics: Sequence[Metric], store: ScoreStore) -> None:
        self._metrics = {metric.facts.key: metric for metric in metrics}
        self._identities = {key: metric_identity(metric) for key, metric in self._metrics.items()}
        self._store = store

    def look(self, task: Task) -> Judged:
        """Read a picture and compute the plain metrics of it. May be called from several threads at once."""
        try:
            keys = self._keys(task)
            known = {name: scored for name, key in keys.items() if (scored := self._store.get(key)) is not None}
            if len(known) == len(keys) and keys:
                conversions = next(iter(known.values())).conversions
                return Judged(task, True, _values(known), conversions, known_before=True)
            sample, conversions = sample_of(task)
        except PhotoError as error:
            return Judged(task, False, failures=(task.failure(error.message),))
        except OSError as error:
            return Judged(task, False, failures=(task.failure(f"{error.filename} cannot be read: {reason(error)}."),))
        judged = Judged(task, True, _values(known), conversions, keys=keys)
        left = [name for name in keys if name not in known]
        plain = [name for name in left if isinstance(self._metrics[name], PixelMetric)]
        for name in plain:
            judged = self._alone(judged, name, sample)
        waiting = frozenset(left) - frozenset(plain)
        return replace(judged, sample=sample if waiting else None, waiting=waiting)

    def keep(self, judged: Judged) -> Judged:
        """Put down what was computed; only one thread may."""
        self._store.add(judged.new)
        return replace(judged, new=())

    def with_networks(self, batch: Sequence[Judged]) -> list[Judged]:
        """The batch with the scores of networks, which see pictures of one size together."""
        done = list(batch)
        for name, metric in self._metrics.items():
            sizes: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for place, judged in enumerate(done):
                if name in judged.waiting and judged.sample is not None:
                    sizes[judged.sample.result.shape].append(place)
            for places in sizes.values():
                samples = [sample for place in places if (sample := done[place].sample) is not None]
                try:
                    values = metric.score(samples)
                except PhotoError:  # one of them is unfit for it, and the others may not be
                    scored = [self._alone(done[place], name, one) for place, one in zip(places, samples, strict=True)]
                else:
                    scored = [_with(done[place], name, value) for place, value in zip(places, values, strict=True)]
                for place, judged in zip(places, scored, strict=True):
                    done[place] = self.keep(judged)
        return [replace(judged, sample=None, waiting=frozenset()) for judged in done]

    def _keys(self, task: Task) -> dict[str, str]:
        """What the store calls each score of a picture."""
        hashes = hashes_of(task)
        needs = {name: metric.facts.needs for name, metric in self._metrics.items()}
        return {
            name: key_of(self._identities[name], [hashes[side] for side in ("result", *sorted(needs[name]))])
            for name in self._metrics
        }

    def _alone(self, judged: Judged, name: str, sample: Sample) -> Judged:
        """With the score of a picture by itself, or the reason why it has none."""
        try:
            (value,) = self._metrics[name].score([sample])
        except PhotoError as error:
            failure = judged.task.failure(f"{name}: {error.message}")
            return replace(judged, failures=(*judged.failures, failure))
        return _with(judged, name, value)


class SamplesOfFiles(Sequence[Sample]):
    """The pictures of a whole run, each read when it is asked for: there may be more than the memory holds."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks

    def key(self, metric: Metric) -> str:
        """What the store calls the score of all of them."""
        sides = ("result", *sorted(metric.facts.needs))
        return key_of(metric_identity(metric), [hashes_of(task)[side] for task in self._tasks for side in sides])

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> SamplesOfFiles: ...

    def __getitem__(self, place: int | slice) -> Sample | SamplesOfFiles:
        if isinstance(place, slice):
            return SamplesOfFiles(self._tasks[place])
        return sample_of(self._tasks[place])[0]


def sample_of(task: Task) -> tuple[Sample, tuple[str, ...]]:
    """A picture with what it is compared with, and what was done to the file.

    :class:`PhotoError` if a file cannot be read, or the picture has not the size it should have.
    """
    result = read_picture(task.path)
    hr, lr = (None if path is None else _reference(path) for path in (task.pair.hr, task.pair.lr))
    _check_size(task, result, hr, lr)
    sample = Sample(
        task.pair.name, result.pixels, None if hr is None else hr.pixels, None if lr is None else lr.pixels
    )
    return sample, result.conversions


def hashes_of(task: Task) -> dict[str, str | None]:
    """SHA-256 of the files of a task."""
    files: Iterable[tuple[str, Path | None]] = (("result", task.path), ("hr", task.pair.hr), ("lr", task.pair.lr))
    return {side: None if path is None else hash_file(path) for side, path in files}


@lru_cache(maxsize=16)  # of several methods, one after the other
def _reference(path: Path) -> ScoredPicture:
    return read_picture(path)


def _check_size(task: Task, result: ScoredPicture, hr: ScoredPicture | None, lr: ScoredPicture | None) -> None:
    size = f"{task.path} is {result.size[0]} x {result.size[1]} pixels"
    if hr is not None and result.size != hr.size:
        raise PhotoError(f"{size}, and {task.pair.hr} is {hr.size[0]} x {hr.size[1]}.")
    if hr is None and lr is not None:
        scale = result.size[0] / lr.size[0]
        if scale < 1 or abs(lr.size[1] * scale - result.size[1]) > scale:
            raise PhotoError(f"{size}, which is no enlargement of the {lr.size[0]} x {lr.size[1]} of {task.pair.lr}.")


def _with(judged: Judged, name: str, value: float) -> Judged:
    """With a score that the store does not have yet."""
    task, score = judged.task, float(value)
    about = {"method": task.method, "seed": task.seed, "picture": task.pair.name, "metric": name}
    new = Scored(judged.keys[name], score, judged.conversions, about)
    return replace(judged, scores={**judged.scores, name: score}, new=(*judged.new, new))


def _values(known: dict[str, Scored]) -> dict[str, float]:
    return {name: scored.score for name, scored in known.items()}
