"""What an evaluation found: every score of every picture, and what is needed to believe and to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpsr_cli.evaluation.metric import MetricFacts


@dataclass(frozen=True)
class Pair:
    """A small photo and its large original, by the name they share; one of them may be absent."""

    name: str
    lr: Path | None
    hr: Path | None


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures to evaluate on, in the order of their names."""

    name: str
    pairs: tuple[Pair, ...]
    scale: float | None  # None where there are no pairs to tell it from
    about: Mapping[str, str] = field(default_factory=dict)  # folders, counts, degradation and seed, SHA-256 of files
    known: str | None = None  # the named set of the field that these are pictures of, in the version papers use


@dataclass(frozen=True)
class Missing:
    """A metric that was asked for and cannot be computed here: why, and the command that helps."""

    name: str
    reason: str
    command: str


@dataclass(frozen=True)
class Failure:
    """A picture of a method that could not be scored."""

    method: str
    seed: int
    picture: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """The result of one ``xpsr eval``.

    ``scores`` holds values by (method, seed, picture, metric key); what failed or is undefined is absent. ``whole``
    holds those of whole sets by (method, seed, metric key). ``results`` holds the file of every picture by (method,
    seed, picture). The first method is the one that others are compared with unless the caller names another.
    """

    set: EvaluationSet
    methods: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]  # of each method; (0,) where there is nothing random
    metrics: tuple[MetricFacts, ...]
    scores: Mapping[tuple[str, int, str, str], float]
    whole: Mapping[tuple[str, int, str], float] = field(default_factory=dict)
    results: Mapping[tuple[str, int, str], Path] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    failures: tuple[Failure, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions, metric provenance, the command line
