"""AVIF: bits and colours that its decoder does not pass on are read from its boxes, or refused."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.photo import Depth
from xpsr_cli.photos.source import open_photo, read_photo


def encoded(bits, channels=3):
    samples = np.random.default_rng(bits).integers(0, 2**bits, (24, 40, channels))
    samples = samples.astype(np.uint8 if bits == 8 else np.uint16)
    return samples, imagecodecs.avif_encode(samples, level=100, bitspersample=bits)


def with_colours(data, primaries, transfer):
    """The file with other numbers for its colours."""
    at = data.index(b"nclx") + 4
    return data[:at] + bytes([0, primaries, 0, transfer]) + data[at + 4 :]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_every_bit_is_kept(tmp_path, bits, channels):
    samples, data = encoded(bits, channels)
    (tmp_path / "a.avif").write_bytes(data)
    photo = read_photo(tmp_path / "a.avif")
    assert photo.info.depth is (Depth.U8 if bits == 8 else Depth.U16)
    values = np.dstack([photo.pixels, photo.alpha]) if channels == 4 else photo.pixels
    white = 255 if bits == 8 else 65535
    np.testing.assert_array_equal(np.rint(values / white * (2**bits - 1)), samples)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_grey_is_grey(tmp_path, bits, alpha):
    samples, data = encoded(bits, 2 if alpha else 1)
    (tmp_path / "a.avif").write_bytes(data)
    with open_photo(tmp_path / "a.avif") as source:
        assert source.info.grey
        region = source.read(0, 0, 24, 40)
    white = 2**bits - 1
    np.testing.assert_array_equal(np.rint(region.colour * white), np.repeat(samples[..., :1], 3, axis=2))
    if alpha:
        np.testing.assert_array_equal(np.rint(region.alpha * white), samples[..., 1])


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path, transfer, name):
    (tmp_path / "hdr.avif").write_bytes(with_colours(encoded(10)[1], 9, transfer))
    with refusal(PhotoError, "hdr.avif", "HDR", name):
        open_photo(tmp_path / "hdr.avif")


@pytest.mark.parametrize(
    ("primaries", "transfer", "kept"), [(1, 13, False), (2, 2, False), (1, 1, False), (12, 13, True), (9, 1, True)]
)
def test_colours_by_number_travel_as_in_a_png(tmp_path, primaries, transfer, kept):
    (tmp_path / "a.avif").write_bytes(with_colours(encoded(8)[1], primaries, transfer))
    with open_photo(tmp_path / "a.avif") as source:
        colour = source.info.metadata.png_colour
    assert colour == (((b"cICP", bytes([primaries, transfer, 0, 1])),) if kept else ())


def test_a_profile_says_more_than_numbers(tmp_path, pixels, icc):
    Image.fromarray(pixels).save(tmp_path / "a.avif", icc_profile=icc)
    metadata = read_photo(tmp_path / "a.avif").metadata
    assert metadata.icc == icc
    assert metadata.png_colour == ()


def test_an_animation_is_refused(tmp_path, pixels):
    pictures = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    pictures[0].save(tmp_path / "a.avif", save_all=True, append_images=pictures[1:])
    with refusal(PhotoError, "a.avif", "animation of 2"):
        open_photo(tmp_path / "a.avif")


@pytest.mark.parametrize("bits", [8, 10])
def test_a_file_cut_short_is_refused(tmp_path, bits, capfd):
    whole = encoded(bits)[1]
    for length in range(1, len(whole), 41):
        (tmp_path / "cut.avif").write_bytes(whole[:length])
        with refusal(PhotoError, "cut.avif"):
            read_photo(tmp_path / "cut.avif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bits", [8, 10])
def test_damage_is_read_or_refused_and_nothing_else(tmp_path, bits, capfd):
    whole = encoded(bits)[1]
    random = np.random.default_rng(bits)
    messages = []
    for _ in range(150):
        damaged = bytearray(whole)
        for at in random.integers(0, 400, random.integers(1, 6)):
            damaged[at] = random.choice([0, 1, 255, random.integers(256)])
        (tmp_path / "a.avif").write_bytes(damaged)
        try:
            read_photo(tmp_path / "a.avif")
        except PhotoError as error:
            messages.append(error.message)
    assert messages
    assert all("a.avif" in message for message in messages)
    assert capfd.readouterr() == ("", "")
