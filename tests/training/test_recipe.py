"""Recipes: the shipped one loads, and every mistake is named."""

from pathlib import Path

import pytest

from xpsr_cli.errors import UsageError
from xpsr_cli.training.recipe import RECIPES, load_recipe


def test_shipped_recipes_load() -> None:
    for file in RECIPES.glob("*.toml"):
        assert load_recipe(file.stem).name == file.stem


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
    ],
)
def test_a_wrong_override_is_named(override: str, named: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_recipe("xpsr-mini", [override])
    assert named in f"{raised.value.message} {raised.value.hint}"


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
