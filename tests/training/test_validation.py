"""Validation: the user's own sampler on photos that are not trained on, the same ones each time, and no harm done."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from large_photos import TINY_MINI, save_photos
from PIL import Image

from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.training.dataset import TrainingPhoto, read_photos
from xpsr_cli.training.held_out import MOST_PHOTOS, hold_out
from xpsr_cli.training.listeners import MetricsFile
from xpsr_cli.training.recipe import Recipe, load_recipe
from xpsr_cli.training.validation import Validation, enlarge, look_at_model, measure
from xpsr_cli.upscaling.upscaler import Upscaler


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("xpsr-mini", list(TINY_MINI))


@pytest.fixture
def photos(tmp_path: Path) -> list[TrainingPhoto]:
    return read_photos(save_photos(tmp_path / "photos", count=2, side_px=70))


def test_a_photo_is_made_small_the_same_way_each_time(photos: list[TrainingPhoto], recipe: Recipe) -> None:
    first, again = hold_out(photos, recipe), hold_out(photos, recipe)
    for one, other, photo in zip(first, again, photos, strict=True):
        assert one.large.shape == (64, 64, 3)
        assert one.small.shape == (16, 16, 3)
        assert np.array_equal(one.large, photo.pixels[:64, :64])
        assert np.array_equal(one.small, other.small)
        assert (one.high, one.low, one.scale) == (other.high, other.low, 4)
        assert len(one.low.split(", ")) == 3
        assert measure(one.enlarged, one.large)["psnr"] > 15  # it shows the same picture
    assert not np.array_equal(first[0].small, first[1].small)


def test_there_are_never_too_many_photos_nor_two_of_one(photos: list[TrainingPhoto], recipe: Recipe) -> None:
    many = [replace(photos[0], photo_id=f"{number:02}", file=f"{number}.png") for number in range(20)]
    assert [one.name for one in hold_out(many, recipe)] == [f"{number}.png" for number in range(MOST_PHOTOS)]
    crops = [replace(photo, photo_id="same") for photo in photos]
    assert [one.name for one in hold_out(crops, recipe)] == ["0.png"]


def test_captions_are_the_words_for_what_is_in_a_photo(photos: list[TrainingPhoto]) -> None:
    recipe = load_recipe("xpsr-mini", [*TINY_MINI, "data.captions=store"])
    captions = {photos[0].picture.place.sha256(): "a lighthouse\nby the sea"}
    assert [one.high for one in hold_out(photos, recipe, captions)] == ["a lighthouse by the sea", ""]


def test_a_photo_that_is_gone_is_named_and_left_out(
    tmp_path: Path, recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_photos(tmp_path / "photos", count=2)
    photos = [replace(photo, picture=replace(photo.picture, kept=None)) for photo in read_photos(folder)]
    (folder / "0.png").unlink()
    assert [one.name for one in hold_out(photos, recipe)] == ["1.png"]
    assert "0.png" in caplog.text


def test_results_are_those_of_xpsr_upscale(photos: list[TrainingPhoto], recipe: Recipe, tiny_model: Path) -> None:
    (one, *_) = hold_out(photos, recipe)
    (result,) = enlarge([one], tiny_model, "cpu")
    upscaler = Upscaler.from_components(load_components(tiny_model), "cpu")
    settings = UpscaleSettings(scale=4, prompt=one.high, low_prompt=one.low)
    assert np.array_equal(result, upscaler.upscale(Photo(pixels=one.small), settings).photo().pixels)


def test_a_validation_writes_a_sheet_and_a_line_and_no_random_number_is_taken(
    photos: list[TrainingPhoto], recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.begin("diffusion", 0, 10)
    shown = hold_out(photos, recipe)
    validation = Validation(shown, look_at_model(shown, "cpu"), tmp_path / "validation", metrics)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    validation.validate(500, tiny_model)
    assert torch.equal(torch.rand(4), expected)

    sheet = Image.open(tmp_path / "validation" / "step-000500.png")
    assert sheet.width > 3 * 64
    assert sheet.height > 2 * 64
    row = json.loads(metrics.path.read_text())
    assert (row["stage"], row["step"]) == ("diffusion", 500)
    measures = row["validation"]
    assert set(measures) == {"psnr", "ssim", "gmsd", "sharpness", "bicubic"}
    psnr = np.mean([measure(one.enlarged, one.large)["psnr"] for one in shown])
    assert measures["bicubic"]["psnr"] == pytest.approx(psnr, abs=1e-3)


def test_a_validation_that_fails_is_told_and_costs_no_training(
    photos: list[TrainingPhoto], recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    shown = hold_out(photos, recipe)
    validation = Validation(shown, look_at_model(shown), tmp_path / "validation", metrics)
    validation.validate(2, tmp_path / "nowhere")
    assert "step 2 is not validated" in caplog.text
    assert not metrics.path.exists()
    assert not (tmp_path / "validation").exists()


def test_measures_know_a_perfect_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    scores = measure(picture, picture)
    assert scores["psnr"] == float("inf")
    assert (scores["ssim"], scores["gmsd"], scores["sharpness"]) == pytest.approx((1, 0, 1))
