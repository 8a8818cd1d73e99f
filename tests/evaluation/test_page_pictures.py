"""Files that browsers show go into a page byte for byte, all others as the upright 8-bit sRGB that they look like."""

import io

import numpy as np
import pytest
import tifffile
from color_difference import ciede2000, to_lab
from photos import profiles
from PIL import Image, ImageCms
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation import page_pictures
from xpsr_cli.evaluation.page_pictures import page_picture, size_on_page
from xpsr_cli.evaluation.screen_colours import on_grey

SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 6)[:, None], np.arange(0, 240, 4), 90), -1).astype(np.uint8)


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)))


@pytest.mark.parametrize(("name", "kind"), [("a.png", "png"), ("a.jpg", "jpeg"), ("a.webp", "webp")])
def test_what_browsers_show_is_kept_byte_for_byte(tmp_path, name, kind):
    path = tmp_path / name
    Image.fromarray(SMOOTH).save(path, icc_profile=profiles.display_p3())
    picture = page_picture(path)
    assert (picture.data, picture.media_type, picture.change) == (path.read_bytes(), f"image/{kind}", "")
    assert (picture.width, picture.height) == (60, 40) == picture.original_size


def test_sixteen_bits_and_tiff_become_a_png(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH.astype(np.uint16) * 257, photometric="rgb")
    picture = page_picture(path)
    assert (picture.media_type, picture.change) == ("image/png", "converted from 16 bits to 8-bit sRGB")
    assert (pixels_of(picture) == SMOOTH).all()


def test_a_wide_gamut_tiff_looks_as_pillow_shows_it(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(SMOOTH).save(path, icc_profile=profiles.adobe_rgb())
    with Image.open(path) as image:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profiles.adobe_rgb()))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), renderingIntent=intent)
    found = pixels_of(page_picture(path)).astype(int)
    assert np.abs(found - np.asarray(shown)).max() <= 2
    assert np.abs(found - SMOOTH).max() > 10


def test_inks_are_shown_in_the_colours_that_their_profile_says(tmp_path):
    path = tmp_path / "a.jpg"
    inks = np.full((32, 32, 4), (30, 120, 10, 40), np.uint8)
    Image.fromarray(inks, "CMYK").save(path, icc_profile=profiles.cmyk(), quality=100)
    picture = page_picture(path)
    assert (picture.media_type, picture.change) == ("image/png", "converted from inks to 8-bit sRGB")
    printed = to_lab(inks / np.float32(255), profiles.cmyk())
    assert ciede2000(to_lab(pixels_of(picture) / np.float32(255)), printed).max() < 1.5


def test_a_grey_profile_is_not_left_to_the_browser(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(SMOOTH[..., 0]).save(path, icc_profile=profiles.grey())
    picture = page_picture(path)
    assert picture.change == "converted to 8-bit sRGB"
    found = pixels_of(picture).astype(int)
    assert (found[..., 0] == found[..., 1]).all()
    assert 0 < np.abs(found[..., 0] - SMOOTH[..., 0]).max() < 12  # a gamma of 2.2 is near the curve of sRGB


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_what_lies_on_its_side_stands_upright(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(tmp_path / name, exif=exif, lossless=True)
    picture = page_picture(tmp_path / name)
    assert (picture.width, picture.height) == (40, 60)
    assert (pixels_of(picture) == np.rot90(SMOOTH, -1)).all()


def test_a_jpeg_is_left_to_be_turned_by_the_browser(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", exif=exif)
    picture = page_picture(tmp_path / "a.jpg")
    assert (picture.width, picture.height) == (40, 60)
    assert picture.data == (tmp_path / "a.jpg").read_bytes()


def test_transparency_stays_where_a_picture_is_converted(tmp_path):
    alpha = np.linspace(0, 255, 60, dtype=np.uint8)
    layers = np.dstack([SMOOTH, np.broadcast_to(alpha, (40, 60))])
    tifffile.imwrite(tmp_path / "a.tif", layers, photometric="rgb", extrasamples=["unassalpha"])
    assert (pixels_of(page_picture(tmp_path / "a.tif")) == layers).all()


def test_what_is_transparent_lies_on_middle_grey():
    pixels = np.array([[[200, 10, 50, 255], [200, 10, 50, 0], [228, 28, 128, 128]]], np.uint8)
    assert on_grey(pixels).tolist() == [[[200, 10, 50], [128, 128, 128], [178, 78, 128]]]
    assert on_grey(SMOOTH) is SMOOTH


def test_huge_pictures_are_reduced_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page_pictures, "MAX_PIXELS", 500)
    path = tmp_path / "a.png"
    Image.fromarray(SMOOTH).save(path)
    picture = page_picture(path)
    assert picture.original_size == (60, 40)
    assert picture.width * picture.height <= 500
    assert picture.width / picture.height == pytest.approx(1.5, rel=0.06)
    assert picture.change == f"reduced to {picture.width} x {picture.height} pixels, converted to 8-bit sRGB"
    wanted = Image.fromarray(SMOOTH).resize((picture.width, picture.height), Image.Resampling.BOX)
    apart = np.abs(pixels_of(picture).astype(int) - np.asarray(wanted))  # means of 2 x 2 first, then of the rest
    assert apart.max() < 8
    assert apart.mean() < 1.5


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((8000, 5000), (8000, 5000)),
        ((16000, 10000), (8000, 5000)),
        ((32768, 100), (16384, 50)),
        ((3, 60000), (1, 16384)),
    ],
)
def test_the_size_on_a_page(size, wanted):
    assert size_on_page(*size) == wanted


def test_a_damaged_profile_leaves_the_values_as_they_are(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(SMOOTH).save(path, icc_profile=profiles.srgb()[:200])
    assert (pixels_of(page_picture(path)) == SMOOTH).all()


def test_a_file_that_is_no_photo_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"words")
    with refusal(PhotoError, "a.png", "is not a photo"):
        page_picture(tmp_path / "a.png")
