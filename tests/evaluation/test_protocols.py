"""Protocols against an independent implementation, and against hand-made cases for each of their choices."""

import math

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.pixel_measures import luma, protocol_psnr, protocol_ssim, psnr, ssim
from xpsr_cli.evaluation.protocols import PROTOCOLS, protocol_named

Pair = tuple[np.ndarray, np.ndarray]
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


@pytest.fixture(scope="module")
def pair() -> Pair:
    """An enlarged photo with noise, and its original."""
    original = data.astronaut()[60:260, 100:324]
    small = Image.fromarray(original).resize((56, 50), Image.Resampling.BICUBIC)
    enlarged = np.asarray(small.resize((224, 200), Image.Resampling.BICUBIC)).astype(float)
    noise = np.random.default_rng(1).normal(0, 4, enlarged.shape)
    return np.clip(np.round(enlarged + noise), 0, 255).astype(np.uint8), original


def test_rgb_is_as_scikit_image_has_it(pair: Pair) -> None:
    psnr_there = peak_signal_noise_ratio(pair[1], pair[0], data_range=255)
    assert protocol_psnr(*pair, PROTOCOLS["rgb"]) == pytest.approx(psnr_there, abs=1e-6)
    ssim_there = structural_similarity(*pair, channel_axis=2, **WANG)
    assert protocol_ssim(*pair, PROTOCOLS["rgb"]) == pytest.approx(ssim_there, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
def test_classic_is_as_scikit_image_has_it_on_cropped_luma(pair: Pair, scale: int) -> None:
    crop = PROTOCOLS["classic"].crop_px(scale)
    assert crop == scale
    planes = [luma(photo)[crop:-crop, crop:-crop] for photo in pair]
    psnr_there = peak_signal_noise_ratio(*planes, data_range=255)
    assert protocol_psnr(*pair, PROTOCOLS["classic"], crop) == pytest.approx(psnr_there, abs=1e-6)
    ssim_there = structural_similarity(*planes, **WANG)
    assert protocol_ssim(*pair, PROTOCOLS["classic"], crop) == pytest.approx(ssim_there, abs=1e-6)


def test_osediff_compares_luma_for_psnr_and_rounded_luma_for_ssim(pair: Pair) -> None:
    planes = [luma(photo) for photo in pair]
    error = 10 ** (-peak_signal_noise_ratio(*planes, data_range=255) / 10)
    assert protocol_psnr(*pair, PROTOCOLS["osediff"]) == pytest.approx(-10 * math.log10(error + 1e-8), abs=1e-6)
    rounded = [np.round(plane) for plane in planes]
    _, windows = structural_similarity(*rounded, full=True, **WANG)
    clamped = np.maximum(windows[5:-5, 5:-5], 0)  # what luminance is multiplied with has the sign of the product
    ssim_there = clamped.mean()
    assert protocol_ssim(*pair, PROTOCOLS["osediff"]) == pytest.approx(ssim_there, abs=1e-6)
    assert ssim_there != pytest.approx(structural_similarity(*rounded, **WANG), abs=1e-6)
    assert ssim_there != pytest.approx(structural_similarity(*planes, **WANG), abs=1e-6)


def test_clamping_raises_only_where_structure_is_opposite() -> None:
    plane = np.random.default_rng(2).uniform(90, 160, (40, 40))
    opposite = 250 - plane
    assert structural_similarity(plane, opposite, **WANG) < 0
    assert ssim(plane, opposite) == pytest.approx(structural_similarity(plane, opposite, **WANG), abs=1e-6)
    assert 0 <= ssim(plane, opposite, clamped=True) < 0.01


@pytest.mark.parametrize("name", ["osediff", "xpsr"])
def test_psnr_as_pyiqa_has_it_ends_at_80_db(pair: Pair, name: str) -> None:
    assert protocol_psnr(pair[1], pair[1], PROTOCOLS[name]) == pytest.approx(80)
    assert protocol_psnr(pair[1], pair[1], PROTOCOLS["classic"]) == math.inf
    lower = protocol_psnr(*pair, PROTOCOLS["classic"]) - protocol_psnr(*pair, PROTOCOLS[name])
    error = np.mean((luma(pair[0]) - luma(pair[1])) ** 2) / 255**2
    assert lower == pytest.approx(10 * math.log10(1 + 1e-8 / error), rel=1e-3)


def test_ssim_is_the_same_in_the_paper_and_in_osediff(pair: Pair) -> None:
    assert protocol_ssim(*pair, PROTOCOLS["xpsr"]) == protocol_ssim(*pair, PROTOCOLS["osediff"])


def test_what_is_cropped_does_not_count(pair: Pair) -> None:
    result = pair[0].copy()
    result[:4] = 0
    result[:, -4:] = 255
    for measure in (protocol_psnr, protocol_ssim):
        assert measure(result, pair[1], PROTOCOLS["classic"], 4) == measure(*pair, PROTOCOLS["classic"], 4)
        assert measure(result, pair[1], PROTOCOLS["osediff"]) < measure(*pair, PROTOCOLS["osediff"])


def test_nothing_left_to_compare_has_no_value() -> None:
    small = np.zeros((8, 8, 3), np.uint8)
    assert math.isnan(protocol_psnr(small, small, PROTOCOLS["classic"], 4))
    assert math.isnan(protocol_ssim(small, small, PROTOCOLS["osediff"]))
    assert math.isnan(psnr(small[:0], small[:0]))


def test_each_protocol_says_its_choices() -> None:
    described = {name: protocol.describe() for name, protocol in PROTOCOLS.items()}
    assert len({tuple(sorted(choices.items())) for choices in described.values()}) == len(PROTOCOLS)
    assert described["osediff"]["MANIQA"] == "maniqa-pipal"
    assert described["xpsr"]["MANIQA"] == "maniqa-koniq"
    assert "1e-08" in described["xpsr"]["PSNR"]
    assert "1e-08" in described["osediff"]["PSNR"]
    assert "clamped at 0" in described["osediff"]["SSIM"]
    assert "cropped" in described["classic"]["border"]
    assert described["rgb"]["channels"].startswith("RGB")


def test_cropping_needs_the_scale() -> None:
    with pytest.raises(ValueError, match="scale"):
        PROTOCOLS["classic"].crop_px(None)
    assert PROTOCOLS["classic"].crop_px(2.5) == 3
    assert PROTOCOLS["rgb"].crop_px(None) == 0


def test_unknown_protocols_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'matlab'") as refusal:
        protocol_named("matlab")
    assert "osediff, xpsr, classic, rgb" in refusal.value.hint
