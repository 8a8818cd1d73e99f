"""A whole tiny training run: it learns, it can be killed, and its model folder works."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli.errors import PhotoError, UsageError, WeightsError
from xpsr_cli.models.loading import load_components
from xpsr_cli.training.dataset import TrainingPairs, read_photos, split_photos
from xpsr_cli.training.recipe import Recipe, load_recipe
from xpsr_cli.training.train import run

TINY = [
    "data.crop_px=32",
    "data.batch_size=2",
    "data.held_out_photos=1",
    "data.held_out_ids=[]",
    "model.block_out_channels=[8, 16, 16]",
    "model.layers_per_block=1",
    "model.attention_head_dim=2",
    "model.norm_num_groups=4",
    "model.text_width=16",
    "model.text_layers=1",
    "model.pyramid_channels=[4, 4, 8]",
    "model.refiner_channels=8",
    "model.refiner_blocks=1",
    "autoencoder.fit_crops=16",
    "autoencoder.steps=2",
    "optimizer.steps=4",
    "output.save_steps=1",
    "output.keep=1",
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("xpsr-mini", TINY)


def test_the_model_that_comes_out_loads_and_can_be_started_from(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    assert run(recipe, photos, tmp_path / "first")
    components = load_components(tmp_path / "first" / "model")
    assert components.name == "xpsr-mini"
    basis = components.vae.basis
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-5)

    again = load_recipe("xpsr-mini", [*TINY, "optimizer.steps=1"])
    assert run(again, photos, tmp_path / "second", init_from=tmp_path / "first" / "model")
    assert torch.equal(load_components(tmp_path / "second" / "model").vae.basis, basis)

    other = load_recipe("xpsr-mini", [*TINY, "model.block_out_channels=[8, 8, 8]"])
    with pytest.raises(WeightsError, match="does not fit"):
        run(other, photos, tmp_path / "third", init_from=tmp_path / "first" / "model")


def test_a_run_is_not_overwritten(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    with pytest.raises(UsageError, match="already holds"):
        run(recipe, photos, tmp_path)


def test_useless_folders_are_named(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoError, match="empty"):
        run(recipe, tmp_path / "empty", tmp_path / "run")
    with pytest.raises(UsageError, match="at least 64 pixels"):
        run(load_recipe("xpsr-mini", [*TINY, "data.crop_px=64"]), photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pairs_depend_on_their_index_alone(photos: Path, recipe: Recipe) -> None:
    pairs = TrainingPairs(read_photos(photos), recipe, prompt_suffix="clean.", negative_low_prompt="clear")
    first, other, again = pairs[7], pairs[8], pairs[7]
    assert torch.equal(first["target_pm1"], again["target_pm1"])
    assert (first["high"], first["low"]) == (again["high"], again["low"])
    assert not torch.equal(first["target_pm1"], other["target_pm1"])
    assert first["target_pm1"].shape == first["enlarged_pm1"].shape == (3, 32, 32)


def test_negative_samples_are_blurred_and_say_so(photos: Path) -> None:
    def pairs(probability: float) -> TrainingPairs:
        recipe = load_recipe("xpsr-mini", [*TINY, f"data.negative_probability={probability}"])
        return TrainingPairs(read_photos(photos), recipe, prompt_suffix="clean.", negative_low_prompt="clear")

    def gradient(photo: torch.Tensor) -> float:
        return float(photo.diff(dim=-1).square().mean())

    always, never = pairs(1.0), pairs(0.0)
    assert all(gradient(always[i]["target_pm1"]) < gradient(never[i]["target_pm1"]) for i in range(5))  # type: ignore[arg-type]
    assert "clean." not in str(always[0]["high"])


def test_held_out_photos_keep_all_their_crops(photos: Path, recipe: Recipe) -> None:
    rows = ["file,photo_id,category,caption_from_filename"]
    rows += ["0.png,a,water,sea 12", "1.png,a,water,sea", "2.png,b,sky,", "3.png,c,sky,"]
    (photos / "MANIFEST.csv").write_text("\n".join(rows), encoding="utf-8")
    known = read_photos(photos)
    assert [photo.category for photo in known] == ["water", "water", "sky", "sky"]
    assert known[0].name == "sea"
    named = load_recipe("xpsr-mini", [*TINY, "data.held_out_photos=0", 'data.held_out_ids=["a"]'])
    training, held_out = split_photos(known, named)
    assert [photo.file for photo in held_out] == ["0.png", "1.png"]
    assert [photo.file for photo in training] == ["2.png", "3.png"]


def test_a_corrupt_photo_is_named_and_left_out(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n")
    assert len(read_photos(photos)) == 4
    assert "broken.png" in caplog.text
