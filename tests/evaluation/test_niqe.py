"""NIQE against what published code says of the same pictures, and its known directions."""

import math
from importlib.resources import files

import numpy as np
import pytest
from niqe_pictures import PUBLISHED_CODE, made_pictures
from PIL import Image, ImageFilter
from skimage import data

from xpsr_cli.evaluation.niqe import PRISTINE, niqe, niqe_of_plane


@pytest.mark.parametrize("name", ["waves", "hills", "tiles"])
def test_made_pictures_score_as_published_code_says(name: str) -> None:
    assert niqe(made_pictures()[name]) == pytest.approx(PUBLISHED_CODE[name], rel=1e-5)


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee"])
def test_photos_score_as_published_code_says(name: str) -> None:
    photo = getattr(data, name)()
    if photo.ndim == 2:
        photo = np.repeat(photo[..., None], 3, axis=2)
    assert niqe(photo) == pytest.approx(PUBLISHED_CODE[name], rel=1e-5)


def test_blur_and_noise_are_worse() -> None:
    photo = data.astronaut()
    blurred = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2)))
    noise = np.random.default_rng(0).normal(0, 25, photo.shape)
    noisy = np.clip(photo + noise, 0, 255).astype(np.uint8)
    assert niqe(photo) < niqe(blurred)
    assert niqe(photo) < niqe(noisy)


def test_only_whole_blocks_count() -> None:
    photo = data.camera()
    assert niqe_of_plane(photo[:300, :400].astype(float)) == niqe_of_plane(photo[:288, :384].astype(float))


@pytest.mark.parametrize("shape", [(95, 500, 3), (150, 150, 3)])
def test_less_than_two_blocks_have_no_score(shape: tuple[int, int, int]) -> None:
    assert math.isnan(niqe(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)))


def test_a_flat_picture_has_no_score() -> None:
    assert math.isnan(niqe(np.zeros((300, 300, 3), np.uint8)))
    assert math.isnan(niqe(np.full((300, 300, 3), 255, np.uint8)))


def test_the_pristine_model_comes_with_its_source_and_licence() -> None:
    folder = files("xpsr_cli.evaluation")
    assert "Copyright (c) 2011 The University of Texas at Austin" in (folder / "niqe_pristine.txt").read_text()
    assert len((folder / PRISTINE).read_bytes()) < 20_000
