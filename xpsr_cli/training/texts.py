"""The two texts of a training item: what is in the photo, and how it is degraded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from xpsr_cli.errors import UsageError
from xpsr_cli.training.recipe import DataRecipe
from xpsr_cli.training.training_photo import TrainingPhoto, one_line
from xpsr_cli.training.words import high_prompt

log = logging.getLogger(__name__)

_SUFFIX_PROBABILITY = 0.8


def with_captions(photos: Sequence[TrainingPhoto], captions: Mapping[str, str]) -> list[TrainingPhoto]:
    """The photos with their captions, by the SHA-256 of their files; the log says how many have none.

    A photo without one keeps the text that came with it, or has the empty one. :class:`PhotoError` if a file is gone.
    """
    texts = [one_line(captions.get(photo.picture.place.sha256(), "")) for photo in photos]
    known = [replace(photo, high=text or photo.high) for photo, text in zip(photos, texts, strict=True)]
    without = [photo.file for photo in known if not photo.high]
    if without:
        count = f"{len(without)} of {len(known)}"
        log.warning("%s photos have no caption and get the empty text, the first is %s", count, without[0])
    return known


def check_texts(photos: Sequence[TrainingPhoto]) -> None:
    """:class:`UsageError` for photos of which not one has a text."""
    if not any(photo.high for photo in photos):
        raise UsageError(
            f"data.captions is store, but none of the {len(photos)} photos has a caption there.",
            "Describe them with xpsr caption first, or set data.captions to words or none.",
        )


def high_text(photo: TrainingPhoto, captions: str, rng: np.random.Generator) -> str:
    """What is in a photo: the text it has, else with ``captions`` "words" what category and file name say of it."""
    if captions == "none":
        return ""
    if photo.high or captions == "store":
        return photo.high
    return high_prompt(photo.category, photo.name, rng)


def prompts(
    photo: TrainingPhoto, low: str, data: DataRecipe, prompt_suffix: str, rng: np.random.Generator
) -> tuple[str, str]:
    """(high, low) as they are trained on: either may be dropped, and most times quality is asked for."""
    high = "" if rng.random() < data.high_dropout else high_text(photo, data.captions, rng)
    if rng.random() < _SUFFIX_PROBABILITY:
        high = f"{high} {prompt_suffix}".strip()
    return high, "" if rng.random() < data.low_dropout else low
