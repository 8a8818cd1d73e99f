"""What bands of pixels become as files: exact at every depth, the same whatever their heights, never held whole."""

from __future__ import annotations

import errno
import io
import tracemalloc
from dataclasses import replace

import imagecodecs
import numpy as np
import profiles
import pytest
import tifffile
from PIL import Image
from small_photos import EXTENSIONS, refusal

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.cmyk import CmykProfile
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Depth, Photo, PhotoInfo, Region
from xpsr_cli.photos.sink import check_output, result_info, write_bands, write_photo
from xpsr_cli.settings import Bits, Compression, OutputOptions

SIZES = [(1, 1), (33, 63), (50, 64), (257, 65), (19, 129), (300, 300)]
KINDS = [(False, False), (False, True), (True, False), (True, True)]


def picture(width, height, depth=Depth.U8, *, grey=False, alpha=False):
    """Smooth colours with noise on them, every sample a value of the depth, with the description of it."""
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    noise = np.random.default_rng(width + height).normal(0, 0.02, (height, width, 4))
    values = np.clip(0.5 * across + 0.5 * down * np.array([1.0, 0.5, 0.2, 0.9]) + noise, 0, 1).astype(np.float32)
    if depth is not Depth.FLOAT:
        values = np.rint(values * depth.white).astype(np.float32) / np.float32(depth.white)
    colour = values[..., :1].repeat(3, axis=2) if grey else values[..., :3]
    info = PhotoInfo(width, height, depth, grey, alpha)
    return Region(colour, values[..., 3] if alpha else None), info


def bands(region, height):
    for top in range(0, len(region.colour), height):
        rows = slice(top, top + height)
        yield Region(region.colour[rows], None if region.alpha is None else region.alpha[rows])


def samples(region, info):
    """What a file of this picture holds, as (h, w, channels)."""
    values = region.colour[..., :1] if info.grey else region.colour
    if info.alpha:
        values = np.dstack([values, region.alpha])
    return values if info.depth is Depth.FLOAT else np.rint(values * info.depth.white).astype(info.depth.dtype)


def decoded(path):
    """The samples in a file, (h, w, channels), by decoders that share nothing with the writers."""
    data = path.read_bytes()
    if path.suffix == ".png":
        pixels = imagecodecs.png_decode(data)
    elif path.suffix == ".tif":
        pixels = tifffile.imread(path)
    else:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("grey", "alpha"), KINDS)
@pytest.mark.parametrize(
    ("extension", "depth"),
    [(".png", Depth.U8), (".png", Depth.U16), (".webp", Depth.U8)] + [(".tif", depth) for depth in Depth],
)
def test_lossless_files_hold_every_sample(tmp_path, extension, depth, grey, alpha, size):
    region, info = picture(*size, depth, grey=grey, alpha=alpha)
    path = tmp_path / f"a{extension}"
    info = result_info(info, size, path, OutputOptions())
    write_bands(bands(region, 50), info, path, OutputOptions())
    np.testing.assert_array_equal(decoded(path), samples(region, info))
    assert info.grey == (grey and extension != ".webp")


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_is_close_to_the_picture(tmp_path, grey, size):
    region, info = picture(*size, grey=grey)
    write_bands(bands(region, 50), info, tmp_path / "a.jpg", OutputOptions(quality=98))
    difference = decoded(tmp_path / "a.jpg").astype(int) - samples(region, info)
    assert np.abs(difference).max() <= 12


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("alpha", [False, True])
def test_the_heights_of_bands_do_not_change_the_bytes(tmp_path, extension, alpha):
    region, info = picture(70, 300, alpha=alpha and extension != ".jpg")
    files = set()
    for height in (1, 7, 64, 100, 300):
        write_bands(bands(region, height), info, tmp_path / f"a{extension}", OutputOptions())
        files.add((tmp_path / f"a{extension}").read_bytes())
    assert len(files) == 1


def test_sixteen_bits_go_through_a_photo_in_memory_without_loss(tmp_path):
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    pixels[..., 1] = pixels[..., 1].T
    for name in ("a.png", "a.tif"):
        write_photo(Photo(pixels), tmp_path / name)
        np.testing.assert_array_equal(decoded(tmp_path / name), pixels)


def test_grey_is_the_luma_of_colours(tmp_path):
    region, info = picture(64, 48)
    write_bands(bands(region, 48), replace(info, grey=True), tmp_path / "a.png", OutputOptions())
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        luma = np.asarray(Image.fromarray(samples(region, info)).convert("L")).astype(int)
        assert np.abs(np.asarray(image) - luma).max() <= 1


def test_values_outside_of_the_range_are_clipped(tmp_path):
    colour = np.array([-1.0, 0.5, 2.0], np.float32).reshape(1, 1, 3)
    write_bands([Region(colour)], PhotoInfo(1, 1), tmp_path / "a.png", OutputOptions())
    assert decoded(tmp_path / "a.png").tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("depth", "bits", "name", "expected"),
    [
        (Depth.U8, Bits.AUTO, "a.jpg", Depth.U8),
        (Depth.U8, Bits.SIXTEEN, "a.png", Depth.U16),
        (Depth.U8, Bits.SIXTEEN, "a.tif", Depth.U16),
        (Depth.U16, Bits.AUTO, "a.png", Depth.U16),
        (Depth.U16, Bits.AUTO, "a.tif", Depth.U16),
        (Depth.U16, Bits.EIGHT, "a.jpg", Depth.U8),
        (Depth.U16, Bits.EIGHT, "a.webp", Depth.U8),
        (Depth.FLOAT, Bits.AUTO, "a.tif", Depth.FLOAT),
        (Depth.FLOAT, Bits.SIXTEEN, "a.png", Depth.U16),
        (Depth.FLOAT, Bits.EIGHT, "a.jpg", Depth.U8),
    ],
)
def test_the_depth_is_the_photos_own_unless_another_is_named(tmp_path, depth, bits, name, expected):
    info = result_info(PhotoInfo(10, 10, depth), (40, 30), tmp_path / name, OutputOptions(bits=bits))
    assert (info.depth, info.size) == (expected, (40, 30))


@pytest.mark.parametrize(
    ("depth", "name", "words"),
    [
        (Depth.U16, "a.jpg", ("16-bit", "8 bits at most", "PNG (.png) or TIFF (.tif)", "--bits 8")),
        (Depth.U16, "a.webp", ("16-bit", "8 bits at most", "PNG (.png) or TIFF (.tif)", "--bits 8")),
        (Depth.FLOAT, "a.jpg", ("32-bit float", "8 bits at most", "TIFF (.tif)", "--bits 8")),
        (Depth.FLOAT, "a.png", ("32-bit float", "16 bits at most", "TIFF (.tif)", "--bits 16")),
    ],
)
def test_bits_are_not_lost_without_a_word(tmp_path, depth, name, words):
    with refusal(PhotoError, tmp_path / name, *words):
        result_info(PhotoInfo(10, 10, depth), (10, 10), tmp_path / name, OutputOptions())


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_sixteen_bits_are_refused_where_the_format_has_eight(tmp_path, name):
    with refusal(UsageError, tmp_path / name, "bits is 16", "PNG (.png) or TIFF (.tif)"):
        result_info(PhotoInfo(10, 10), (10, 10), tmp_path / name, OutputOptions(bits=Bits.SIXTEEN))


@pytest.mark.parametrize(
    ("name", "compression"),
    [("a.png", "lzw"), ("a.png", "zstd"), ("a.jpg", "none"), ("a.jpg", "deflate"), ("a.webp", "zstd")],
)
def test_a_compression_that_a_format_does_not_know_is_refused(tmp_path, name, compression):
    info, options = PhotoInfo(10, 10), OutputOptions(compression=Compression(compression))
    for act in (
        lambda: check_output(tmp_path / name, info, options, transparent=False),
        lambda: write_bands([], info, tmp_path / name, options),
    ):
        with refusal(UsageError, compression, name, ".tif"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_uncompressed_files_are_larger_and_hold_the_same(tmp_path, extension):
    region, info = picture(300, 200)
    write_bands(bands(region, 64), info, tmp_path / f"small{extension}", OutputOptions())
    plain = OutputOptions(compression=Compression.NONE)
    write_bands(bands(region, 64), info, tmp_path / f"large{extension}", plain)
    assert (tmp_path / f"large{extension}").stat().st_size > 300 * 200 * 3
    assert (tmp_path / f"small{extension}").stat().st_size < 300 * 200 * 3 * 0.8
    np.testing.assert_array_equal(decoded(tmp_path / f"large{extension}"), decoded(tmp_path / f"small{extension}"))


def test_inks_are_refused_where_only_light_can_be_held(tmp_path):
    info = PhotoInfo(10, 10, cmyk=True, alpha=True)
    for name, transparent, hint in (
        ("a.png", False, "Use JPEG (.jpg) or TIFF (.tif)."),
        ("a.webp", False, "Use JPEG (.jpg) or TIFF (.tif)."),
        ("a.jpg", True, "Use TIFF (.tif)."),
    ):
        result = result_info(info, (10, 10), tmp_path / name, OutputOptions())
        with refusal(PhotoError, tmp_path / name, hint):
            check_output(tmp_path / name, result, OutputOptions(), transparent=transparent)


def test_without_metadata_only_the_profile_stays(tmp_path, icc, exif):
    info = PhotoInfo(10, 10, metadata=Metadata(icc=icc, exif=exif, xmp=b"<x/>", dpi=(300.0, 300.0)))
    result = result_info(info, (10, 10), tmp_path / "a.png", OutputOptions(metadata=False))
    assert result.metadata == Metadata(icc=icc)
    assert result_info(info, (10, 10), tmp_path / "a.png", OutputOptions()).metadata == info.metadata


def test_metadata_that_a_format_cannot_hold_are_refused_by_name(tmp_path):
    credit = Metadata(iptc=b"\x1c\x02\x50\x00\x04Anna")
    with refusal(PhotoError, tmp_path / "a.webp", "IPTC", "PNG", "TIFF"):
        check_output(tmp_path / "a.webp", PhotoInfo(9, 9, metadata=credit), OutputOptions(), transparent=False)
    long = Metadata(iptc=b"\x1c\x02\x50\x00\x04Anna" * 8000)
    with refusal(PhotoError, tmp_path / "a.jpg", "IPTC", "72000 bytes", "PNG", "TIFF"):
        check_output(tmp_path / "a.jpg", PhotoInfo(9, 9, metadata=long), OutputOptions(), transparent=False)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    "failure", [ValueError("odd"), OSError(errno.ENOSPC, "full"), PhotoError("No.", "Do."), KeyError(1)]
)
def test_what_bands_raise_passes_through_and_nothing_is_left(tmp_path, extension, failure):
    region, info = picture(60, 200)

    def failing():
        yield from list(bands(region, 70))[:2]
        raise failure

    path = tmp_path / f"a{extension}"
    path.write_bytes(b"old")
    for temporary in (None, tmp_path / "unfinished"):
        with pytest.raises(type(failure)) as caught:
            write_bands(failing(), info, path, OutputOptions(), temporary=temporary)
        assert caught.value is failure
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    ("rows", "width", "words"), [(199, 60, "199 rows"), (201, 60, "201 rows"), (200, 59, "width 59")]
)
def test_bands_that_do_not_make_the_picture_are_an_error(tmp_path, extension, rows, width, words):
    info = PhotoInfo(60, 200)
    with pytest.raises(ValueError, match=words):
        write_bands(
            [Region(np.zeros((rows, width, 3), np.float32))], info, tmp_path / f"a{extension}", OutputOptions()
        )
    assert list(tmp_path.iterdir()) == []


def test_the_unfinished_file_lies_where_it_was_told_and_replaces_what_was_left_there(tmp_path):
    region, info = picture(60, 200)
    (tmp_path / "work").mkdir()
    unfinished = tmp_path / "work" / "result.part"
    unfinished.write_bytes(b"left over " * 100000)
    seen = []

    def watched():
        for band in bands(region, 100):
            seen.append(sorted(path.name for path in tmp_path.rglob("*")))
            yield band

    write_bands(watched(), info, tmp_path / "a.png", OutputOptions(), temporary=unfinished)
    assert seen == [["result.part", "work"]] * 2
    assert not unfinished.exists()
    np.testing.assert_array_equal(decoded(tmp_path / "a.png"), samples(region, info))


@pytest.mark.parametrize(
    ("name", "depth"), [("a.png", Depth.U8), ("a.png", Depth.U16), ("a.jpg", Depth.U8), ("a.tif", Depth.U16)]
)
def test_a_picture_is_never_held_as_a_whole(tmp_path, name, depth):
    width, height, rows = 12000, 3000, 50
    strip = picture(width, rows)[0].colour
    strip[:, 600:] = 0.5  # quickly encoded, which is not the question here
    info = PhotoInfo(width, height, depth)
    frame = width * height * 3 * depth.dtype.itemsize
    tracemalloc.start()
    try:
        write_bands((Region(strip.copy()) for _ in range(height // rows)), info, tmp_path / name, OutputOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < frame / 2
    assert peak < 80e6


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("extension", "depth"), [(".jpg", Depth.U8), (".tif", Depth.U8), (".tif", Depth.U16)])
def test_photos_in_inks_are_written_in_inks_of_their_profile(tmp_path, extension, depth, alpha):
    profile = CmykProfile(profiles.cmyk())
    inks = np.zeros((70, 90, 4), np.float32)
    inks[..., 0], inks[..., 1] = np.linspace(0, 0.6, 90), np.linspace(0, 0.6, 70)[:, None]
    colour = profile.to_rgb(inks)
    region = Region(colour, np.full((70, 90), 0.5, np.float32) if alpha else None)
    path = tmp_path / f"a{extension}"
    info = PhotoInfo(90, 70, depth, alpha=alpha, cmyk=True, metadata=Metadata(icc=profiles.cmyk()))
    info = result_info(info, info.size, path, OutputOptions())
    write_bands(bands(region, 33), info, path, OutputOptions())
    written = decoded(path)
    assert written.shape == (70, 90, 4 + (alpha and extension == ".tif"))
    again = profile.to_rgb(written[..., :4].astype(np.float32) / depth.white)
    assert np.abs(again - colour).max() < 0.02
    with tifffile.TiffFile(path) if extension == ".tif" else Image.open(path) as file:
        assert (file.pages[0].iccprofile if extension == ".tif" else file.info["icc_profile"]) == profiles.cmyk()


@pytest.mark.parametrize("extension", [".jpg", ".tif"])
def test_inks_do_not_depend_on_the_heights_of_bands(tmp_path, extension):
    region, info = picture(70, 200)
    info = replace(info, cmyk=True, metadata=Metadata(icc=profiles.cmyk()))
    files = set()
    for height in (1, 7, 64, 200):
        write_bands(bands(region, height), info, tmp_path / f"a{extension}", OutputOptions())
        files.add((tmp_path / f"a{extension}").read_bytes())
    assert len(files) == 1
