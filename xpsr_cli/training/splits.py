"""Which photos are trained on and which are held out: whole photographs, never crops of one on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto


def split_photos(photos: Sequence[TrainingPhoto], recipe: Recipe) -> tuple[list[TrainingPhoto], list[TrainingPhoto]]:
    """(training, held out): whole photographs with all their crops, some named and some drawn by the recipe's seed."""
    ids = sorted({photo.photo_id for photo in photos})
    drawn = np.random.default_rng(recipe.seed).permutation(ids)[: recipe.data.held_out_photos]
    chosen = {*drawn, *recipe.data.held_out_ids}
    return [p for p in photos if p.photo_id not in chosen], [p for p in photos if p.photo_id in chosen]


def without_copies(
    training: Sequence[TrainingPhoto], held_out: Sequence[TrainingPhoto]
) -> tuple[list[TrainingPhoto], list[LeftOut]]:
    """(those to train on, those left out): a file that is a held-out one to the last byte is not trained on either.

    Only files as long as a held-out one are read.
    """
    lengths = {photo.picture.place.length() for photo in held_out}
    digests: dict[str, str] = {}
    if any(photo.picture.place.length() in lengths for photo in training):
        digests = {photo.picture.place.sha256(): photo.file for photo in held_out}
    kept, copies = [], []
    for photo in training:
        place = photo.picture.place
        original = digests.get(place.sha256()) if place.length() in lengths else None
        if original is None:
            kept.append(photo)
        else:
            copies.append(LeftOut(photo.file, f"It is a copy of {original}, which is held out."))
    return kept, copies
