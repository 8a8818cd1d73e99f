"""Recipes: the shipped one loads, and every mistake is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from xpsr_cli.errors import UsageError
from xpsr_cli.training.recipe import (
    CHOICES,
    RANGES,
    RECIPES,
    ExistingModelRecipe,
    MiniModelRecipe,
    PriorModelRecipe,
    ReferenceRecipe,
    ScorerRecipe,
    StableDiffusionRecipe,
    TunerRecipe,
    load_recipe,
)

SHIPPED = (
    "finetune",
    "xpsr-explore-base",
    "xpsr-explore-refiner",
    "xpsr-explore-scorer",
    "xpsr-mini",
    "xpsr-mini-cassr",
    "xpsr-mini-scedit",
    "xpsr-mini-smoke",
    "xpsr-sd15",
    "xpsr-sd21",
)


def test_these_recipes_ship_and_load() -> None:
    assert tuple(sorted(file.stem for file in RECIPES.glob("*.toml"))) == SHIPPED
    for name in SHIPPED:
        assert name.startswith(load_recipe(name).name)  # the stages of one model have one name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("xpsr-mini", MiniModelRecipe),
        ("xpsr-mini-smoke", MiniModelRecipe),
        ("xpsr-mini-cassr", ReferenceRecipe),
        ("xpsr-mini-scedit", TunerRecipe),
        ("xpsr-sd15", StableDiffusionRecipe),
        ("xpsr-sd21", StableDiffusionRecipe),
        ("finetune", ExistingModelRecipe),
        ("xpsr-explore-base", PriorModelRecipe),
        ("xpsr-explore-refiner", PriorModelRecipe),
        ("xpsr-explore-scorer", ScorerRecipe),
    ],
)
def test_the_kind_of_model_is_told_by_its_keys(name: str, kind: type) -> None:
    assert type(load_recipe(name).model) is kind


def test_the_paper_s_recipe_has_the_paper_s_numbers() -> None:
    recipe = load_recipe("xpsr-sd15")
    data, loss, optimizer = recipe.data, recipe.loss, recipe.optimizer
    assert (data.crop_px, data.degradations, data.sharpen_target, data.clean_condition) == (
        512,
        {"xpsr": 1},
        True,
        0.1,
    )
    assert 8 * data.batch_size * optimizer.accumulation == 32
    assert (loss.prediction, loss.degradation_pixel_weight, loss.degradation_latent_weight) == ("epsilon", 0.05, 0.05)
    assert (loss.pixel_weight, loss.latent_weight, loss.last_timestep_probability) == (0, 1, 0)
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adamw", 5e-5, 1e-2)
    assert (optimizer.max_grad_norm, optimizer.schedule, optimizer.warmup_steps) == (1, "constant", 500)


def test_the_other_base_differs_where_it_must_and_nowhere_else() -> None:
    paper, other = load_recipe("xpsr-sd15"), load_recipe("xpsr-sd21")
    assert (other.data, other.output, other.seed) == (paper.data, paper.output, paper.seed)
    assert replace(other.loss, prediction="epsilon") == paper.loss
    assert replace(other.optimizer, mixed_precision="fp16") == paper.optimizer


def test_what_ships_is_trained_further_as_it_was_trained() -> None:
    first, further = load_recipe("xpsr-mini"), load_recipe("finetune")
    assert further.loss == first.loss
    apart = {"held_out_photos": 4, "held_out_ids": [], "crops_per_reading": 8}
    assert further.data == replace(first.data, **apart)


def test_archives_are_not_read_anew_for_every_crop() -> None:
    for name in ("finetune", "xpsr-sd15", "xpsr-sd21"):
        assert load_recipe(name).data.crops_per_reading == 8


def test_what_is_said_of_keys_is_of_keys_that_exist() -> None:
    def known(value: object, key: str) -> bool:
        for part in key.split("."):
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True

    recipes = [load_recipe(name) for name in SHIPPED]
    assert [key for key in (*CHOICES, *RANGES) if not any(known(recipe, key) for recipe in recipes)] == []


def test_overrides_win_and_keep_their_type() -> None:
    recipe = load_recipe("xpsr-mini", ["optimizer.learning_rate=1", "data.crop_px=64", "name=mine"])
    assert recipe.optimizer.learning_rate == 1.0
    assert isinstance(recipe.optimizer.learning_rate, float)
    assert recipe.data.crop_px == 64
    assert recipe.name == "mine"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.learnin_rate=1", "optimizer.learnin_rate"),
        ("data.crop_px=large", "data.crop_px"),
        ("data.crop_px=1.5", "data.crop_px"),
        ("model.block_out_channels=[1, 'x']", "model.block_out_channels"),
        ("data=3", "data"),
        ("nothing", "nothing"),
        ("seed.deeper=1", "seed"),
        ("loss.prediction=x0", "loss.prediction"),
        ("optimizer.schedule=linear", "cosine, constant"),
        ("data.degradations={light = 0.5}", "add up to 1"),
        ("data.degradations=light", "data.degradations"),
        ("model.fusion=parallel", "model.fusion"),
        ("data.batch_size=0", "1 to 4096"),
        ("data.high_dropout=1.5", "0 to 1"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate"),
        ("optimizer.steps=0", "optimizer.steps"),
        ("optimizer.max_grad_norm=0", "optimizer.max_grad_norm"),
        ("data.crop_px=100", "multiple of 8"),
        ("seed=-1", "seed"),
        ("data.crop_px=8", "16 to 4096"),
        ("model.attention_head_dim=0", "model.attention_head_dim"),
        ("model.attention_head_dim=5", "model.attention_head_dim = 5"),
        ("model.norm_num_groups=7", "model.norm_num_groups = 7"),
        ("model.block_out_channels=[]", "model.block_out_channels"),
        ("model.block_out_channels=[48, -96]", "-96"),
        ("model.text_width=95", "model.text_width"),
        ("model.layers_per_block=0", "model.layers_per_block"),
        ("model.refiner_channels=0", "model.refiner_channels"),
        ("model.latent_channels=49", "48 values"),
        ("model.block_size=3", "model.block_size is 3"),
        ("model.pyramid_channels=[8, 16]", "2 entries"),
        ("data.degradations={light = true}", "data.degradations"),
        ("=3", "Unknown recipe key ''"),
        ("data..crop_px=3", "'data.'"),
        ("data.crop_px=32\nseed=3", "data.crop_px"),
        ("name=", "name"),
        ("name=my\nmodel", "name"),
    ],
)
def test_a_wrong_override_is_named(override: str, named: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_recipe("xpsr-mini", [override])
    assert named in f"{raised.value.message} {raised.value.hint}"


def test_stage_one_belongs_to_small_models_of_their_own(tmp_path: Path) -> None:
    mini = (RECIPES / "xpsr-mini.toml").read_text(encoding="utf-8")
    without = mini[: mini.index("[autoencoder]")] + mini[mini.index("[loss]") :]
    (tmp_path / "without.toml").write_text(without, encoding="utf-8")
    with pytest.raises(UsageError, match="no \\[autoencoder\\]"):
        load_recipe(str(tmp_path / "without.toml"))
    stage_one = ["autoencoder.fit_crops=1", "autoencoder.steps=1", "autoencoder.learning_rate=1"]
    with pytest.raises(UsageError, match="an \\[autoencoder\\]"):
        load_recipe("finetune", stage_one)


def test_a_missing_recipe_lists_those_that_ship() -> None:
    with pytest.raises(UsageError) as raised:
        load_recipe("xpsr-max")
    assert "xpsr-max" in raised.value.message
    assert "xpsr-mini" in raised.value.hint


def test_broken_toml_and_missing_keys_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.toml"):
        load_recipe(str(tmp_path / "broken.toml"))
    (tmp_path / "short.toml").write_text('name = "short"', encoding="utf-8")
    with pytest.raises(UsageError, match="seed"):
        load_recipe(str(tmp_path / "short.toml"))
