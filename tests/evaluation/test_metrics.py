"""The measures against values worked out by hand and against their known directions."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from xpsr_cli.evaluation.metrics import METRICS, consistency_psnr, psnr
from xpsr_cli.evaluation.pixel_measures import gmsd_y, gradient_ratio, luma, psnr_y, ssim_y


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((96, 96), Image.Resampling.BICUBIC))


def blurred(photo: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))


def test_luma_is_limited_range() -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    assert luma(ends).ravel() == pytest.approx([16, 235])


def test_psnr_of_a_known_error() -> None:
    a = np.full((8, 8), 100.0)
    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(a, a) == float("inf")


def test_psnr_y_of_a_grey_step(photo: np.ndarray) -> None:
    low = (photo // 2).astype(np.uint8)
    assert psnr_y(low + 1, low) == pytest.approx(48.1308 + 20 * np.log10(255 / 219), abs=1e-3)


def test_a_perfect_result_scores_perfectly(photo: np.ndarray) -> None:
    assert ssim_y(photo, photo) == pytest.approx(1)
    assert gmsd_y(photo, photo) == pytest.approx(0, abs=1e-12)
    assert gradient_ratio(photo, photo) == pytest.approx(1)


def test_blur_worsens_every_measure_monotonically(photo: np.ndarray) -> None:
    for name, metric in METRICS.items():
        values = [metric(blurred(photo, radius), photo) for radius in (1, 2, 4)]
        order = sorted(values, reverse=name != "gmsd")
        assert values == order, name


def test_consistency_compares_at_the_size_of_the_input(photo: np.ndarray) -> None:
    small = np.asarray(Image.fromarray(photo).resize((24, 24), Image.Resampling.BICUBIC))
    assert consistency_psnr(photo, small) == float("inf")
    assert consistency_psnr(255 - photo, small) < 15
