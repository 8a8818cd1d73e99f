"""Where a stage of a pixel cascade starts, and what its recipe may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_photos import refusal
from tiny_cascade import TINY_BASE, TINY_REFINER, save_tiny_cascade

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.pixel_cascade import BASE, REFINER, load_parts
from xpsr_cli.training.prior_networks import starting_prior, vocabulary
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe, load_recipe
from xpsr_cli.training.training_photo import TrainingPhoto


def recipe(stage: str, *changes: str) -> Recipe:
    smallest = TINY_BASE if stage == BASE else TINY_REFINER
    return load_recipe(f"xpsr-explore-{stage}", [*smallest, *changes])


def start(chosen: Recipe, output: Path, init_from: Path | None = None):  # noqa: ANN201
    assert isinstance(chosen.model, PriorModelRecipe)
    return starting_prior(chosen, chosen.model, [], output, init_from and str(init_from))


def test_a_refiner_goes_with_the_words_and_the_base_of_another_run(tmp_path: Path) -> None:
    base = save_tiny_cascade(tmp_path / "base", refiner=False)
    cascade, before = start(recipe(REFINER), tmp_path, base), load_parts(base)
    assert list(cascade.unets) == [BASE, REFINER]
    assert cascade.unets[REFINER].config.in_channels == 6
    assert cascade.cards[REFINER].picture_px == 32
    assert torch.equal(cascade.text_encoder.state_dict().popitem()[1], before.text_encoder.state_dict().popitem()[1])
    with refusal(UsageError, "--init-from"):
        start(recipe(REFINER), tmp_path)


@pytest.mark.parametrize("stage", [BASE, REFINER])
def test_a_stage_that_is_there_is_trained_further(tmp_path: Path, stage: str) -> None:
    there = save_tiny_cascade(tmp_path / "whole")
    weights = start(recipe(stage), tmp_path, there).unets[stage].state_dict()
    assert all(torch.equal(weights[key], value) for key, value in load_parts(there).unets[stage].state_dict().items())
    with refusal(WeightsError, "does not fit the recipe"):
        start(recipe(stage, "model.layers_per_block=2"), tmp_path, there)


def test_the_vocabulary_is_categories_and_what_photographs_share() -> None:
    rows = [("1", "water", "blue lake"), ("1", "water", "blue dawn"), ("2", "sky", "lake"), ("3", "", "sky")]
    photos = [TrainingPhoto("f", None, number, category, name) for number, category, name in rows]  # type: ignore[arg-type]
    assert vocabulary(photos) == ["water", "sky", "photo", "lake"]


@pytest.mark.parametrize(
    ("stage", "change", "words"),
    [
        (BASE, "data.crop_px=24", "whole pictures"),
        (REFINER, "data.crop_px=40", "crops of them"),
        (BASE, "model.attention_levels=3", "there are 2 levels"),
        (BASE, "model.block_out_channels=[8, 8, 8, 8, 8, 8]", "multiples of 32"),
        (BASE, "model.norm_num_groups=5", "multiples of 5"),
        (BASE, "data.negative_probability=0.1", "does not heed"),
        (BASE, "output.validate_steps=10", "does not heed"),
        (BASE, "loss.prediction=epsilon", "does not heed"),
        (REFINER, "loss.pixel_weight=1", "does not heed"),
        (BASE, "model.stage=middle", "base, refiner"),
    ],
)
def test_what_a_stage_cannot_be_or_would_not_heed_is_refused(stage: str, change: str, words: str) -> None:
    with refusal(UsageError, words):
        recipe(stage, change)
