"""The add-on that ships, on a photo it never saw: nothing changes unasked, and the reference counts for what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.activator_names import ACTIVATORS, NONE, SPANDREL
from xpsr_cli.evaluation.metrics import METRICS, psnr
from xpsr_cli.models.loading import load_components
from xpsr_cli.models.reference_loading import load_reference
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import read_photo
from xpsr_cli.settings import Mode, UpscaleSettings
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_add_on, find_model

ROOT = Path(__file__).parents[1]
MAX_BYTES = 10 * 2**20


class Given:
    """An activator that makes the same picture of every photo."""

    identity = {"name": "given"}  # noqa: RUF012 - as the protocol has it

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def bands(self, source, scale, progress, work_folder):
        yield np.divide(self._pixels, 255, dtype=np.float32)


@pytest.fixture(scope="module")
def folder() -> Path:
    found = find_add_on(None, find_model("xpsr-mini"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def upscaler(folder: Path) -> Upscaler:
    return Upscaler.from_components(load_reference(load_components(find_model("xpsr-mini")), folder))


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    return read_photo(ROOT / "examples" / "photo.jpg").pixels


@pytest.fixture(scope="module")
def small(original: np.ndarray) -> Photo:
    height, width = original.shape[:2]
    return Photo(np.asarray(Image.fromarray(original).resize((width // 4, height // 4), Image.Resampling.BICUBIC)))


def enlarge(upscaler: Upscaler, photo: Photo, activator=None, **settings: object) -> np.ndarray:
    return upscaler.upscale(photo, UpscaleSettings(scale=4, **settings), activator=activator).photo().pixels


def test_without_being_asked_it_changes_nothing(upscaler: Upscaler, small: Photo) -> None:
    plain = Upscaler.from_components(load_components(find_model("xpsr-mini")))
    expected = enlarge(plain, small)
    assert np.array_equal(enlarge(upscaler, small), expected)
    assert np.array_equal(enlarge(upscaler, small, mode=Mode.CASSR, activate=NONE), expected)
    assert not np.array_equal(enlarge(upscaler, small, mode=Mode.CASSR), expected)


def test_a_better_reference_makes_a_better_photo_and_a_wrong_one_does_little_harm(
    upscaler: Upscaler, small: Photo, original: np.ndarray
) -> None:
    cascade = {"mode": Mode.CASSR}
    plain = psnr(enlarge(upscaler, small), original)
    given = {
        "right": original,
        "wrong": np.ascontiguousarray(original[::-1, ::-1]),  # as sharp, and of the same colours
        "enlarged": enlarge(upscaler, small, mode=Mode.ACTIVATOR, activate="bicubic"),
    }
    found = {
        name: psnr(enlarge(upscaler, small, Given(pixels), **cascade), original) for name, pixels in given.items()
    }
    assert found["right"] > found["enlarged"] + 0.3
    assert found["right"] > plain + 0.3
    assert found["wrong"] > plain - 0.3
    assert enlarge(upscaler, small, **cascade).mean() == pytest.approx(original.mean(), abs=1.0)


@pytest.mark.parametrize("name", sorted({*ACTIVATORS} - {NONE, SPANDREL}))
def test_every_activator_makes_a_photo_near_the_original(
    upscaler: Upscaler, small: Photo, original: np.ndarray, name: str
) -> None:
    made = enlarge(upscaler, small, mode=Mode.ACTIVATOR, activate=name)
    enlarged = enlarge(upscaler, small, mode=Mode.ACTIVATOR, activate="bicubic")
    assert psnr(made, original) >= psnr(enlarged, original) - 0.2
    assert METRICS["ssim"](made, original) >= METRICS["ssim"](enlarged, original)


def test_windows_show_no_more_than_without_it(upscaler: Upscaler, original: np.ndarray) -> None:
    photo = Photo(original[:160, :160])  # 640 x 640 pixels
    differences = {}
    for mode in (Mode.XPSR, Mode.CASSR):
        settings = {"mode": mode, "tile_overlap": 128}
        tiled = upscaler.upscale(photo, UpscaleSettings(scale=4, tile_size=256, verify=True, **settings))
        pixels = tiled.photo().pixels.astype(float)
        assert tiled.windows == 16
        assert tiled.seams is not None
        assert tiled.seams.index < 1.1
        differences[mode] = np.abs(pixels - enlarge(upscaler, photo, tile_size=640, **settings)).mean()
    assert 0 < differences[Mode.CASSR] < 1.1 * differences[Mode.XPSR]


def test_it_is_small_enough_to_ship_and_says_what_it_is(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MAX_BYTES
    assert "CasSR-style" in (folder / "README.md").read_text(encoding="utf-8")
