"""Where a stage of a pixel cascade starts, and what its recipe may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_photos import refusal
from tiny_cascade import TINY_BASE, TINY_REFINER, TINY_SCORER, save_tiny_cascade
from torch import nn

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.pixel_cascade import BASE, JUDGE, REFINER, SCORER, PixelCascade, load_parts, save_parts
from xpsr_cli.training.detail_words import DETAIL_WORDS
from xpsr_cli.training.prior_networks import starting_prior, vocabulary
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe, ScorerRecipe, load_recipe
from xpsr_cli.training.training_photo import TrainingPhoto


def recipe(stage: str, *changes: str) -> Recipe:
    if stage == JUDGE:
        return load_recipe("xpsr-explore-scorer", [*TINY_SCORER, "model.stage=judge", *changes])
    smallest = {SCORER: TINY_SCORER, BASE: TINY_BASE, REFINER: TINY_REFINER}[stage]
    return load_recipe(f"xpsr-explore-{stage}", [*smallest, *changes])


def start(chosen: Recipe, output: Path, init_from: Path | None = None):  # noqa: ANN201
    assert isinstance(chosen.model, PriorModelRecipe | ScorerRecipe)
    return starting_prior(chosen, chosen.model, [], output, init_from and str(init_from))


def test_a_refiner_goes_with_the_words_and_the_base_of_another_run(tmp_path: Path) -> None:
    base = save_tiny_cascade(tmp_path / "base", refiner=False)
    cascade, before = start(recipe(REFINER), tmp_path, base), load_parts(base)
    assert list(cascade.unets) == [BASE, REFINER]
    assert cascade.unets[REFINER].config.in_channels == 6
    assert cascade.cards[REFINER].picture_px == 32
    assert torch.equal(cascade.text_encoder.state_dict().popitem()[1], before.text_encoder.state_dict().popitem()[1])


@pytest.mark.parametrize("stage", [BASE, REFINER, JUDGE])
def test_what_has_no_words_of_its_own_needs_a_scorer(tmp_path: Path, stage: str) -> None:
    with refusal(UsageError, "--init-from"):
        start(recipe(stage), tmp_path)


def networks(cascade: PixelCascade) -> dict[str, nn.Module]:
    return {**cascade.unets, **cascade.scorers}


@pytest.mark.parametrize("stage", [SCORER, JUDGE, BASE, REFINER])
def test_a_stage_that_is_there_is_trained_further(tmp_path: Path, stage: str) -> None:
    there = save_tiny_cascade(tmp_path / "whole")
    weights = networks(start(recipe(stage), tmp_path, there))[stage].state_dict()
    before = networks(load_parts(there))[stage].state_dict()
    assert all(torch.equal(weights[key], value) for key, value in before.items())
    larger = "model.layers=2" if stage in (SCORER, JUDGE) else "model.layers_per_block=2"
    with refusal(WeightsError, "does not fit the recipe"):
        start(recipe(stage, larger), tmp_path, there)


def test_a_scorer_gives_its_words_and_a_judge_shares_nothing_with_it(tmp_path: Path) -> None:
    cascade = start(recipe(SCORER), tmp_path)
    words = cascade.scorers[SCORER].text_model.state_dict()
    assert all(torch.equal(words[key], value) for key, value in cascade.text_encoder.state_dict().items())
    save_parts(tmp_path / "model", cascade)
    both = start(recipe(JUDGE, "seed=1"), tmp_path, tmp_path / "model")
    own = dict(both.scorers[JUDGE].named_parameters())
    assert list(both.scorers) == [SCORER, JUDGE]
    assert not any(
        torch.equal(own[name], weight)
        for name, weight in both.scorers[SCORER].named_parameters()
        if name.endswith("weight") and "norm" not in name
    )


def test_the_vocabulary_is_categories_and_words_for_detail() -> None:
    rows = [("1", "water", "blue lake"), ("2", "sky", "lake"), ("3", "", "sky")]
    photos = [TrainingPhoto("f", None, number, category, name) for number, category, name in rows]  # type: ignore[arg-type]
    assert vocabulary(photos) == ["water", "sky", "photo", *DETAIL_WORDS]
    assert vocabulary([]) == [*DETAIL_WORDS]


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
        (BASE, "model.stage=judge", "base or refiner"),
        (SCORER, "model.stage=base", "scorer or judge"),
        (SCORER, "model.patch_px=5", "whole pictures"),
        (SCORER, "data.crop_px=24", "whole pictures"),
        (SCORER, "model.width=15", "multiple of 2"),
        (SCORER, "loss.pixel_weight=1", "does not heed"),
    ],
)
def test_what_a_stage_cannot_be_or_would_not_heed_is_refused(stage: str, change: str, words: str) -> None:
    with refusal(UsageError, words):
        recipe(stage, change)
