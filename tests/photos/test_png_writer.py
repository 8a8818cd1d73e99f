"""PNGs that other decoders take: every filter, every kind of picture, and the chunks in the order of the format."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageDraw

from xpsr_cli.photos.iptc import iptc_of
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Depth, PhotoInfo
from xpsr_cli.photos.png_writer import filtered, write_png


def png(samples, metadata=None, *, compress=True, rows=64):
    height, width, channels = samples.shape
    depth = Depth.U8 if samples.dtype == np.uint8 else Depth.U16
    info = PhotoInfo(width, height, depth, channels < 3, channels % 2 == 0, metadata=metadata or Metadata())
    stream = io.BytesIO()
    write_png((samples[top : top + rows] for top in range(0, height, rows)), info, stream, compress=compress)
    return stream.getvalue()


def chunks(data):
    """Type and data of every chunk, whose checksums are right."""
    place = 8
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + size]
        assert struct.unpack_from(">I", data, place + 8 + size)[0] == zlib.crc32(kind + content)
        yield kind, content
        place += 12 + size


def smooth(height, width, channels, dtype, scale=1.0):
    """Slopes in both directions under some noise, which makes use of every filter."""
    rng = np.random.default_rng(height)
    slope = np.cumsum(rng.normal(0, 1, (height, 1, channels)), axis=0) + np.cumsum(
        rng.normal(0, 1, (1, width, channels)), 1
    )
    noise = rng.normal(0, scale, (height, width, channels))
    return (np.clip(slope * 3 + noise + 128, 0, 255) * (np.iinfo(dtype).max / 255)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 700), (700, 1), (65, 129), (900, 400)])
@pytest.mark.parametrize("compress", [True, False])
def test_two_decoders_give_every_sample_back(dtype, channels, height, width, compress):
    samples = smooth(height, width, channels, dtype)
    data = png(samples, compress=compress)
    np.testing.assert_array_equal(imagecodecs.png_decode(data).reshape(samples.shape), samples)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (width, height)
        if dtype == np.uint8 or channels == 1:
            np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)


def test_the_stream_is_one_that_zlib_takes_with_its_checksum():
    samples = np.random.default_rng(0).integers(0, 256, (500, 1000, 3), dtype=np.uint8)
    whole = b"".join(content for kind, content in chunks(png(samples)) if kind == b"IDAT")
    assert len(zlib.decompress(whole)) == 500 * (1 + 3000)


def undone(data, above, pixel):
    """The rows that were filtered, by the words of the format."""
    rows = []
    for kind, *rest in data.tolist():
        row = []
        for place, value in enumerate(rest):
            left, corner = (row[place - pixel], above[place - pixel]) if place >= pixel else (0, 0)
            up = above[place]
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda byte: abs(guess - byte))  # the first of equals
            row.append((value + [0, left, up, (left + up) // 2, nearest][kind]) % 256)
        rows.append(row)
        above = row
    return np.array(rows, np.uint8)


@pytest.mark.parametrize("pixel", [1, 2, 3, 4, 6, 8])
def test_every_filter_can_be_undone(pixel):
    rng = np.random.default_rng(pixel)
    across, down = np.arange(120), np.arange(12)[:, None]
    rows = np.concatenate(
        [
            rng.integers(0, 256, (12, 120)),  # noise
            (across // pixel * 5 + down * 0) % 256,  # slopes to the right
            across * 0 + down * 9 + rng.integers(0, 256, 120),  # rows like those above
            np.cumsum(rng.integers(-9, 10, (12, 120)), axis=1) + down * 20,
            across // pixel * 4 + down * 7,  # planes
        ]
    ).astype(np.uint8)
    above = rng.integers(0, 256, 120, dtype=np.uint8)
    data = filtered(rows, above, pixel)
    assert set(data[:, 0]) >= {1, 2, 3, 4}
    np.testing.assert_array_equal(undone(data, above.tolist(), pixel), rows)


def test_each_filter_is_the_one_with_the_least_sum():
    rows, above = smooth(40, 60, 3, np.uint8).reshape(40, 180), np.zeros(180, np.uint8)
    data = filtered(rows, above, 3)

    def cost(rest):
        return int(np.minimum(rest.astype(int), 256 - rest.astype(int)).sum())

    for row, before, (kind, *rest) in zip(rows[1:], rows[:-1], data[1:], strict=True):
        costs = {0: cost(row), 2: cost(row - before)}
        costs[1] = cost(row - np.concatenate([np.zeros(3, np.uint8), row[:-3]]))
        assert cost(np.array(rest)) <= min(costs.values())
        assert kind not in costs or cost(np.array(rest)) == costs[kind]


def test_photos_and_drawings_are_about_as_small_as_pillow_makes_them():
    photo = smooth(600, 800, 3, np.uint8, scale=4.0)
    drawing = Image.new("RGB", (800, 600), "white")
    for y in range(0, 600, 20):
        ImageDraw.Draw(drawing).text((5, y), "The quick brown fox jumps over the lazy dog. " * 3, fill="black")
    for pixels, most in ((photo, 1.06), (np.asarray(drawing), 1.15)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        assert len(png(pixels)) < most * buffer.tell()


def test_metadata_come_before_the_pixels_and_come_back(icc, exif):
    colour = ((b"cICP", bytes([1, 13, 0, 1])),)
    metadata = Metadata(icc, exif, b"<x:xmpmeta/>", b"\x1c\x02\x50\x00\x04Anna", (300.0, 240.0), (), colour)
    data = png(np.zeros((9, 9, 3), np.uint8), metadata)
    kinds = [kind for kind, _ in chunks(data)]
    assert kinds[:7] == [b"IHDR", b"cICP", b"iCCP", b"pHYs", b"eXIf", b"iTXt", b"zTXt"]
    assert set(kinds[7:-1]) == {b"IDAT"}
    assert kinds[-1] == b"IEND"
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == icc
        assert image.info["exif"] == b"Exif\0\0" + exif
        assert image.info["xmp"] == b"<x:xmpmeta/>"
        assert image.info["dpi"] == pytest.approx((300, 240), abs=0.02)
        assert iptc_of(image.info) == metadata.iptc
    assert dict(chunks(data))[b"cICP"] == bytes([1, 13, 0, 1])


@pytest.mark.parametrize("text", ["short", "Zürich", "snow: \u2603", "l" * 5000, "\u2603" * 5000])
def test_texts_of_every_kind_come_back(text):
    data = png(np.zeros((9, 9, 1), np.uint8), Metadata(texts=(("Title", text), ("xpsr", '{"a": 1}'))))
    with Image.open(io.BytesIO(data)) as image:
        assert image.text == {"Title": text, "xpsr": '{"a": 1}'}
    assert len(data) < 1000
