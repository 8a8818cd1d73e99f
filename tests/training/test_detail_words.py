"""Words for detail are true of pictures made to have it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from xpsr_cli.training.detail_words import COARSE, DETAILED, FINE, HORIZONTAL, SMOOTH, VERTICAL, detail_words


def words(brightness: np.ndarray) -> list[str]:
    picture = Image.fromarray(brightness.clip(0, 255).astype(np.uint8)).convert("RGB")
    smaller = picture.resize((picture.width // 4, picture.height // 4), Image.Resampling.BICUBIC)
    return detail_words(picture, smaller.resize(picture.size, Image.Resampling.BILINEAR))


def noise(spread: float, sigma: float = 0.0) -> np.ndarray:
    grains = gaussian_filter(np.random.default_rng(0).normal(0, 1, (64, 64)), sigma)
    return 128 + spread * grains / grains.std()


def stripes(period: int, spread: float = 40.0) -> np.ndarray:
    return 128 + spread * np.sin(2 * np.pi * np.arange(64) / period)[:, None] * np.ones(64)


@pytest.mark.parametrize("side", [16, 64])
def test_an_even_picture_is_smooth_and_nothing_else(side: int) -> None:
    assert words(np.full((side, side), 200.0)) == [SMOOTH]


def test_noise_is_detailed_and_fine_or_coarse_by_the_size_of_its_grains() -> None:
    assert words(noise(40)) == [DETAILED, FINE]
    assert words(noise(40, 1.0)) == [DETAILED, COARSE]
    assert SMOOTH in words(noise(5))


@pytest.mark.parametrize("period", [3, 4, 6])
def test_stripes_are_lines_in_their_direction(period: int) -> None:
    assert HORIZONTAL in words(stripes(period))
    assert VERTICAL in words(stripes(period).T)


def test_what_a_small_picture_still_shows_is_no_detail() -> None:
    ramp = np.linspace(0, 255, 64)[:, None] * np.ones(64)
    assert words(ramp) == [SMOOTH]
