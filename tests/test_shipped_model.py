"""The model that ships, on a photo it never saw: better than bicubic, by its diffusion, guided by its words."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.evaluation.metrics import METRICS, consistency_psnr
from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import read_photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_model

ROOT = Path(__file__).parents[1]
MAX_BYTES = 40 * 2**20


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler.from_components(load_components(find_model("xpsr-mini")))


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    return read_photo(ROOT / "examples" / "photo.jpg").pixels


@pytest.fixture(scope="module")
def small(original: np.ndarray) -> np.ndarray:
    height, width = original.shape[:2]
    return np.asarray(Image.fromarray(original).resize((width // 4, height // 4), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def bicubic(small: np.ndarray, original: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(small).resize(original.shape[1::-1], Image.Resampling.BICUBIC))


def enlarge(upscaler: Upscaler, small: np.ndarray, *, zero_latent: bool = False, **settings: object) -> np.ndarray:
    photo = Photo(pixels=small, alpha=None)
    return upscaler.upscale(photo, UpscaleSettings(scale=4, **settings), zero_latent=zero_latent).photo().pixels


@pytest.fixture(scope="module")
def enlarged(upscaler: Upscaler, small: np.ndarray) -> np.ndarray:
    return enlarge(upscaler, small)


def scores(result: np.ndarray, original: np.ndarray) -> dict[str, float]:
    return {name: metric(result, original) for name, metric in METRICS.items()}


def test_it_is_better_than_bicubic(enlarged: np.ndarray, bicubic: np.ndarray, original: np.ndarray) -> None:
    ours, theirs = scores(enlarged, original), scores(bicubic, original)
    assert ours["ssim"] > theirs["ssim"] + 0.01
    assert ours["gmsd"] < theirs["gmsd"] - 0.003
    assert theirs["gradient_ratio"] + 0.1 < ours["gradient_ratio"] < 1.1


def test_the_diffusion_does_the_work_not_the_decoder(
    upscaler: Upscaler, small: np.ndarray, enlarged: np.ndarray, bicubic: np.ndarray, original: np.ndarray
) -> None:
    sampled, zero = scores(enlarged, original), scores(enlarge(upscaler, small, zero_latent=True), original)
    plain = scores(bicubic, original)
    for name, better in {"ssim": 1, "gmsd": -1, "gradient_ratio": 1}.items():
        gain, of_decoder = (better * (values[name] - plain[name]) for values in (sampled, zero))
        told = f"{name}: bicubic {plain[name]:.4f}, zero latent {zero[name]:.4f}, sampled {sampled[name]:.4f}"
        assert gain > 0, told
        assert of_decoder < 0.3 * gain, told


def test_colours_stay_and_the_result_reduces_to_the_input(
    enlarged: np.ndarray, small: np.ndarray, original: np.ndarray
) -> None:
    assert consistency_psnr(enlarged, small) > 30
    assert enlarged.mean(axis=(0, 1)) == pytest.approx(original.mean(axis=(0, 1)), abs=1.0)


def test_guidance_is_sharpness(upscaler: Upscaler, small: np.ndarray, original: np.ndarray) -> None:
    sharpness = [
        METRICS["gradient_ratio"](enlarge(upscaler, small, guidance_scale=scale), original)
        for scale in (0.0, 1.0, 1.5)
    ]
    assert sharpness[0] + 0.05 < sharpness[1] < sharpness[2] - 0.02


def test_the_low_prompt_is_heard(upscaler: Upscaler, small: np.ndarray) -> None:
    sharp, blurred = (
        enlarge(upscaler, small, low_prompt=words).astype(float)
        for words in ("sharp, no noise, no compression", "very blurred, heavy noise, strong compression")
    )
    assert np.abs(sharp - blurred).mean() > 0.1  # in 1/255


def test_it_is_small_enough_to_ship() -> None:
    files = [path for path in find_model("xpsr-mini").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert (find_model("xpsr-mini") / "README.md").is_file()
