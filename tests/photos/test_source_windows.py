"""Windows are parts of the whole, in every format, depth and orientation, and cost no more than they must."""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from png_maker import make_png, random_samples
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import source as source_module
from xpsr_cli.photos import stored as stored_module
from xpsr_cli.photos.photo import Depth
from xpsr_cli.photos.source import open_photo, read_photo
from xpsr_cli.photos.spool import Spool

TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a, 1),
}
KINDS = ["u8.png", "u16.png", "interlaced.png", "u8.tif", "u16.tif", "float.tif", "tiled.tif", "a.jpg", "a.webp"]
KINDS += ["a.avif", "deep.avif"]
EXACT = {kind for kind in KINDS if kind.endswith((".png", ".tif", "a.webp"))}


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def make(path, kind, orientation, alpha=False):
    """A file of noise; the values it holds, (H, W, 3 or 4) float32, and its depth."""
    depth = {"u16": Depth.U16, "interlaced": Depth.U16, "deep": Depth.U16, "float": Depth.FLOAT}.get(
        kind.split(".")[0], Depth.U8
    )
    values = np.random.default_rng(3).random((43, 58, 4 if alpha else 3), dtype=np.float32)
    if kind.endswith((".jpg", ".avif")):  # which are not exact: without noise
        values = np.linspace(0, 1, values.size, dtype=np.float32).reshape(values.shape)
    samples = values if depth is Depth.FLOAT else np.rint(values * depth.white).astype(depth.dtype)
    if kind.endswith(".png"):
        before = [(b"eXIf", exif(orientation)[6:])]
        bits = 8 * samples.itemsize
        path.write_bytes(make_png(samples, bits, 6 if alpha else 2, interlaced="inter" in kind, before=before))
    elif kind.endswith(".tif"):
        tifffile.imwrite(
            path,
            samples,
            photometric="rgb",
            extrasamples=["unassalpha"] if alpha else None,
            tile=(16, 32) if "tiled" in kind else None,
            rowsperstrip=None if "tiled" in kind else 7,
            compression="deflate" if "u8" not in kind else None,
            extratags=[(0x0112, 3, 1, orientation, True)],
        )
    elif kind == "deep.avif":
        path.write_bytes(imagecodecs.avif_encode((samples >> 6).astype(np.uint16), level=100, bitspersample=10))
        samples = np.rint((samples >> 6) * np.float32(65535 / 1023)).astype(np.uint16)
    else:
        options = {"lossless": True} if kind == "a.webp" else {"quality": 100, "subsampling": "4:4:4"}
        Image.fromarray(samples).save(path, exif=exif(orientation), exact=True, **options)
    white = np.float32(depth.white)
    return samples.astype(np.float32) / white, depth


@pytest.mark.parametrize(
    ("kind", "orientation"),  # the encoder for 10 bits cannot turn its pictures
    [(kind, orientation) for kind in KINDS for orientation in range(1, 2 if kind == "deep.avif" else 9)],
)
def test_windows_are_parts_of_the_whole(tmp_path, kind, orientation):
    path = tmp_path / kind
    values, depth = make(path, kind, orientation)
    expected = TURNED[orientation](values)
    with open_photo(path) as source:
        assert source.info.size == expected.shape[1::-1]
        assert source.info.depth is depth
        whole = source.read(0, 0, source.info.height, source.info.width).colour
        np.testing.assert_allclose(whole, expected, rtol=0, atol=0 if kind in EXACT else 0.06)
        height, width = whole.shape[:2]
        for top, left, rows, columns in (
            (0, 0, 1, 1),
            (5, 9, 20, 13),
            (height - 9, width - 4, 9, 4),
            (7, 0, 3, width),
        ):
            window = source.read(top, left, rows, columns).colour
            assert window.dtype == np.float32
            assert window.flags.c_contiguous
            assert window.flags.writeable
            np.testing.assert_array_equal(window, whole[top : top + rows, left : left + columns])


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in EXACT])
def test_windows_of_transparent_photos(tmp_path, kind, orientation):
    values, _ = make(tmp_path / kind, kind, orientation, alpha=True)
    expected = TURNED[orientation](values)
    with open_photo(tmp_path / kind) as source:
        assert source.info.alpha
        assert source.transparent()
        region = source.read(5, 9, 20, 13)
        np.testing.assert_array_equal(region.colour, expected[5:25, 9:22, :3])
        np.testing.assert_array_equal(region.alpha, expected[5:25, 9:22, 3])


@pytest.mark.parametrize("kind", ["u8.png", "u16.tif", "a.webp"])
def test_an_alpha_channel_of_nothing_but_opaque_is_not_transparent(tmp_path, kind):
    path = tmp_path / kind
    samples = random_samples(6, 16 if "u16" in kind else 8)
    for last, transparent in ((0, False), (1, True)):
        samples[..., 3] = np.iinfo(samples.dtype).max
        samples[-1, -1, 3] -= last
        if kind.endswith("webp"):
            Image.fromarray(samples).save(path, lossless=True)
        elif kind.endswith("tif"):
            tifffile.imwrite(path, samples, photometric="rgb", extrasamples=["unassalpha"])
        else:
            path.write_bytes(make_png(samples, 8, 6))
        with open_photo(path) as source:
            assert source.transparent() == transparent


def test_windows_outside_of_the_picture_are_a_mistake_of_the_caller(tmp_path):
    make(tmp_path / "u8.png", "u8.png", 1)
    with open_photo(tmp_path / "u8.png") as source:
        for window in ((-1, 0, 4, 4), (0, 0, 44, 4), (0, 55, 4, 4), (0, 0, 0, 4)):
            with pytest.raises(ValueError, match="no window"):
                source.read(*window)


def test_the_header_is_enough_to_know_what_a_photo_is(tmp_path, monkeypatch):
    make(tmp_path / "u16.png", "u16.png", 6)
    monkeypatch.setattr(source_module, "decode_png", lambda *_: pytest.fail("it was decoded"))
    with open_photo(tmp_path / "u16.png") as source:
        assert source.info.size == (43, 58)
        assert source.info.name == "u16.png"
        assert source.info.path == tmp_path / "u16.png"


@pytest.mark.parametrize("kind", ["u8.png", "interlaced.png", "a.jpg", "a.webp", "a.avif", "deep.avif"])
def test_a_spool_on_disk_is_as_one_in_memory(tmp_path, monkeypatch, kind):
    make(tmp_path / kind, kind, 1)
    expected = read_photo(tmp_path / kind).pixels
    spools = []

    def on_disk(*args, folder):
        spools.append(Spool(*args, folder=folder, memory_bytes=0))
        return spools[-1]

    monkeypatch.setattr(stored_module, "Spool", on_disk)
    with open_photo(tmp_path / kind, spool_folder=tmp_path) as source:
        window = source.read(5, 9, 20, 13).colour
        whole = source.read(0, 0, *expected.shape[:2]).colour
        assert sorted(os.listdir(tmp_path)) == [kind]  # its file has no name
    white = np.float32(np.iinfo(expected.dtype).max)
    np.testing.assert_array_equal(whole, expected / white)
    np.testing.assert_array_equal(window, whole[5:25, 9:22])
    assert [spool.in_memory for spool in spools] == [False]


@pytest.mark.parametrize("kind", ["u8.png", "tiled.tif", "u16.tif"])
def test_several_threads_may_read(tmp_path, kind):
    make(tmp_path / kind, kind, 6)
    whole = read_photo(tmp_path / kind)
    places = [(top, left) for top in range(0, 48, 3) for left in range(0, 30, 3)]
    with open_photo(tmp_path / kind) as source, ThreadPoolExecutor(8) as pool:
        windows = list(pool.map(lambda place: source.read(*place, 10, 13).colour, places))
    for (top, left), window in zip(places, windows, strict=True):
        np.testing.assert_array_equal(window, whole.read(top, left, 10, 13).colour)


@pytest.mark.parametrize("kind", ["u8.png", "u16.tif", "a.jpg"])
def test_a_file_that_goes_or_changes_in_between_is_noticed(tmp_path, kind):
    path = tmp_path / kind
    make(path, kind, 1)
    with open_photo(path) as source:
        path.write_bytes(path.read_bytes() + b"\0")
        with refusal(PhotoError, kind, "was changed"):
            source.read(0, 0, 4, 4)
    make(path, kind, 1)
    with open_photo(path) as source:
        path.unlink()
        with refusal(PhotoError, kind, "gone"):
            source.read(0, 0, 4, 4)


def test_what_has_been_read_stays_when_the_file_goes(tmp_path):
    make(tmp_path / "u8.png", "u8.png", 1)
    with open_photo(tmp_path / "u8.png") as source:
        before = source.read(0, 0, 20, 20).colour
        (tmp_path / "u8.png").unlink()
        np.testing.assert_array_equal(source.read(0, 0, 20, 20).colour, before)


def test_no_file_stays_open(tmp_path):
    make(tmp_path / "u8.png", "u8.png", 1)
    make(tmp_path / "u8.tif", "u8.tif", 1)
    (tmp_path / "cut.tif").write_bytes((tmp_path / "u8.tif").read_bytes()[:-500])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    if before is None:
        pytest.skip("needs a list of open files")
    for _ in range(5):
        for name in ("u8.png", "u8.tif"):
            read_photo(tmp_path / name)
        with refusal(PhotoError, "cut.tif"):
            open_photo(tmp_path / "cut.tif")
    assert len(os.listdir("/proc/self/fd")) == before


BIG = 4000


@pytest.fixture(scope="module")
def big_files(tmp_path_factory):
    """Gradients of 4000 x 4000 pixels in red, green and blue, 16 bits: 96 MB as an array."""
    folder = tmp_path_factory.mktemp("big")
    row = np.arange(BIG, dtype=np.uint16)
    picture = np.empty((BIG, BIG, 3), np.uint16)
    picture[..., 0], picture[..., 1], picture[..., 2] = row, row[:, None], 7
    (folder / "big.png").write_bytes(imagecodecs.png_encode(picture, level=1))
    for name, options in (
        ("tiled.tif", {"tile": (256, 256), "compression": "deflate", "compressionargs": {"level": 1}}),
        ("strips.tif", {"rowsperstrip": 16, "compression": "lzw"}),
        ("one_strip.tif", {"rowsperstrip": BIG}),
        ("planes.tif", {"rowsperstrip": BIG, "planarconfig": "separate"}),
    ):
        stored = np.moveaxis(picture, -1, 0) if "planes" in name else picture
        tifffile.imwrite(folder / name, stored, photometric="rgb", **options)
    return folder


@pytest.mark.parametrize("name", ["big.png", "tiled.tif", "strips.tif", "one_strip.tif", "planes.tif"])
def test_memory_stays_small_however_large_the_photo(big_files, name):
    row = np.arange(BIG, dtype=np.float32) / np.float32(65535)
    tracemalloc.start()
    try:
        with open_photo(big_files / name) as source:
            for top in range(0, BIG, 250):
                colour = source.read(top, 0, 250, BIG).colour
                np.testing.assert_array_equal(colour[100, :, 0], row)
                np.testing.assert_array_equal(colour[:, 77, 1], row[top : top + 250])
                del colour
            np.testing.assert_array_equal(source.read(3000, 3500, 64, 64).colour[0, :, 0], row[3500:3564])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    band = 250 * BIG * 3 * 4
    assert peak - 3 * band < BIG * BIG * 3 * 2 / 5
