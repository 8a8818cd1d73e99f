"""The two prompts of a training pair: what is in it (high-level) and how it is degraded (low-level).

A large XPSR gets both from a multimodal model. The shipped small one is trained on words that are true by
construction: the degradation that was drawn, and the category and file name of the photo.
"""

from __future__ import annotations

import math

import numpy as np

from xpsr_cli.training.degradation import Degradation

CATEGORIES = (
    "water", "landscape", "plant", "building", "people", "night", "animal", "texture", "sky", "object", "vehicle",
    "text", "food", "indoor",
)  # fmt: skip
NEGATIVE_WORDS = ("blurry", "dotted", "noise", "raster lines", "unclear", "lowres", "over-smoothed")

# (limit, ways to say "below it"); units as in Degradation
_BLUR = (
    (0.8, ("sharp", "crisp", "in focus")),
    (1.6, ("slightly blurred", "a little soft", "slight blur")),
    (2.5, ("blurred", "soft", "moderate blur")),
    (math.inf, ("very blurred", "strongly blurred", "heavy blur")),
)
_NOISE = (
    (1.0, ("no noise", "clean", "noise-free")),
    (4.0, ("light noise", "a little noise", "fine grain")),
    (12.0, ("noise", "noisy", "visible grain")),
    (math.inf, ("heavy noise", "very noisy", "strong grain")),
)
_JPEG = (
    (50.0, ("strong compression", "heavy JPEG artifacts", "blocky")),
    (80.0, ("JPEG artifacts", "compression artifacts", "compressed")),
    (99.0, ("light compression", "slightly compressed")),
    (math.inf, ("no compression", "uncompressed")),
)


def _say(levels: tuple[tuple[float, tuple[str, ...]], ...], value: float, rng: np.random.Generator) -> str:
    words = next(words for limit, words in levels if value < limit)
    return words[rng.integers(len(words))]


def low_prompt(drawn: Degradation, rng: np.random.Generator) -> str:
    """Words for a degradation, such as ``"blurred, light noise, no compression"``, in a random order."""
    parts = [_say(_BLUR, drawn.blur_px, rng), _say(_NOISE, drawn.noise, rng), _say(_JPEG, drawn.jpeg_quality, rng)]
    rng.shuffle(parts)
    return ", ".join(parts)


def high_prompt(category: str, name: str, rng: np.random.Generator) -> str:
    """Words for a photo from its category and, half the time, the words of its file name."""
    prompt = f"a photo of {category}" if rng.random() < 0.5 else category
    return f"{prompt}, {name}" if name and rng.random() < 0.5 else prompt


def negative_prompt(rng: np.random.Generator) -> str:
    """Some of the words that name bad pictures, in a random order (negative-quality samples: SUPIR, CVPR 2024)."""
    count = rng.integers(2, len(NEGATIVE_WORDS) + 1)
    return ", ".join(rng.permutation(NEGATIVE_WORDS)[:count]) + "."
