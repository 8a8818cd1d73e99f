"""How likely each level of blur, noise and compression is for a photo, given what speaks for it.

Multinomial logistic regression on :mod:`~xpsr_cli.captioning.level_evidence`, fitted to training pairs, whose true
levels are known, by ``benchmarks/fit_measured.py``; its coefficients lie beside this file.
"""

# shapes: E numbers of evidence, L levels

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from xpsr_cli.captioning.measured import LevelOdds, Odds
from xpsr_cli.photos.photo import Floats
from xpsr_cli.quality_words import JPEG, NOISE, Level, level_of

FILE = "level_odds.json"
FARTHEST = 4.0
"""Standard deviations from the mean of training pairs beyond which evidence counts no more."""


class Fit(NamedTuple):
    """``mean`` and ``scale`` (E,) of the evidence, and the coefficients (E + 1, L) of each phrase, the last constant.

    Blur has one level more than words: the softness of photos as they come from a camera, about which nothing is said.
    """

    mean: np.ndarray
    scale: np.ndarray
    blur: np.ndarray
    noise: np.ndarray
    jpeg: np.ndarray

    def standardized(self, evidence: np.ndarray) -> np.ndarray:
        """(..., E) to (..., E + 1)."""
        within = np.clip((evidence - self.mean) / self.scale, -FARTHEST, FARTHEST)
        return np.concatenate([within, np.ones_like(within[..., :1])], axis=-1)

    def odds(self, evidence: Floats) -> LevelOdds:
        """Of (E,) evidence."""
        values = self.standardized(evidence)
        blur, noise, jpeg = (softmax(values @ of)[:4].tolist() for of in (self.blur, self.noise, self.jpeg))
        return LevelOdds(tuple(blur), tuple(noise), tuple(jpeg))


def level_odds(evidence: Floats) -> LevelOdds:
    """How likely the levels of a photo with something to see in it are."""
    return _shipped().odds(evidence)


def odds_of_flat(noise: float) -> LevelOdds:
    """Of a photo without detail: what changes in it is noise, and nothing else can be told."""
    return LevelOdds(noise=_certain(NOISE, noise))


def with_jpeg_found(odds: LevelOdds, quality: float) -> LevelOdds:
    """The odds for a photo that is known to have gone through a JPEG of that quality, or a lower one."""
    if quality >= 100:
        return odds
    found = JPEG.index(level_of(JPEG, quality))
    left = [share if place <= found else 0.0 for place, share in enumerate(odds.jpeg)]
    total = sum(left)
    return odds._replace(jpeg=tuple(share / total for share in left) if total else _certain(JPEG, quality))


def _certain(levels: tuple[Level, ...], value: float) -> Odds:
    return tuple(float(level is level_of(levels, value)) for level in levels)


@cache
def _shipped() -> Fit:
    values = json.loads(files("xpsr_cli.captioning").joinpath(FILE).read_text(encoding="utf-8"))
    return Fit(**{name: np.array(numbers) for name, numbers in values.items()})
