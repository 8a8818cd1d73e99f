"""Measured captions: words of the trained levels where they are likely, from a bounded number of pixels."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measured_pictures import blurred, compressed, dead_leaves, enlarged, noisy, page_of_text, to_bytes
from scipy.ndimage import gaussian_filter

from xpsr_cli.captioning.captions import Box, Caption
from xpsr_cli.captioning.measured import MEASURED_KEY, LevelOdds, MeasuredCaptioner, Measurements, quality_text
from xpsr_cli.captioning.sample_windows import MAX_WINDOWS, WINDOW_PX
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import open_photo
from xpsr_cli.quality_words import BLUR, JPEG, NOISE

EXAMPLE = Path(__file__).parents[2] / "examples" / "photo.jpg"
SURE = LevelOdds(blur=(0.9, 0.1, 0.0, 0.0), noise=(0.8, 0.1, 0.1, 0.0), jpeg=(0.0, 0.0, 0.1, 0.9))
GOOD = Measurements(
    sigma_px=0.3, noise=0.0, jpeg_quality=100.0, shadows=0.1, highlights=0.9, clipped=0.0, cast=0.0, cast_hue=0.0,
    odds=SURE,
)  # fmt: skip
CAPTIONER = MeasuredCaptioner()
KNOWN = {
    *(level.words[0] for level in (*BLUR, *NOISE, *JPEG)),
    *("", "low resolution", "underexposed", "overexposed", "low contrast"),
    *(f"{hue} colour cast" for hue in ("red", "orange", "yellow", "green", "cyan", "blue", "magenta")),
}


class CountedPhoto:
    """A photo that counts what is read of it, and gives every window the same pixels."""

    def __init__(self, width, height):
        self._tile = dead_leaves(WINDOW_PX, WINDOW_PX, 0)
        self.info = replace(Photo(self._tile).info, width=width, height=height)
        self.windows = []

    def read(self, top, left, height, width):
        assert top >= 0 <= left
        assert top + height <= self.info.height
        assert left + width <= self.info.width
        self.windows.append((top, left, height, width))
        return Photo(self._tile[:height, :width]).read(0, 0, height, width)


def text_of(pixels, alpha=None):
    """The low-level text of a photo in memory."""
    (caption,) = CAPTIONER.describe([CAPTIONER.look(Photo(pixels, alpha))])
    return caption.low


def first_words(levels):
    return {level.words[0] for level in levels}


def said(levels, text):
    """The word of one phrase that is in a text, or nothing."""
    return "".join(word for word in text.split(", ") if word in first_words(levels))


def test_a_caption_says_quality_and_nothing_of_the_content():
    with open_photo(EXAMPLE) as photo:
        look = CAPTIONER.look(photo)
    (caption,) = CAPTIONER.describe([look])
    assert caption == Caption(high="", low=quality_text(look), captioner="measured")
    assert CAPTIONER.summarize([look, look]) == ["", ""]
    assert not CAPTIONER.says_content
    assert MEASURED_KEY.name == CAPTIONER.name


def test_fur_is_not_called_noise():
    with open_photo(EXAMPLE) as photo:
        (caption,) = CAPTIONER.describe([CAPTIONER.look(photo)])
    assert said(NOISE, caption.low) in {"", "no noise"}
    assert said(BLUR, caption.low) in {"", "sharp"}
    assert said(JPEG, caption.low) == "light compression"


def test_words_come_in_the_order_of_training_and_each_phrase_once():
    picture = dead_leaves(128, 128, 3)
    for pixels in (picture, blurred(picture, 0.8), noisy(picture, 9), compressed(picture, 30)):
        text = text_of(pixels)
        words = [word for word in (said(levels, text) for levels in (BLUR, NOISE, JPEG)) if word]
        assert all(", " not in word for word in words)
        assert text.split(", ")[: len(words)] == words != []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "sharp, no noise, no compression"),
        ({"odds": SURE._replace(blur=(0.0, 0.3, 0.4, 0.3))}, "no noise, no compression"),
        ({"odds": SURE._replace(blur=(0.1, 0.2, 0.1, 0.0))}, "no noise, no compression"),
        ({"odds": SURE._replace(noise=(0.3, 0.3, 0.4, 0.0))}, "sharp, no compression"),
        ({"odds": SURE._replace(jpeg=(0.4, 0.4, 0.2, 0.0))}, "sharp, no noise"),
        ({"odds": SURE._replace(noise=(0.0, 0.1, 0.4, 0.5))}, "sharp, heavy noise, no compression"),
        ({"odds": SURE._replace(noise=(0.1, 0.1, 0.4, 0.4))}, "sharp, no compression"),
        ({"odds": SURE._replace(jpeg=(0.4, 0.55, 0.05, 0.0))}, "sharp, no noise, JPEG artifacts"),
        ({"odds": LevelOdds((0, 0.8, 0.2, 0), (0, 0.9, 0, 0.1), (0, 1, 0, 0))},
         "slightly blurred, light noise, JPEG artifacts"),
        ({"odds": LevelOdds()}, ""),
        ({"odds": LevelOdds(), "highlights": 0.3}, "underexposed"),
        ({"sigma_px": 3.0}, "sharp, no noise, no compression, low resolution"),
        ({"highlights": 0.3}, "sharp, no noise, no compression, underexposed"),
        ({"shadows": 0.7}, "sharp, no noise, no compression, overexposed"),
        ({"shadows": 0.4, "highlights": 0.6}, "sharp, no noise, no compression, low contrast"),
        ({"cast": 0.4, "cast_hue": 60.0}, "sharp, no noise, no compression, yellow colour cast"),
        ({"cast": 0.4, "cast_hue": 359.0}, "sharp, no noise, no compression, red colour cast"),
    ],
)  # fmt: skip
def test_only_what_is_likely_and_what_is_notable_is_said(changes, text):
    assert quality_text(replace(GOOD, **changes)) == text


@pytest.mark.parametrize("make", [dead_leaves, page_of_text])
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_bad_is_said_of_sharp_clean_pictures(make, seed):
    assert set(text_of(make(700, 500, seed)).split(", ")) <= {"", "sharp", "no noise", "no compression"}


def fine_texture(width, height, seed):
    """Short hairs side by side: fast changes everywhere, along one direction more than across."""
    generator = np.random.default_rng(seed)
    hairs = gaussian_filter(generator.normal(size=(height, width)), (4.0, 0.8))
    light = gaussian_filter(generator.normal(size=(height, width)), 25)
    return to_bytes(120 + 14 * hairs[..., None] / hairs.std() + 25 * light[..., None] / light.std() + np.arange(3) * 4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_texture_is_not_called_noise(seed):
    assert said(NOISE, text_of(fine_texture(512, 384, seed))) in {"", "no noise"}


def test_strong_degradations_are_named():
    for seed in range(3):
        picture = dead_leaves(256, 256, seed)
        assert said(NOISE, text_of(noisy(picture, 25))) == "heavy noise"
        assert said(JPEG, text_of(compressed(picture, 30))) == "strong compression"
        assert said(BLUR, text_of(blurred(picture, 1.5))) == "very blurred"


@pytest.mark.parametrize("factor", [3, 4])
def test_an_enlarged_picture_is_called_blurred(factor):
    text = text_of(enlarged(dead_leaves(300, 200, 1), factor))
    assert said(BLUR, text) == "very blurred"
    assert said(NOISE, text) in {"", "no noise"}
    assert said(JPEG, text) in {"", "no compression"}


def test_what_was_enlarged_a_lot_has_low_resolution():
    looks = [CAPTIONER.look(Photo(enlarged(dead_leaves(200, 200, 5), factor))) for factor in (1, 2, 4)]
    resolutions = [look.resolution for look in looks]
    assert resolutions == sorted(resolutions, reverse=True)
    assert resolutions[0] == 1
    assert "low resolution" in quality_text(looks[-1])


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8), (16, 16), (16, 900), (300, 17)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_photos_of_any_size_have_a_text(size, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = text_of(np.full((*size, 3), value, np.uint8))
    assert text == ("no noise, " + {0: "underexposed", 128: "low contrast", 255: "overexposed"}[value])


@pytest.mark.parametrize("side", [1, 5, 11, 16, 24, 40])
def test_tiny_photos_of_anything_have_a_text(side):
    generator = np.random.default_rng(side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pixels in (
            generator.integers(0, 256, (side, side, 3), dtype=np.uint8),
            dead_leaves(64, 64, side)[:side, :side],
            255 * generator.integers(0, 2, (side, side, 1)).astype(np.uint8).repeat(3, axis=2),
        ):
            assert set(text_of(pixels).split(", ")) <= KNOWN


def test_depth_does_not_matter():
    picture = noisy(dead_leaves(200, 150, 2), 5)
    deep = picture.astype(np.uint16) * 257
    assert text_of(deep) == text_of(picture) == text_of(picture.astype(np.float32) / 255)


def test_grey_photos_have_no_colour():
    grey = dead_leaves(200, 150, 2).mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    assert "cast" not in text_of(grey)


def test_what_lies_under_transparent_pixels_is_not_judged():
    picture = dead_leaves(256, 256, 4)
    hidden, alpha = picture.copy(), np.full((256, 256), 255, np.uint8)
    hidden[:, 128:] = np.random.default_rng(0).integers(0, 256, (256, 128, 3))
    alpha[:, 128:] = 0
    seen = CAPTIONER.look(Photo(hidden, alpha))
    assert seen == CAPTIONER.look(Photo(picture[:, :128]))
    assert seen != CAPTIONER.look(Photo(hidden))
    assert text_of(hidden, np.zeros_like(alpha)) == "no noise"


@pytest.mark.parametrize("size", [(512, 512), (4032, 3024), (32768, 32768), (32768, 20), (16, 60000), (600, 5000)])
def test_a_large_photo_costs_no_more_pixels_than_a_small_one(size):
    photo = CountedPhoto(*size)
    CAPTIONER.look(photo)
    assert sum(height * width for _, _, height, width in photo.windows) <= MAX_WINDOWS * WINDOW_PX**2
    assert photo.windows == sorted(photo.windows)
    last = max(top + height for top, _, height, _ in photo.windows), max(w[1] + w[3] for w in photo.windows)
    assert last == size[::-1] or min(size) < 3 * WINDOW_PX


def test_only_the_box_is_looked_at():
    photo = CountedPhoto(3000, 2000)
    CAPTIONER.look(photo, Box(1000, 700, 300, 90))
    for top, left, height, width in photo.windows:
        assert top >= 700
        assert top + height <= 790
        assert left >= 1000
        assert left + width <= 1300
    picture = dead_leaves(400, 400, 6)
    half = np.concatenate([picture[:200], blurred(picture, 2)[200:]])
    top, bottom = (CAPTIONER.look(Photo(half), Box(0, start, 400, 200)) for start in (0, 200))
    assert top.blur_px < 1 < 3 < bottom.blur_px


def test_the_same_photo_has_the_same_text():
    picture = noisy(dead_leaves(300, 300, 7), 4)
    assert CAPTIONER.look(Photo(picture)) == CAPTIONER.look(Photo(picture.copy()))


def test_the_key_is_there_without_any_library():
    program = (
        "import sys; from xpsr_cli.captioning.measured import MEASURED_KEY, MeasuredCaptioner; MeasuredCaptioner();"
        "print(MEASURED_KEY.digest, sorted({'numpy', 'scipy', 'PIL', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == [MEASURED_KEY.digest, "[]\n"]
    program = (
        "import sys; from xpsr_cli.captioning.measured import MeasuredCaptioner; import numpy;"
        "from xpsr_cli.photos.photo import Photo;"
        "MeasuredCaptioner().look(Photo(numpy.zeros((32, 32, 3), 'uint8'))); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
