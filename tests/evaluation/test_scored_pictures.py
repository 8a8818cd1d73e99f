"""Pictures are scored as a viewer shows their files: 8 bits, upright, over white; what is no picture is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from evaluation_sets import scene
from PIL import Image

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.scored_pictures import read_picture


def test_eight_bits_come_as_they_are(tmp_path):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(np.dstack([every, every.T, every[::-1]])).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, np.asarray(Image.open(tmp_path / "a.png")))
    assert picture.conversions == ()
    assert picture.size == (16, 16)


def test_grey_is_three_equal_channels(tmp_path):
    Image.fromarray(scene(0)).convert("L").save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert (picture.pixels == np.asarray(Image.open(tmp_path / "a.png"))[..., None]).all()
    assert picture.conversions == ()


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [(np.uint16(32768 + 100), 128), (np.uint16(65535), 255), (np.float32(0.5), 128), (np.float32(1.0), 255)],
)
def test_more_than_eight_bits_are_rounded_and_told(tmp_path, samples, wanted):
    tifffile.imwrite(tmp_path / "a.tif", np.full((16, 20, 3), samples), photometric="rgb")
    picture = read_picture(tmp_path / "a.tif")
    assert (picture.pixels == wanted).all()
    assert picture.conversions == ("rounded to 8 bits",)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, r"pixels that are no numbers \(NaN\)")]
    + [(value, "float samples outside of 0 to 1") for value in (np.inf, -0.1, 2.0)],
)
def test_floats_that_are_no_colours_are_refused(tmp_path, value, words):
    pixels = np.full((16, 20, 3), 0.5, np.float32)
    pixels[3, 4, 1] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    with pytest.raises(PhotoError, match=rf"a\.tif has {words}"):
        read_picture(tmp_path / "a.tif")


def test_what_is_transparent_lies_over_white(tmp_path):
    pixels = np.dstack([scene(0), np.full((64, 96), 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    opaque = read_picture(tmp_path / "opaque.png")
    assert np.array_equal(opaque.pixels, scene(0))
    assert opaque.conversions == ()
    pixels[:8, :8] = (10, 20, 30, 0)
    Image.fromarray(pixels).save(tmp_path / "hole.png")
    hole = read_picture(tmp_path / "hole.png")
    assert (hole.pixels[:8, :8] == 255).all()
    assert np.array_equal(hole.pixels[8:], scene(0)[8:])
    assert hole.conversions == ("laid over white",)


def test_a_turned_photo_is_scored_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(0)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, np.rot90(scene(0), -1))
