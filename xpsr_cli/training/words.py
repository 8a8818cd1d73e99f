"""The two prompts of a training pair: what is in it (high-level) and how it is degraded (low-level).

A large XPSR gets both from a multimodal model. The shipped small one is trained on words that are true by
construction: the degradation that was drawn, and the category and file name of the photo.
"""

from __future__ import annotations

import numpy as np

from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level, level_of
from xpsr_cli.training.degradation import Degradation

CATEGORIES = (
    "water", "landscape", "plant", "building", "people", "night", "animal", "texture", "sky", "object", "vehicle",
    "text", "food", "indoor",
)  # fmt: skip
NEGATIVE_WORDS = ("blurry", "dotted", "noise", "raster lines", "unclear", "lowres", "over-smoothed")


def _say(levels: tuple[Level, ...], value: float, rng: np.random.Generator) -> str:
    words = level_of(levels, value).words
    return words[rng.integers(len(words))]


def low_prompt(drawn: Degradation, rng: np.random.Generator, phrase_dropout: float = 0.0) -> str:
    """Words for a degradation, such as ``"blurred, light noise, no compression"``, in a random order.

    Each of the three phrases is left out with probability ``phrase_dropout``, so that a text which keeps silent about
    what nobody could tell is understood as that.
    """
    parts = [_say(BLUR, drawn.blur_px, rng), _say(NOISE, drawn.noise, rng), _say(JPEG, drawn.jpeg_quality, rng)]
    if phrase_dropout:
        parts = [part for part in parts if rng.random() >= phrase_dropout]
    rng.shuffle(parts)
    return ", ".join(parts)


def high_prompt(category: str, name: str, rng: np.random.Generator) -> str:
    """Words for a photo from its category and, half the time, the words of its file name; empty where none is known.

    Nothing untrue is said of a photo of no category: it has the words of its file name alone.
    """
    if not category:
        return name
    prompt = f"a photo of {category}" if rng.random() < 0.5 else category
    return f"{prompt}, {name}" if name and rng.random() < 0.5 else prompt


def negative_prompt(rng: np.random.Generator) -> str:
    """Some of the words that name bad pictures, in a random order (negative-quality samples: SUPIR, CVPR 2024)."""
    count = rng.integers(2, len(NEGATIVE_WORDS) + 1)
    return ", ".join(rng.permutation(NEGATIVE_WORDS)[:count]) + "."
