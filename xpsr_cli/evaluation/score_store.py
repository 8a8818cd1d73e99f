"""Every score that was computed, kept in the output folder, so that it is never computed again.

``scores.jsonl`` has a line for each. Its key is a digest of the file that was scored, of the files it was compared
with, and of where the metric's numbers come from; so a score is taken again only for the very same pixels and metric.
A line that is torn counts for nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpsr_cli import __version__
from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.metric import Metric
from xpsr_cli.upscaling.records import digest

FILE = "scores.jsonl"


@dataclass(frozen=True)
class Scored:
    """One value, and what was done to the file for it (see :mod:`xpsr_cli.evaluation.scored_pictures`).

    ``about`` is for people who read the file: method, seed, picture and metric.
    """

    key: str
    score: float
    conversions: tuple[str, ...] = ()
    about: Mapping[str, Any] | None = None

    def line(self) -> bytes:
        """The value as :meth:`parse` reads it."""
        words = {"inf": "inf", "-inf": "-inf", "nan": "nan"}
        score = self.score if math.isfinite(self.score) else words[str(self.score)]
        values = {"key": self.key, **(self.about or {}), "score": score}
        if self.conversions:
            values["conversions"] = list(self.conversions)
        return json.dumps(values, allow_nan=False).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Scored | None:
        """The value in a line, if there is one."""
        try:
            values = json.loads(line)
            return cls(str(values["key"]), float(values["score"]), tuple(values.get("conversions", ())))
        except (ValueError, TypeError, KeyError):
            return None


def metric_identity(metric: Metric) -> str:
    """A digest of all that decides a metric's numbers besides the pictures."""
    return digest([metric.facts.key, dict(metric.provenance()), __version__])


def key_of(identity: str, files: Sequence[str | None]) -> str:
    """The key of the score of files, given by their hashes: the scored one first, then the large and the small one."""
    return digest([identity, list(files)])


class ScoreStore:
    """The scores of one output folder. Only one process may write to it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._scores: dict[str, Scored] = {}
        if self._path.is_file():
            with self._path.open("rb") as stream:
                for scored in filter(None, map(Scored.parse, stream)):
                    self._scores[scored.key] = scored

    def get(self, key: str) -> Scored | None:
        """The score of that key, if it was computed before."""
        return self._scores.get(key)

    def add(self, scores: Iterable[Scored]) -> None:
        """Put scores down, in one write, on lines of their own whatever a killed run has left."""
        scores = list(scores)
        if not scores:
            return
        lines = b"".join(scored.line() for scored in scores)
        try:
            with self._path.open("ab+", buffering=0) as stream:
                if stream.seek(0, os.SEEK_END):
                    stream.seek(-1, os.SEEK_END)
                    lines = lines if stream.read(1) == b"\n" else b"\n" + lines
                stream.write(lines)
        except OSError as error:
            raise PhotoError(
                f"{self._path} could not be written: {error.strerror}.", "Make room on the disk."
            ) from error
        self._scores |= {scored.key: scored for scored in scores}
