"""What a pixel cascade is trained on: whole photos made small, the same however they are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from large_photos import save_photos
from small_photos import refusal
from tiny_cascade import TINY_BASE, TINY_REFINER, TINY_SCORER

from xpsr_cli.errors import UsageError
from xpsr_cli.training.dataset import read_photos, read_source
from xpsr_cli.training.detail_words import DETAIL_WORDS
from xpsr_cli.training.prior_pictures import PriorPictures
from xpsr_cli.training.recipe import load_recipe

STAGES = {
    "scorer": ("xpsr-explore-scorer", TINY_SCORER),
    "base": ("xpsr-explore-base", TINY_BASE),
    "refiner": ("xpsr-explore-refiner", TINY_REFINER),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), 4, 64)


def pictures(photos: Path, stage: str, *changes: str) -> PriorPictures:
    name, smallest = STAGES[stage]
    return PriorPictures(read_photos(photos), load_recipe(name, [*smallest, *changes]))


@pytest.mark.parametrize("stage", STAGES)
def test_an_item_follows_from_its_number(photos: Path, stage: str) -> None:
    first, again = pictures(photos, stage)[7], pictures(photos, stage)[7]
    other = pictures(photos, stage)[8]
    for name in ("target_pm1", "enlarged_pm1"):
        assert first[name].shape == (3, 16, 16)
        assert float(first[name].abs().max()) <= 1
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_the_enlarged_picture_is_the_same_place_with_a_sixteenth_of_the_pixels(photos: Path) -> None:
    items = pictures(photos, "refiner")
    for index in range(5):
        target, enlarged = (items[index][name] for name in ("target_pm1", "enlarged_pm1"))
        blurred = torch.nn.functional.avg_pool2d(target[None], 7, 1, 3, count_include_pad=False)[0]
        assert float((enlarged - blurred).abs().mean()) < 0.3 * float((blurred - blurred.mean()).abs().mean()) + 0.05
        assert not torch.equal(enlarged, target)


def with_words(photos: Path, *changes: str) -> PriorPictures:
    items = pictures(photos, "base", *changes)
    items.photos = [replace(photo, category="water", name="holiday") for photo in items.photos]
    return items


def test_words_are_left_out_as_often_as_the_recipe_says(photos: Path) -> None:
    assert {with_words(photos, "data.high_dropout=1.0")[index]["high"] for index in range(20)} == {""}
    said = [with_words(photos, "data.high_dropout=0.0")[index]["high"] for index in range(60)]
    assert all(said)
    assert 0.4 < sum("water" in text for text in said) / len(said) < 0.95
    assert 0.2 < sum(any(word in text for word in DETAIL_WORDS) for text in said) / len(said) < 1
    assert not any("holiday" in text for text in said)


def test_a_photo_of_no_category_has_the_words_of_its_name(photos: Path) -> None:
    items = pictures(photos, "base", "data.high_dropout=0.0")
    items.photos = [replace(photo, category="", name="holiday") for photo in items.photos]
    assert any("holiday" in items[index]["high"] for index in range(20))
    items = pictures(photos, "base", "data.captions=none")
    assert {items[index]["high"] for index in range(20)} == {""}


def test_photos_that_would_have_to_be_enlarged_are_not_trained_on(tmp_path: Path) -> None:
    recipe = load_recipe("xpsr-explore-refiner", [*TINY_REFINER])
    save_photos(tmp_path / "small", 2, 24)
    with refusal(UsageError, "32 pixels"):
        read_source(tmp_path / "small", recipe)


def test_a_photo_that_is_damaged_is_replaced_and_named(photos: Path, tmp_path: Path) -> None:
    save_photos(tmp_path, 3, 64)
    recipe = load_recipe("xpsr-explore-base", [*TINY_BASE])
    found = read_source(tmp_path, recipe, memory_bytes=0).photos
    (tmp_path / "1.png").write_bytes(b"nothing")
    items = PriorPictures(found, recipe)
    for index in range(20):
        items[index]
    assert [left.file for left in items.unreadable()] == ["1.png"]
    for name in ("0.png", "2.png"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(Exception, match="100 photos in a row"):
        items[20]
