"""Every file is read exactly, or refused in one sentence."""

from __future__ import annotations

import io
import os
import warnings

import imagecodecs
import numpy as np
import profiles
import pytest
import tifffile
from PIL import Image, ImageOps
from small_photos import EXTENSIONS, camera_exif, png_header, refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.cmyk import CmykProfile
from xpsr_cli.photos.photo import Depth
from xpsr_cli.photos.source import open_photo, read_photo
from xpsr_cli.photos.stored import MAX_STREAMED_PIXELS, MAX_WHOLE_PIXELS

TIFF_CODECS = ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "jpeg")


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read_or_refuse(path):
    """The photo, or ``None`` after a proper refusal."""
    try:
        return read_photo(path)
    except PhotoError as error:
        failure = error
    assert str(path) in failure.message
    return None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_orientation_is_applied_once(tmp_path, pixels, extension, orientation):
    path = tmp_path / f"photo{extension}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, lossless=True, dpi=(100, 200))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.size == ((40, 24) if orientation < 5 else (24, 40))
    if extension != ".webp":
        assert np.allclose(photo.metadata.dpi, (100, 200) if orientation < 5 else (200, 100), atol=0.01)


def test_orientation_in_xmp_counts_only_without_one_in_exif(tmp_path, pixels):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" tiff:ImageWidth="40"/></x:xmpmeta>'
    Image.fromarray(pixels).save(tmp_path / "xmp.webp", xmp=xmp, lossless=True)
    photo = read_photo(tmp_path / "xmp.webp")
    np.testing.assert_array_equal(photo.pixels, np.rot90(pixels, -1))
    assert b'tiff:Orientation="1"' in photo.metadata.xmp
    upright = camera_exif(orientation=1)
    Image.fromarray(pixels).save(tmp_path / "both.webp", xmp=xmp, exif=upright, lossless=True)
    np.testing.assert_array_equal(read_photo(tmp_path / "both.webp").pixels, pixels)


@pytest.mark.parametrize("codec", TIFF_CODECS)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "YCbCr"])
def test_tiff_of_every_kind_is_read_as_pillow_reads_it(tmp_path, pixels, mode, codec):
    if codec == "jpeg" and mode in ("1", "P"):
        pytest.skip("JPEG holds neither")
    path = tmp_path / "photo.tif"
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).convert(mode).save(path, compression=codec)
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"))
    photo = read_photo(path)
    # libtiff and Pillow round the way from YCbCr to RGB differently.
    np.testing.assert_allclose(photo.pixels.astype(int), rgba[..., :3], atol=int(mode == "YCbCr"))
    assert photo.grey == (mode in ("1", "L", "LA"))
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(photo.alpha, rgba[..., 3])
    else:
        assert photo.alpha is None


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff_of_every_layout(tmp_path, pixels, tile, planar, big):
    samples = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, samples, photometric="rgb", planarconfig=planar, tile=tile, bigtiff=big, byteorder=">")
    np.testing.assert_array_equal(read_photo(path).pixels, pixels)


def test_tiff_where_white_is_zero_and_with_four_bits(tmp_path):
    values = np.arange(16, dtype=np.uint8)[None].repeat(16, axis=0)
    tifffile.imwrite(tmp_path / "white.tif", values * 17, photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "white.tif").pixels[..., 1], 255 - values * 17)
    tifffile.imwrite(tmp_path / "four.tif", values, photometric="minisblack", bitspersample=4)
    np.testing.assert_array_equal(read_photo(tmp_path / "four.tif").pixels[..., 1], values * 17)


def test_premultiplied_tiff_gets_its_colours_back(tmp_path, pixels):
    alpha = np.linspace(1, 255, 24 * 40).astype(np.uint8).reshape(24, 40)
    stored = np.rint(pixels * (alpha[..., None] / 255)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([stored, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.alpha, alpha)
    assert np.abs(photo.pixels.astype(int) - pixels)[alpha > 200].max() <= 1


def test_reduced_copies_and_masks_behind_the_picture_do_not_count(tmp_path, pixels):
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as tiff:
        tiff.write(pixels, photometric="rgb")
        tiff.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_photo(tmp_path / "pyramid.tif").pixels, pixels)


@pytest.mark.parametrize("extension", [".png", ".webp", ".tif"])
def test_alpha_is_kept_with_the_colours_under_it(tmp_path, pixels, extension):
    rgba = np.dstack([pixels, pixels[..., 0]])
    rgba[:4, :, 3] = 0
    path = tmp_path / f"photo{extension}"
    Image.fromarray(rgba).save(path, lossless=True, exact=True)
    photo = read_photo(path)
    np.testing.assert_array_equal(np.dstack([photo.pixels, photo.alpha]), rgba)
    assert photo.transparent


def test_transparency_of_palettes_and_of_single_colours(tmp_path, pixels):
    colours = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    colours.save(tmp_path / "palette.png", transparency=bytes([0, 128, 255]))
    photo = read_photo(tmp_path / "palette.png")
    index = np.asarray(colours)
    assert not photo.grey
    np.testing.assert_array_equal(photo.alpha, np.where(index == 0, 0, np.where(index == 1, 128, 255)))
    np.testing.assert_array_equal(photo.pixels, np.asarray(colours.convert("RGB")))
    grey = Image.fromarray(pixels[..., 0])
    grey.save(tmp_path / "key.png", transparency=int(pixels[3, 3, 0]))
    keyed = read_photo(tmp_path / "key.png")
    assert keyed.grey
    np.testing.assert_array_equal(keyed.alpha == 0, pixels[..., 0] == pixels[3, 3, 0])


def test_a_jpeg_with_further_pictures_is_its_first_one(tmp_path, pixels):
    first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1])
    first.save(tmp_path / "preview.jpg", "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    photo = read_photo(tmp_path / "preview.jpg")
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 2


def test_content_decides_not_the_extension(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "really_a_png.jpg", "PNG")
    np.testing.assert_array_equal(read_photo(str(tmp_path / "really_a_png.jpg")).pixels, pixels)


def test_missing_empty_folder_and_foreign_files(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture at all")
    (tmp_path / "moving.png").write_bytes(encoded(Image.new("L", (32, 32)), "GIF"))
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name, why in (
        ("nowhere.png", "does not exist"),
        ("folder.png", "is a folder"),
        ("empty.png", "0 bytes"),
        ("text.png", "not a photo"),
        ("moving.png", "GIF"),
        ("loop.png", "does not exist"),
        ("x" * 300, "name too long"),
        ("nul\0.png", ""),
    ):
        with refusal(PhotoError, tmp_path / name, why):
            read_photo(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with refusal(PhotoError, "pipe.png", "no regular file"):
        read_photo(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 90}),
        ("WEBP", {"lossless": True}),
        *(("TIFF", {"compression": c}) for c in TIFF_CODECS),
    ],
)
def test_a_file_cut_short_anywhere_is_refused_or_whole(tmp_path, pixels, kind, options, capfd):
    whole = encoded(Image.fromarray(pixels), kind, **options)
    path = tmp_path / "cut"
    path.write_bytes(whole)
    expected = read_photo(path).pixels
    for length in range(1, len(whole), 23):
        path.write_bytes(whole[:length])
        photo = read_or_refuse(path)
        if photo is not None:
            np.testing.assert_array_equal(photo.pixels, expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_damage_never_raises_anything_else_and_says_nothing_by_itself(tmp_path, pixels, extension, capfd):
    path = tmp_path / f"photo{extension}"
    Image.fromarray(pixels).save(path, exif=camera_exif(), lossless=True)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in random.integers(0, min(len(whole), 900), random.integers(1, 6)):
            damaged[at] = random.choice([0, 1, 255, random.integers(256)])
        path.write_bytes(damaged)
        if photo := read_or_refuse(path):
            photo.metadata.for_size(80, 48)
    assert capfd.readouterr() == ("", "")


def test_a_giant_is_refused_by_its_header(tmp_path, pixels):
    (tmp_path / "bomb.png").write_bytes(png_header(2**31 - 1, 2**31 - 1))
    (tmp_path / "just.png").write_bytes(png_header(2**16, 2**16 + 1))
    tifffile.imwrite(tmp_path / "bomb.tif", pixels, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(2**31)
    jpeg = bytearray(encoded(Image.fromarray(pixels), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "bomb.jpg").write_bytes(jpeg)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, count, limit in (
            ("bomb.png", (2**31 - 1) ** 2, MAX_STREAMED_PIXELS),
            ("just.png", 2**16 * (2**16 + 1), MAX_STREAMED_PIXELS),
            ("bomb.tif", 2**31 * 24, MAX_STREAMED_PIXELS),
            ("bomb.jpg", 65535**2, MAX_WHOLE_PIXELS),
        ):
            with refusal(PhotoError, name, count, limit):
                read_photo(tmp_path / name)


def test_more_pixels_than_pillow_likes_are_read_without_a_warning(tmp_path, monkeypatch, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.webp", "a.png"):
            np.testing.assert_array_equal(read_photo(tmp_path / name).pixels, pixels)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_small_sides_are_refused(tmp_path, extension):
    Image.new("RGB", (15, 400)).save(tmp_path / f"thin{extension}")
    with refusal(PhotoError, f"thin{extension}", "15 x 400", "16"):
        read_photo(tmp_path / f"thin{extension}")
    Image.new("RGB", (16, 16)).save(tmp_path / f"smallest{extension}")
    assert read_photo(tmp_path / f"smallest{extension}").size == (16, 16)


def test_sixteen_bits_stay_sixteen(tmp_path):
    deep = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    colour = np.dstack([deep, deep[::-1], deep.T])
    Image.fromarray(deep).save(tmp_path / "grey.png")
    (tmp_path / "colour.png").write_bytes(imagecodecs.png_encode(colour))
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    tifffile.imwrite(tmp_path / "big.tif", colour, photometric="rgb", bigtiff=True)
    tifffile.imwrite(tmp_path / "grey.tif", deep, photometric="minisblack")
    for name, expected in (
        ("grey.png", np.dstack([deep] * 3)),
        ("colour.png", colour),
        ("colour.tif", colour),
        ("big.tif", colour),
        ("grey.tif", np.dstack([deep] * 3)),
    ):
        photo = read_photo(tmp_path / name)
        assert photo.pixels.dtype == np.uint16
        assert photo.info.depth is Depth.U16
        assert photo.grey == name.startswith("grey")
        np.testing.assert_array_equal(photo.pixels, expected)


@pytest.mark.parametrize("type_name", ["float16", "float32", "float64"])
def test_floats_are_read_as_they_are(tmp_path, type_name):
    values = np.random.default_rng(0).random((24, 40, 3)).astype(type_name)
    values[0, 0], values[0, 1] = 0, 1
    tifffile.imwrite(tmp_path / "float.tif", values, photometric="rgb", predictor=3, compression="deflate")
    photo = read_photo(tmp_path / "float.tif")
    assert photo.info.depth is Depth.FLOAT
    np.testing.assert_array_equal(photo.pixels, values.astype(np.float32))


@pytest.mark.parametrize(
    ("value", "word"), [(1.001, "HDR"), (-0.001, "HDR"), (np.inf, "HDR"), (np.nan, "no numbers (NaN)")]
)
def test_floats_outside_of_their_range_are_refused(tmp_path, value, word):
    values = np.full((24, 40, 3), 0.5, np.float32)
    values[3, 4, 1] = value
    tifffile.imwrite(tmp_path / "hdr.tif", values, photometric="rgb")
    with open_photo(tmp_path / "hdr.tif") as source:
        assert source.read(10, 0, 5, 5).colour.max() == 0.5
        with refusal(PhotoError, "hdr.tif", word):
            source.read(0, 0, 5, 5)


def test_samples_that_no_photo_has_are_refused(tmp_path):
    values = np.zeros((24, 40), np.uint8)
    for name, samples, what in (
        ("signed.tif", values.astype(np.int8), "8-bit signed"),
        ("deep.tif", values.astype(np.int16), "16-bit signed"),
        ("whole.tif", values.astype(np.uint32), "32-bit"),
        ("complex.tif", values.astype(np.complex64), "complex"),
    ):
        tifffile.imwrite(tmp_path / name, samples, photometric="minisblack")
        with refusal(PhotoError, name, what):
            open_photo(tmp_path / name)
    tifffile.imwrite(tmp_path / "packed.tif", values.astype(np.uint16), photometric="minisblack", bitspersample=12)
    with refusal(PhotoError, "packed.tif", "12-bit"):
        open_photo(tmp_path / "packed.tif")
    deep = imagecodecs.jpeg8_encode(values.astype(np.uint16), bitspersample=12)
    (tmp_path / "deep.jpg").write_bytes(deep)
    with refusal(PhotoError, "deep.jpg", "more than 8 bits"):
        open_photo(tmp_path / "deep.jpg")
    tifffile.imwrite(tmp_path / "webp.tif", np.dstack([values] * 3), photometric="rgb", compression="webp")
    with refusal(PhotoError, "webp.tif", "compressed", "50001"):
        open_photo(tmp_path / "webp.tif")


def test_inks_without_a_profile_and_other_spaces_are_refused(tmp_path, pixels, icc):
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "print.tif")
    for name in ("print.jpg", "print.tif"):
        with refusal(PhotoError, name, "CMYK", "RGB"):
            read_photo(tmp_path / name)
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "wrong.jpg", icc_profile=icc)
    with refusal(PhotoError, "wrong.jpg", "CMYK", "profile"):
        open_photo(tmp_path / "wrong.jpg")
    tifffile.imwrite(tmp_path / "lab.tif", pixels, photometric="cielab")
    with refusal(PhotoError, "lab.tif", "neither grey nor RGB"):
        read_photo(tmp_path / "lab.tif")


@pytest.mark.parametrize("extension", [".jpg", ".tif", ".packed.tif"])
def test_inks_are_read_through_their_profile(tmp_path, extension):
    inks = np.zeros((32, 32, 4), np.uint8)
    inks[:, 16:, 3] = 255
    inks[16:, :16, 0] = 128
    path = tmp_path / f"print{extension}"
    options = {"compression": "jpeg"} if "packed" in extension else {}
    profile = profiles.cmyk()
    Image.fromarray(inks, "CMYK").save(path, icc_profile=profile, quality=100, **options)
    with open_photo(path) as source:
        assert source.info.cmyk
        assert source.info.metadata.icc == profile
        colour = source.read(0, 0, 32, 32).colour
    expected = CmykProfile(profile).to_rgb(inks.astype(np.float32) / 255)
    lossless = extension == ".tif"
    np.testing.assert_allclose(colour, expected, atol=1e-6 if lossless else 0.02)
    assert colour[2, 2].min() > 0.95  # paper
    assert colour[2, -2].max() < 0.4  # black ink


def test_channels_of_unknown_meaning_are_refused(tmp_path, pixels):
    five = np.dstack([pixels, pixels[..., :2]])
    tifffile.imwrite(tmp_path / "five.tif", five, photometric="rgb", extrasamples=["unassalpha", "unspecified"])
    tifffile.imwrite(tmp_path / "four.tif", five[..., :4], photometric="rgb", extrasamples=["unspecified"])
    for name in ("five.tif", "four.tif"):
        with refusal(PhotoError, name, "not declared to be transparency"):
            read_photo(tmp_path / name)


@pytest.mark.parametrize(("extension", "word"), [(".png", "animation"), (".webp", "animation"), (".tif", "pages")])
def test_several_pictures_in_a_file_are_refused(tmp_path, pixels, extension, word):
    path = tmp_path / f"many{extension}"
    more = [Image.fromarray(pixels[::-1].copy())]
    Image.fromarray(pixels).save(path, save_all=True, append_images=more)
    with refusal(PhotoError, path, word):
        read_photo(path)


def test_camera_raw_is_refused(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "shot.dng", pixels, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)])
    with refusal(PhotoError, "shot.dng", "raw"):
        read_photo(tmp_path / "shot.dng")
