"""What a metric is to the rest of the program: facts about it, where its numbers come from, and scores of samples."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from xpsr_cli.photos.photo import Pixels


class Better(str, Enum):
    """Which of two scores is the better one."""

    HIGHER = "higher"
    LOWER = "lower"
    NEAR_ONE = "near one"


@dataclass(frozen=True)
class MetricFacts:
    """What is known of a metric without computing it.

    ``name`` is what ``--metrics`` takes (``psnr``, ``maniqa-pipal``). ``protocol`` names the set of choices that the
    numbers depend on, ``None`` for a metric that is the same under all of them. ``needs`` says what is compared with:
    ``hr`` the large original, ``lr`` the small input; nothing for a no-reference metric. ``whole_set`` says that there
    is one value for all pictures together (FID) instead of one for each.
    """

    name: str
    label: str
    better: Better
    decimals: int
    unit: str = ""
    protocol: str | None = None
    needs: frozenset[str] = frozenset()
    whole_set: bool = False

    @property
    def key(self) -> str:
        """Its column in files: ``psnr@osediff``, ``niqe``."""
        return self.name if self.protocol is None else f"{self.name}@{self.protocol}"

    def gain(self, score: float, other: float) -> float:
        """How much better ``score`` is than ``other``; negative where it is worse."""
        if self.better is Better.HIGHER:
            return score - other
        if self.better is Better.LOWER:
            return other - score
        return abs(other - 1) - abs(score - 1)


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture to be scored, as its file says, with what it is compared with where that is there.

    ``result`` and ``hr`` have one size; ``lr`` is smaller by the scale.
    """

    name: str
    result: Pixels
    hr: Pixels | None = None
    lr: Pixels | None = None


class Metric(Protocol):
    """Scores pictures. Raises :class:`~xpsr_cli.errors.WeightsError` when made without its weights."""

    @property
    def facts(self) -> MetricFacts:
        """What it is."""

    def provenance(self) -> Mapping[str, str]:
        """Where its numbers come from: package and version, SHA-256 of its weights, choices made."""

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """One value for each sample, or a list of one value if it is of the whole set; NaN where it is undefined."""
