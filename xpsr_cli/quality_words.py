"""The words for how a photo is degraded: those that training pairs carry, and those that are measured off a photo.

A model follows a low-level prompt only in the words it was trained on, so both sides take them from here. Standard
library only.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Level(NamedTuple):
    """A range of a measure, from the limit of the level before it up to ``below``, and ways to say it."""

    below: float
    words: tuple[str, ...]  # the first is the plainest


BLUR = (
    Level(0.8, ("sharp", "crisp", "in focus")),
    Level(1.6, ("slightly blurred", "a little soft", "slight blur")),
    Level(2.5, ("blurred", "soft", "moderate blur")),
    Level(math.inf, ("very blurred", "strongly blurred", "heavy blur")),
)
"""Standard deviation of the blur, in pixels of the photo enlarged four times: a quarter of it in its own pixels."""
NOISE = (
    Level(1.0, ("no noise", "clean", "noise-free")),
    Level(4.0, ("light noise", "a little noise", "fine grain")),
    Level(12.0, ("noise", "noisy", "visible grain")),
    Level(math.inf, ("heavy noise", "very noisy", "strong grain")),
)
"""Standard deviation of the noise, in 1/255 of the photo's own pixels."""
JPEG = (
    Level(50.0, ("strong compression", "heavy JPEG artifacts", "blocky")),
    Level(80.0, ("JPEG artifacts", "compression artifacts", "compressed")),
    Level(99.0, ("light compression", "slightly compressed")),
    Level(math.inf, ("no compression", "uncompressed")),
)
"""Lowest JPEG quality the photo went through (libjpeg's scale); 100 without JPEG."""


def level_of(levels: tuple[Level, ...], value: float) -> Level:
    """The level that ``value`` lies in."""
    return next(level for level in levels if value < level.below)
