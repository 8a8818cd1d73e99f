"""Every kind of PNG is decoded to the very samples it was made of, a few rows at a time."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from png_maker import KINDS, chunk, expected_01, make_png, palette, random_samples
from small_photos import camera_exif, refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import png_rows
from xpsr_cli.photos.photo import Depth
from xpsr_cli.photos.source import open_photo

TEXT = b"Raw profile type iptc\0\0" + zlib.compress(b"\niptc\n       6\n1c0205000141\n")


def whole(path):
    with open_photo(path) as source:
        return source.info, source.read(0, 0, source.info.height, source.info.width)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "bits"), KINDS)
@pytest.mark.parametrize("band_bytes", [1, 300, png_rows._BAND_BYTES])
def test_every_kind_is_exact(tmp_path, monkeypatch, colour_type, bits, interlaced, band_bytes):
    monkeypatch.setattr(png_rows, "_BAND_BYTES", band_bytes)
    samples = random_samples(colour_type, bits)
    before = [(b"PLTE", palette()[: 2**bits].tobytes())] if colour_type == 3 else []
    data = make_png(samples, bits, colour_type, interlaced=interlaced, before=before)
    (tmp_path / "a.png").write_bytes(data)
    info, region = whole(tmp_path / "a.png")
    colour, alpha = expected_01(samples, bits, colour_type)
    assert info.depth is (Depth.U16 if bits == 16 else Depth.U8)
    assert info.grey == (colour_type in (0, 4))
    assert info.alpha == (alpha is not None)
    np.testing.assert_array_equal(region.colour, colour)
    if alpha is None:
        assert region.alpha is None
    else:
        np.testing.assert_array_equal(region.alpha, alpha)
    if bits < 16:
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(np.rint(region.colour * 255), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 23), (64, 65)])
def test_interlaced_pictures_of_any_size(tmp_path, size):
    samples = random_samples(2, 16, *size)
    (tmp_path / "a.png").write_bytes(make_png(samples, 16, 2, interlaced=True))
    np.testing.assert_array_equal(whole(tmp_path / "a.png")[1].colour, samples.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize(("colour_type", "bits"), [(0, 1), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_one_colour_is_transparent_at_every_depth(tmp_path, colour_type, bits):
    samples = random_samples(colour_type, bits)
    key = samples[5, 7]
    chunks = [(b"tRNS", key.astype(">u2").tobytes())]
    (tmp_path / "key.png").write_bytes(make_png(samples, bits, colour_type, before=chunks))
    info, region = whole(tmp_path / "key.png")
    assert info.alpha
    np.testing.assert_array_equal(region.alpha, (samples != key).any(axis=2))
    np.testing.assert_array_equal(region.colour, expected_01(samples, bits, colour_type)[0])


def test_what_the_file_says_beside_its_pixels_is_read_before_and_behind_them(tmp_path, icc):
    samples = random_samples(2, 8)
    before = [
        (b"iCCP", b"name\0\0" + zlib.compress(icc)),
        (b"pHYs", struct.pack(">IIB", 11811, 5906, 1)),
        (b"tEXt", b"Title\0caf\xe9"),
    ]
    after = [
        (b"zTXt", TEXT),
        (b"iTXt", b"Author\0\1\0fr\0Auteur\0" + zlib.compress("Chloé".encode())),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
    ]
    (tmp_path / "a.png").write_bytes(make_png(samples, 8, 2, before=before, after=after))
    metadata = whole(tmp_path / "a.png")[0].metadata
    assert metadata.icc == icc
    assert metadata.texts == (("Title", "café"), ("Author", "Chloé"))
    assert metadata.xmp == b"<x/>"
    assert metadata.iptc == bytes.fromhex("1c0205000141")
    np.testing.assert_allclose(metadata.dpi, (300, 150), rtol=1e-4)


def test_profiles_that_are_kept_as_text_are_read(tmp_path, icc):
    chunks = [
        (b"tEXt", f"Raw profile type {kind}\0\n{kind}\n{len(data):8}\n{data.hex()}\n".encode())
        for kind, data in (("xmp", b"<x/>"), ("icc", icc), ("APP1", b"Exif\0\0" + camera_exif()))
    ]
    (tmp_path / "a.png").write_bytes(make_png(random_samples(2, 8), 8, 2, before=chunks))
    info, _ = whole(tmp_path / "a.png")
    assert (info.metadata.xmp, info.metadata.icc) == (b"<x/>", icc)
    assert b"Maker" in info.metadata.exif
    assert info.size == (41, 37)  # it lies on its side
    assert info.metadata.texts == ()


def test_colours_by_number_are_kept(tmp_path):
    chunks = [(b"gAMA", struct.pack(">I", 45455)), (b"cICP", bytes([9, 16, 0, 1]))]
    (tmp_path / "a.png").write_bytes(make_png(random_samples(2, 8), 8, 2, before=chunks))
    assert whole(tmp_path / "a.png")[0].metadata.png_colour == tuple(chunks)


def rebuilt(data, change):
    """The file with its packed pixels changed and the check sums of the chunks right again."""
    at, head, packed = 8, b"", b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        packed += body if kind == b"IDAT" else b""
        head += chunk(kind, body) if kind == b"IHDR" else b""
        at += 12 + length
    return data[:8] + head + chunk(b"IDAT", change(packed)) + chunk(b"IEND", b"")


def with_rows(change):
    return lambda packed: zlib.compress(change(zlib.decompress(packed)))


DAMAGE = {
    "missing rows": with_rows(lambda rows: rows[:-200]),
    "wrong check sum": lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]),
    "no check sum": lambda packed: packed[:-4],
    "half of it": lambda packed: packed[: len(packed) // 2],
    "nothing": lambda packed: b"",
    "a filter of its own": with_rows(lambda rows: b"\x09" + rows[1:]),
    "rows that do not end": with_rows(lambda rows: rows + bytes(10_000_000)),
    "noise": lambda packed: bytes(reversed(packed)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(tmp_path, damage, capfd):
    data = make_png(random_samples(2, 8), 8, 2)
    (tmp_path / "damaged.png").write_bytes(rebuilt(data, lambda packed: packed))
    whole(tmp_path / "damaged.png")
    (tmp_path / "damaged.png").write_bytes(rebuilt(data, DAMAGE[damage]))
    with open_photo(tmp_path / "damaged.png") as source, refusal(PhotoError, "damaged.png", "damaged or cut short"):
        source.read(0, 0, 4, 4)
    assert capfd.readouterr() == ("", "")


def test_a_wrong_check_sum_of_a_chunk_is_damage(tmp_path):
    data = bytearray(make_png(random_samples(2, 8), 8, 2, before=[(b"tEXt", b"Title\0x")], idat=10_000))
    data[data.index(b"IDAT") + 1000] ^= 1
    (tmp_path / "pixels.png").write_bytes(data)
    with open_photo(tmp_path / "pixels.png") as source, refusal(PhotoError, "pixels.png", "damaged"):
        source.read(0, 0, 4, 4)
    data[data.index(b"Title")] ^= 1
    (tmp_path / "text.png").write_bytes(data)
    with refusal(PhotoError, "text.png", "check sum"):
        open_photo(tmp_path / "text.png")


def test_texts_that_expand_without_end_are_refused(tmp_path):
    bomb = b"Comment\0\0" + zlib.compress(bytes(2**26 - 2**20), 9)
    data = make_png(random_samples(2, 8), 8, 2, before=[(b"zTXt", bomb)] * 40)
    (tmp_path / "bomb.png").write_bytes(data)
    with refusal(PhotoError, "bomb.png", "too large"):
        open_photo(tmp_path / "bomb.png")


def test_a_palette_that_is_missing_and_a_row_too_wide_are_refused(tmp_path):
    (tmp_path / "none.png").write_bytes(make_png(random_samples(3, 8), 8, 3))
    with open_photo(tmp_path / "none.png") as source, refusal(PhotoError, "none.png", "palette"):
        source.read(0, 0, 4, 4)
    wide = np.zeros((16, png_rows.MAX_WIDTH + 1, 1), np.uint8)
    (tmp_path / "wide.png").write_bytes(make_png(wide, 1, 0))
    with refusal(PhotoError, "wide.png", "1000001", "wide"):
        open_photo(tmp_path / "wide.png")
    (tmp_path / "wide.png").write_bytes(make_png(wide[:, 1:], 1, 0))
    with open_photo(tmp_path / "wide.png") as source:
        assert source.read(15, 999_000, 1, 1000).colour.max() == 0
