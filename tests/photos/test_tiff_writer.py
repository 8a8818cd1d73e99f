"""TIFFs in tiles: every compression and depth, the tags that belong to a photo, and BigTIFF where it is needed."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from small_photos import camera_exif

from xpsr_cli.photos import tiff_writer
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Depth, PhotoInfo
from xpsr_cli.photos.tiff_writer import write_tiff
from xpsr_cli.settings import Compression


def tiff(samples, metadata=None, compression=Compression.DEFLATE, *, cmyk=False):
    height, width, channels = samples.shape
    depth = next(depth for depth in Depth if depth.dtype == samples.dtype)
    alpha = channels in ((5,) if cmyk else (2, 4))
    info = PhotoInfo(width, height, depth, channels < 3, alpha, cmyk, metadata or Metadata())
    stream = io.BytesIO()
    rows = (samples[top : top + 64] for top in range(0, height, 64))
    write_tiff(rows, info, stream, compression=compression)
    return stream.getvalue()


def picture(height, width, channels, dtype):
    values = np.random.default_rng(height).random((height, width, channels), np.float32)
    values[: height // 2] = 0.25
    return values if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("size", [(1, 1), (64, 300), (257, 256), (600, 500)], ids=str)
def test_every_compression_gives_every_sample_back(compression, dtype, order, size):
    samples = picture(*size, 3, dtype)
    data = tiff(samples, Metadata(exif=camera_exif(order, thumbnail=False)), compression)
    assert data.startswith(order.encode())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), samples)
        assert page.is_tiled
        predictor = 1 if compression is Compression.NONE else 3 if dtype == np.float32 else 2
        assert page.predictor == predictor
        assert page.compression == {"none": 1, "deflate": 8, "lzw": 5, "zstd": 50000}[compression.value]


@pytest.mark.parametrize(
    ("channels", "cmyk", "photometric", "extra"),
    [
        (1, False, "MINISBLACK", ()),
        (2, False, "MINISBLACK", (2,)),
        (3, False, "RGB", ()),
        (4, False, "RGB", (2,)),
        (4, True, "SEPARATED", ()),
        (5, True, "SEPARATED", (2,)),
    ],
)
def test_what_the_channels_are_is_said(channels, cmyk, photometric, extra):
    samples = picture(100, 90, channels, np.uint16)
    with tifffile.TiffFile(io.BytesIO(tiff(samples, cmyk=cmyk))) as file:
        page = file.pages[0]
        assert page.photometric.name == photometric
        assert tuple(page.extrasamples) == extra
        np.testing.assert_array_equal(page.asarray().reshape(samples.shape), samples)


def test_tags_come_back(icc):
    credit, exif = b"\x1c\x02\x50\x00\x04Anna", camera_exif("MM", thumbnail=False)
    metadata = Metadata(icc, exif, b"<x:xmpmeta/>", credit, (300.0, 240.0))
    with tifffile.TiffFile(io.BytesIO(tiff(picture(300, 300, 3, np.uint8), metadata))) as file:
        tags = file.pages[0].tags
        assert tags["InterColorProfile"].value == icc
        assert bytes(tags["XMP"].value) == b"<x:xmpmeta/>"
        assert bytes(tags["IPTCNAA"].value) == credit
        assert tags["XResolution"].value == (300, 1)
        assert tags["YResolution"].value == (240, 1)
        assert tags["ResolutionUnit"].value == 2
        assert tags["Make"].value == "Maker"
        assert "Software" not in tags
        assert file.pages[0].asarray().shape == (300, 300, 3)


def test_the_same_picture_is_the_same_file():
    samples = picture(600, 700, 3, np.uint16)
    assert tiff(samples) == tiff(samples)


def test_offsets_are_wide_only_where_the_pixels_need_it(monkeypatch):
    samples = picture(300, 300, 3, np.uint8)
    assert tiff(samples).startswith(b"II*\0")
    monkeypatch.setattr(tiff_writer, "BIG_TIFF_FROM", 2 * 2 * 256 * 256 * 3)
    data = tiff(samples, Metadata(exif=camera_exif("II", thumbnail=False)))
    assert data.startswith(b"II+\0")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), samples)
        assert file.pages[0].tags["Make"].value == "Maker"
    monkeypatch.setattr(tiff_writer, "BIG_TIFF_FROM", 2 * 2 * 256 * 256 * 3 + 1)
    assert tiff(samples).startswith(b"II*\0")
