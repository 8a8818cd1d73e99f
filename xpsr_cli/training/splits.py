"""Which photos are trained on and which are held out: whole photographs, never crops of one on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.training_photo import TrainingPhoto


def split_photos(photos: Sequence[TrainingPhoto], recipe: Recipe) -> tuple[list[TrainingPhoto], list[TrainingPhoto]]:
    """(training, held out): whole photographs with all their crops, some named and some drawn by the recipe's seed."""
    ids = sorted({photo.photo_id for photo in photos})
    drawn = np.random.default_rng(recipe.seed).permutation(ids)[: recipe.data.held_out_photos]
    chosen = {*drawn, *recipe.data.held_out_ids}
    return [p for p in photos if p.photo_id not in chosen], [p for p in photos if p.photo_id in chosen]
