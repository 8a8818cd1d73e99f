"""A JPEG made of strips is the JPEG of the whole picture: the same coded rows, and the same decoded pixels."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from xpsr_cli.photos.jpeg_writer import write_jpeg
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import PhotoInfo

MODES = {1: "L", 3: "RGB", 4: "CMYK"}


def jpeg(samples, metadata=None, quality=95):
    height, width, channels = samples.shape
    info = PhotoInfo(width, height, grey=channels == 1, cmyk=channels == 4, metadata=metadata or Metadata())
    stream = io.BytesIO()
    write_jpeg((samples[top : top + 64] for top in range(0, height, 64)), info, stream, quality=quality)
    return stream.getvalue()


def by_pillow(samples, **options):
    """The picture as Pillow writes it in one go."""
    height, width, channels = samples.shape
    buffer = io.BytesIO()
    image = Image.frombytes(MODES[channels], (width, height), samples.tobytes())
    image.save(buffer, "JPEG", subsampling=0, **options)
    return buffer.getvalue()


def segments(data):
    """Marker and content of every segment before the coded rows, and then these."""
    place, marker = 2, 0
    while marker != 0xDA:
        marker, size = struct.unpack_from(">xBH", data, place)
        yield marker, data[place + 4 : place + 2 + size]
        place += 2 + size
    yield None, data[place:]


def picture(height, width, channels):
    rng = np.random.default_rng(height * width)
    steps = rng.normal(0, 3, (height, width, channels))
    return np.clip(128 + np.cumsum(steps, axis=0) + rng.normal(0, 4, steps.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("quality", [1, 75, 95, 100])
@pytest.mark.parametrize("size", [(1, 1), (63, 17), (64, 33), (65, 40), (129, 9), (700, 90)], ids=str)
def test_strips_are_the_whole_picture(channels, quality, size):
    samples = picture(*size, channels)
    data = jpeg(samples, quality=quality)
    assert list(segments(data)) == list(segments(by_pillow(samples, quality=quality, restart_marker_rows=1)))
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(by_pillow(samples, quality=quality))) as whole:
        assert image.mode == MODES[channels]
        np.testing.assert_array_equal(np.asarray(image), np.asarray(whole))
    decoded = imagecodecs.jpeg8_decode(data)
    assert decoded.shape[:2] == size


def test_inks_come_back_as_they_went_in():
    inks = np.full((80, 40, 4), [250, 20, 5, 128], np.uint8)
    with Image.open(io.BytesIO(jpeg(inks))) as image:
        assert image.mode == "CMYK"
        assert np.abs(np.asarray(image).astype(int) - inks).max() <= 1
        assert image.info["adobe_transform"] == 0


def test_colours_are_not_subsampled():
    with Image.open(io.BytesIO(jpeg(picture(70, 50, 3)))) as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3


def test_metadata_come_back(exif):
    profile = np.random.default_rng(0).bytes(150000)
    credit = b"\x1c\x02\x50\x00\x04Anna"
    texts = (("Comment", "taken at dawn"), ("Title", "Morgen"), ("xpsr", '{"seed": 1}'))
    metadata = Metadata(profile, exif, b"<x:xmpmeta/>", credit, (299.6, 240.0), texts)
    data = jpeg(picture(130, 40, 3), metadata)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info["icc_profile"] == profile
        assert image.info["exif"] == b"Exif\0\0" + exif
        assert image.info["xmp"] == b"<x:xmpmeta/>"
        assert image.info["photoshop"][0x0404] == credit
        assert image.info["dpi"] == (300, 240)
    comments = [content for marker, content in segments(data) if marker == 0xFE]
    assert comments == [b'xpsr: {"seed": 1}', b"Title: Morgen", b"taken at dawn"]
    assert [marker for marker, _ in segments(data)][:3] == [0xE0, 0xE1, 0xE1]


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        ([("Comment", "mine"), ("xpsr", "{}")], b"mine"),
        ([("Comment", "first"), ("Comment", "second"), ("xpsr", "{}")], b"second"),
        ([("Comment", "mine"), ("Title", "Morgen"), ("xpsr", "{}")], b"mine"),
        ([("Title", "Morgen"), ("xpsr", "{}")], b"Title: Morgen"),
    ],
    ids=str,
)
def test_readers_show_the_comment_of_the_user(texts, shown):
    with Image.open(io.BytesIO(jpeg(picture(8, 8, 3), Metadata(texts=tuple(texts))))) as image:
        assert image.info["comment"] == shown


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dpi", [None, (300.0, 300.0)])
def test_the_profile_comes_back_with_and_without_a_resolution(channels, dpi):
    with Image.open(io.BytesIO(jpeg(picture(8, 8, channels), Metadata(icc=b"profile", dpi=dpi)))) as image:
        assert image.info["icc_profile"] == b"profile"
        assert image.info.get("dpi") == dpi


@pytest.mark.parametrize(("dpi", "expected"), [((0.2, 100000.0), (1, 65535)), (None, None)])
def test_resolutions_that_a_jpeg_cannot_say_are_the_nearest_it_can(dpi, expected):
    with Image.open(io.BytesIO(jpeg(picture(8, 8, 1), Metadata(dpi=dpi)))) as image:
        assert image.info.get("dpi") == expected
