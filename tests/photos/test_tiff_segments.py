"""Strips and tiles of every kind: exact, decoded only where they are wanted, and never believed when they lie."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from png_maker import packed_row
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import tiff_picture, tiff_segments
from xpsr_cli.photos.source import open_photo, read_photo

CODECS = [None, "lzw", "deflate", "zstd", "packbits", "lzma"]


def whole(path):
    with open_photo(path) as source:
        return source.read(0, 0, source.info.height, source.info.width)


def pattern(dtype, channels, height=45, width=67):
    values = np.random.default_rng(channels).random((height, width, channels))
    return (
        values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).round().astype(dtype)
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("cells", [{"rowsperstrip": 7}, {"rowsperstrip": 100}, {"tile": (16, 32)}, {"tile": (64, 96)}])
def test_every_layout_is_exact(tmp_path, dtype, codec, planar, cells):
    samples = pattern(dtype, 4)
    stored = samples if planar == "contig" else np.moveaxis(samples, -1, 0)
    predictor = codec in ("lzw", "deflate", "zstd") and dtype != "float64"
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"],
        compression=codec,
        predictor=predictor,
        byteorder=">" if planar == "contig" else "<",
        **cells,
    )
    white = np.float32(np.iinfo(dtype).max if samples.dtype.kind == "u" else 1)
    expected = samples.astype(np.float32) / white
    with open_photo(tmp_path / "a.tif") as source:
        region = source.read(0, 0, 45, 67)
        np.testing.assert_array_equal(region.colour, expected[..., :3])
        np.testing.assert_array_equal(region.alpha, expected[..., 3])
        for top, left, height, width in ((13, 30, 20, 5), (44, 66, 1, 1), (0, 31, 45, 2)):
            window = source.read(top, left, height, width)
            np.testing.assert_array_equal(window.colour, expected[top : top + height, left : left + width, :3])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("extra", [None, "unassalpha", "assocalpha"])
def test_grey_with_and_without_transparency(tmp_path, dtype, photometric, extra):
    values = pattern(dtype, 2)
    values[0, 0, 1] = 0
    stored = values if extra else values[..., 0]
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric=photometric,
        planarconfig="contig" if extra else None,
        extrasamples=[extra] if extra else None,
        compression="deflate",
    )
    region = whole(tmp_path / "a.tif")
    white = np.float32(np.iinfo(dtype).max if dtype.startswith("u") else 1)
    grey, alpha = (values.astype(np.float32) / white)[..., 0], (values.astype(np.float32) / white)[..., 1]
    grey = grey if photometric == "minisblack" else 1 - grey
    if extra == "assocalpha":
        grey = np.minimum(np.divide(grey, alpha, out=np.zeros_like(grey), where=alpha > 0), 1)
    np.testing.assert_allclose(region.colour, np.dstack([grey] * 3), rtol=0, atol=1e-6)
    if extra:
        np.testing.assert_array_equal(region.alpha, alpha)
    else:
        assert region.alpha is None


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("cells", [{"rowsperstrip": 7}, {"tile": (16, 32)}])
def test_few_bits(tmp_path, bits, cells):
    values = np.random.default_rng(bits).integers(0, 2**bits, (45, 67), dtype=np.uint8)
    stored = values.astype(bool) if bits == 1 else values
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", bitspersample=bits, **cells)
    colour = whole(tmp_path / "a.tif").colour
    np.testing.assert_array_equal(colour[..., 1], values.astype(np.float32) * (255 // (2**bits - 1)) / np.float32(255))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_few_bits_as_indices_of_a_palette(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (45, 67))
    packed = zlib.compress(b"".join(packed_row(row, bits).astype(np.uint8).tobytes() for row in values))
    colours = np.random.default_rng(0).integers(0, 256, (3, 2**bits), dtype=np.uint8)
    body = (colours.astype("<u2") * 257).tobytes() + packed
    at = 24 + 9 * 20 + 8
    entries = [(256, 4, 1, 67), (257, 4, 1, 45), (258, 3, 1, bits), (259, 3, 1, 8), (262, 3, 1, 3)]
    entries += [(273, 16, 1, at + 6 * 2**bits), (278, 4, 1, 45), (279, 16, 1, len(packed)), (320, 3, 3 * 2**bits, at)]
    (tmp_path / "a.tif").write_bytes(directory(entries, body))
    photo = read_photo(tmp_path / "a.tif")
    assert not photo.grey
    np.testing.assert_array_equal(photo.pixels, colours.T[values])


@pytest.mark.parametrize("codec", ["group3", "group4", "tiff_ccitt"])
def test_fax(tmp_path, codec):
    picture = Image.fromarray(np.random.default_rng(0).random((45, 67)) > 0.5)
    picture.save(tmp_path / "fax.tif", compression=codec)
    np.testing.assert_array_equal(whole(tmp_path / "fax.tif").colour[..., 0], np.asarray(picture))


@pytest.mark.parametrize("cells", [{"rowsperstrip": 16}, {"tile": (32, 32)}])
@pytest.mark.parametrize("photometric", ["rgb", "ycbcr", "minisblack"])
def test_jpeg_within_tiff_is_what_tifffile_reads(tmp_path, cells, photometric):
    smooth = np.linspace(0, 255, 45 * 67 * 3).reshape(45, 67, 3).astype(np.uint8)
    stored = smooth[..., 0] if photometric == "minisblack" else smooth
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, compression="jpeg", **cells)
    expected = tifffile.imread(tmp_path / "a.tif").reshape(45, 67, -1)
    colour = whole(tmp_path / "a.tif").colour
    np.testing.assert_array_equal(np.rint(colour * 255), np.broadcast_to(expected, (45, 67, 3)))


def test_only_what_a_window_touches_is_decoded(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", pattern("uint16", 3, 256, 256), tile=(64, 64), compression="deflate")
    decoded = []
    real = tiff_segments.TiffSegments._decoded
    monkeypatch.setattr(
        tiff_segments.TiffSegments, "_decoded", lambda self, *place: decoded.append(place) or real(self, *place)
    )
    with open_photo(tmp_path / "a.tif") as source:
        source.read(70, 130, 20, 20)
        assert decoded == [(0, 1, 2)]
        source.read(60, 130, 20, 20)
        assert decoded == [(0, 1, 2), (0, 0, 2)]  # the one below is still there


def test_a_row_of_pieces_too_large_to_keep_is_decoded_once(tmp_path, monkeypatch):
    samples = pattern("uint16", 3, 300, 200)
    tifffile.imwrite(tmp_path / "a.tif", samples, rowsperstrip=300, compression="deflate", predictor=True)
    decoded = []
    real = tiff_segments.TiffSegments._decoded
    monkeypatch.setattr(
        tiff_segments.TiffSegments, "_decoded", lambda self, *place: decoded.append(place) or real(self, *place)
    )
    monkeypatch.setattr(tiff_picture, "CACHE_BYTES", 1000)
    monkeypatch.setattr(tiff_segments, "CACHE_BYTES", 1000)
    with open_photo(tmp_path / "a.tif") as source:
        for top in (0, 100, 20, 290):
            expected = samples[top : top + 10, 5:80].astype(np.float32) / np.float32(65535)
            np.testing.assert_array_equal(source.read(top, 5, 10, 75).colour, expected)
    assert decoded == [(0, 0, 0)]


def patched(path, samples, changes, **options):
    """A file of ``samples`` with values of its tags overwritten."""
    tifffile.imwrite(path, samples, **options)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in changes.items():
            file.pages[0].tags[name].overwrite(value)


LIES = {
    "wide tiles": ({"TileWidth": 2**30}, "tile"),
    "no tiles": ({"TileWidth": 0}, "tile"),
    "high tiles": ({"TileLength": 2**31}, "tile"),
    "large tiles": ({"TileWidth": 2**15, "TileLength": 2**15}, "tile"),
    "another compression": ({"Compression": 5}, "tile"),
    "a larger picture": ({"ImageLength": 60_000, "ImageWidth": 60_000}, "tile"),
    "ten thousand million pixels": ({"ImageLength": 100_000, "ImageWidth": 100_000}, "tile"),
    "no rows": ({"RowsPerStrip": 0}, "rowsperstrip"),
    "higher strips": ({"RowsPerStrip": 2**31}, "rowsperstrip"),
    "more channels": ({"SamplesPerPixel": 60_000}, "rowsperstrip"),
    "a far place": ({"StripOffsets": (8, 8, 2**31, 8)}, "rowsperstrip"),
    "no length": ({"StripByteCounts": (8, 0, 8, 8)}, "rowsperstrip"),
    "a long one": ({"StripByteCounts": (8, 65535, 8, 8)}, "rowsperstrip"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_soon_and_in_little_memory(tmp_path, lie, capfd):
    changes, cells = LIES[lie]
    path = tmp_path / "lie.tif"
    options = {"tile": (16, 16)} if cells == "tile" else {"rowsperstrip": 16}
    patched(path, pattern("uint8", 3, 64, 64), changes, compression="deflate", photometric="rgb", **options)
    tracemalloc.start()
    start = time.process_time()
    with refusal(PhotoError, path):
        whole(path)
    assert time.process_time() - start < 5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27
    assert capfd.readouterr() == ("", "")


def directory(entries, body=b""):
    """A little-endian BigTIFF of one directory: (tag, type, count, value)."""
    table = b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    return struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries)) + table + bytes(8) + body


@pytest.mark.parametrize("count", [10**9, 2**40, 2**61])
def test_tables_of_a_thousand_million_pieces_are_refused(tmp_path, count):
    entries = [(256, 4, 1, 2**16), (257, 4, 1, 2**16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    entries += [(322, 4, 1, 1), (323, 4, 1, 1), (324, 16, count, 100), (325, 16, count, 100)]
    (tmp_path / "a.tif").write_bytes(directory(entries, bytes(1000)))
    start = time.process_time()
    with refusal(PhotoError, "a.tif", "damaged"):
        open_photo(tmp_path / "a.tif")
    assert time.process_time() - start < 2


def test_a_jpeg_larger_than_its_place_is_not_decoded(tmp_path):
    bomb = imagecodecs.jpeg8_encode(np.zeros((4000, 4000), np.uint8))
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1)]
    entries += [(273, 16, 1, 24 + 8 * 20 + 8), (278, 4, 1, 64), (279, 16, 1, len(bomb))]
    (tmp_path / "a.tif").write_bytes(directory(entries, bomb))
    with refusal(PhotoError, "a.tif", "larger than its place"):
        whole(tmp_path / "a.tif")


def test_a_piece_that_unpacks_without_end_is_damage(tmp_path):
    bomb = zlib.compress(bytes(30_000_000))
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    entries += [(273, 16, 1, 24 + 8 * 20 + 8), (278, 4, 1, 64), (279, 16, 1, len(bomb))]
    (tmp_path / "a.tif").write_bytes(directory(entries, bomb))
    with refusal(PhotoError, "a.tif", "damaged"):
        whole(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"tile": (16, 16)}])
def test_a_file_cut_short_is_refused_when_it_is_opened(tmp_path, options):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, pattern("uint16", 3), photometric="rgb", **options)
    path.write_bytes(path.read_bytes()[:-40])
    with refusal(PhotoError, "cut.tif", "ends before its pixels do"):
        open_photo(path)


def test_damage_within_a_piece_is_found_where_it_is(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pattern("uint16", 3, 64, 64), photometric="rgb", rowsperstrip=16, compression="deflate")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[2]
    data = bytearray(path.read_bytes())
    data[place + 20 : place + 40] = bytes(20)
    path.write_bytes(data)
    with open_photo(path) as source:
        source.read(0, 0, 32, 64)
        with refusal(PhotoError, "a.tif", "damaged"):
            source.read(30, 0, 10, 64)
        source.read(48, 0, 16, 64)


def test_tags_that_are_none_of_our_business_change_nothing(tmp_path):
    samples = pattern("uint8", 3)
    tags = [
        (42113, 2, 2, "7", True),
        (270, 2, 0, "ImageJ=1.0\nimages=3\nslices=3\n", True),
        (34412, 1, 8, bytes(8), True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=tags, metadata=None)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, samples)


def test_other_inks_volumes_and_subsampled_colours_are_refused(tmp_path):
    four = pattern("uint8", 4)
    tifffile.imwrite(tmp_path / "inks.tif", four, photometric="separated", extratags=[(332, 3, 1, 2, True)])
    with refusal(PhotoError, "inks.tif", "inks"):
        open_photo(tmp_path / "inks.tif")
    tifffile.imwrite(tmp_path / "volume.tif", np.zeros((4, 64, 64), "u1"), photometric="minisblack", volumetric=True)
    with refusal(PhotoError, "volume.tif", "several pictures"):
        open_photo(tmp_path / "volume.tif")
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 6), (277, 3, 1, 3)]
    entries += [(273, 16, 1, 24 + 9 * 20 + 8), (278, 4, 1, 64), (279, 16, 1, 64 * 64 * 3)]
    (tmp_path / "chroma.tif").write_bytes(directory(entries, bytes(64 * 64 * 3)))
    with refusal(PhotoError, "chroma.tif", "YCbCr"):
        open_photo(tmp_path / "chroma.tif")
