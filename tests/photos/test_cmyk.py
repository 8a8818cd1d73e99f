"""Inks become red, green and blue and inks again, and print the same colour."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import profiles
import pytest
from color_difference import ciede2000
from PIL import Image, ImageCms
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.cmyk import CmykProfile


@pytest.fixture(scope="module")
def press():
    return CmykProfile(profiles.cmyk())


def lab(inks):
    """What inks look like: (h, w, 3), by another conversion than the one under test."""
    percent = np.ascontiguousarray(inks * np.float32(100))
    to = imagecodecs.cms_profile("lab4")
    options = {"colorspace": "cmyk", "outcolorspace": "lab", "outdtype": "float32", "intent": 1}
    return imagecodecs.cms_transform(percent, profiles.cmyk(), to, **options)


def random_inks(seed, size=64):
    return np.random.default_rng(seed).random((size, size, 4), dtype=np.float32)


@pytest.mark.parametrize("name", ["srgb", "display_p3", "adobe_rgb", "prophoto", "grey", "cmyk"])
def test_the_profiles_of_these_tests_are_valid_and_always_the_same(name):
    profile = getattr(profiles, name)()
    imagecodecs.cms_profile_validate(profile)
    read = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    space = {"grey": "GRAY", "cmyk": "CMYK"}.get(name, "RGB ")
    assert read.xcolor_space == space
    assert int.from_bytes(profile[:4], "big") == len(profile)
    assert profile[24:36] == bytes.fromhex("07d000010001000000000000")


def test_paper_is_white_and_inks_have_their_colours(press):
    inks = np.concatenate([np.zeros((1, 4)), np.eye(4)]).astype(np.float32)[None]
    paper, cyan, magenta, yellow, black = press.to_rgb(inks)[0]
    np.testing.assert_allclose(paper, 1, atol=2e-3)
    assert cyan.argmin() == 0
    assert magenta.argmin() == 1
    assert yellow.argmin() == 2
    assert np.ptp(black) < 0.01
    assert 0 < black.max() < 0.5


def test_conversion_agrees_with_pillow(press):
    inks = random_inks(0)
    stored = np.rint(inks * 255).astype(np.uint8)
    target = ImageCms.createProfile("LAB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profiles.cmyk()))
    image = Image.frombytes("CMYK", stored.shape[1::-1], stored.tobytes())
    transform = ImageCms.buildTransform(source, target, "CMYK", "LAB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    lightness = np.asarray(ImageCms.applyTransform(image, transform))[..., 0] / 2.55
    rgb = press.to_rgb(stored.astype(np.float32) / 255)
    luminance = rgb_to_luminance(rgb)
    np.testing.assert_allclose(np.maximum(lightness, 8), 116 * np.cbrt(luminance) - 16, atol=2.5)


def rgb_to_luminance(rgb):
    """Y of Rec. 2020 with the curve of sRGB, above the straight part of the lightness curve."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.maximum(linear @ [0.2627, 0.6780, 0.0593], 0.0089)


def test_there_and_back_prints_the_same_colour(press):
    inks = random_inks(1)
    again = press.to_inks(press.to_rgb(inks))
    difference = ciede2000(lab(inks), lab(again))
    assert difference.mean() <= 0.3
    assert np.percentile(difference, 99) <= 2


def test_values_have_their_types_and_ranges(press):
    rgb = press.to_rgb(random_inks(2))
    assert (rgb.dtype, rgb.shape) == (np.float32, (64, 64, 3))
    assert 0 <= rgb.min() < 0.1
    assert 0.9 < rgb.max() <= 1
    anything = np.random.default_rng(3).random((64, 64, 3), dtype=np.float32)  # most of it cannot be printed
    inks = press.to_inks(anything)
    assert (inks.dtype, inks.shape) == (np.float32, (64, 64, 4))
    assert inks.min() == 0
    assert 0.9 < inks.max() <= 1


def test_windows_and_threads_change_nothing(press):
    inks = random_inks(4)
    whole = press.to_rgb(inks)
    np.testing.assert_array_equal(press.to_rgb(inks[7:30, 5:44]), whole[7:30, 5:44])
    with ThreadPoolExecutor(4) as pool:
        for rgb in pool.map(lambda _: press.to_rgb(inks), range(8)):
            np.testing.assert_array_equal(rgb, whole)


@pytest.mark.parametrize("name", ["srgb", "grey"])
def test_a_profile_of_other_colours_is_refused(name):
    with refusal(PhotoError, "CMYK", "something else"):
        CmykProfile(getattr(profiles, name)())


@pytest.mark.parametrize("keep", [20, 128, 200, 5000, 100000])
def test_a_damaged_profile_is_refused(keep, capfd):
    with refusal(PhotoError, "CMYK", "damaged"):
        CmykProfile(profiles.cmyk()[:keep])
    assert capfd.readouterr() == ("", "")


def test_a_profile_that_knows_no_way_back_is_refused():
    one_way = profiles.cmyk()
    for tag in (b"B2A0", b"B2A1", b"B2A2"):
        one_way = one_way.replace(tag, b"none", 1)
    with refusal(PhotoError, "one way"):
        CmykProfile(one_way)


def test_nothing_is_no_profile():
    with refusal(PhotoError, "CMYK"):
        CmykProfile(b"")
