"""TIFF files: the one picture in them as arrays with its tags, and a photo as a TIFF.

Read by tags first, so that more than 8 bits are noticed, and decoded through tifffile, which has every codec and
raises on damage.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import exif
from xpsr_cli.photos.ifd import Field, Layout, read_directory, read_header
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Pixels

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 254, 256, 257, 258, 259, 262, 277
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, ICC, DNG_VERSION = 338, 339, 700, 34675, 50706
_STORAGE = frozenset({WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES, SAMPLE_FORMAT, 320})
_REDUCED, _MASK = 1, 4  # bits of the subfile type
_PREMULTIPLIED, _STRAIGHT = 1, 2  # the extra samples that are transparency
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOUR_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_INCHES = {2: 1.0, 3: 2.54}  # by resolution unit
_JPEG_COMPRESSIONS = (6, 7)
_SEGMENTS = ((273, 279), (324, 325))  # places and lengths of strips, of tiles
_BIG_TIFF_FROM = 2**32 - 2**26  # bytes of pixels from which offsets of 32 bits may not do

CheckSize = Callable[[int, int], None]
CheckDepth = Callable[[int, str], None]


class TiffPage:
    """The directory of the only picture in a file, by tag."""

    def __init__(self, fields: list[Field], layout: Layout) -> None:
        self.fields, self.layout = fields, layout
        self._by_tag = {field.tag: field for field in fields}

    def __contains__(self, tag: int) -> bool:
        return tag in self._by_tag

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag, none where the directory does not have it."""
        return self._by_tag[tag].numbers(self.layout) if tag in self else ()

    def number(self, tag: int, default: int = 0) -> int:
        """The largest value of a tag, ``default`` where the directory does not have it."""
        return max(self.numbers(tag), default=default)

    def data(self, tag: int) -> bytes | None:
        """The bytes of a tag."""
        return self._by_tag[tag].data if tag in self else None

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch across and down."""
        inches = _INCHES.get(self.number(RESOLUTION_UNIT, 2))
        if inches is None or X_RESOLUTION not in self or Y_RESOLUTION not in self:
            return None
        across, down = (self._by_tag[tag].ratio(self.layout) * inches for tag in (X_RESOLUTION, Y_RESOLUTION))
        return across, down


def read_page(path: Path, stream: BinaryIO) -> TiffPage:
    """The page of the only picture; smaller copies of it and masks behind it do not count.

    Raises :class:`PhotoError` for files of several pictures and for camera raw files.
    """
    layout, offset = read_header(stream)
    page: TiffPage | None = None
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        fields, offset = read_directory(stream, layout, offset, _STORAGE)
        found = TiffPage(fields, layout)
        whole = not found.number(SUBFILE) & (_REDUCED | _MASK)
        if page is None:
            page = found
            if not whole or DNG_VERSION in page:
                raise PhotoError(f"{path} is a camera's raw file.", "Develop it to an 8-bit TIFF, PNG or JPEG first.")
        elif whole:
            raise PhotoError(f"{path} holds several pictures (pages).", "Save the page you want alone.")
    if page is None:
        raise ValueError("no picture in it")
    return page


def check_page(path: Path, page: TiffPage, check_size: CheckSize, check_depth: CheckDepth) -> None:
    """Refuse what cannot be read without loss, before anything is decoded."""
    check_size(page.number(WIDTH), page.number(HEIGHT))
    check_depth(page.number(BITS, 1), {2: "signed ", 3: "float "}.get(page.number(SAMPLE_FORMAT, 1), ""))
    photometric = page.number(PHOTOMETRIC, _BLACK_IS_ZERO)
    if photometric == _CMYK:
        raise PhotoError(f"{path} is in CMYK, the colours of print.", "Convert it to RGB with its profile first.")
    if photometric not in _COLOUR_CHANNELS:
        raise PhotoError(
            f"{path} has colours that are neither grey nor RGB (photometric interpretation {photometric}).",
            "Save it as 8-bit RGB first.",
        )
    extra = page.number(SAMPLES, 1) - _COLOUR_CHANNELS[photometric]
    if extra > 1 or (extra == 1 and page.number(EXTRA_SAMPLES) not in (_PREMULTIPLIED, _STRAIGHT)):
        raise PhotoError(
            f"{path} has {extra} channel(s) beyond its colours that are not declared to be transparency.",
            "Save it as RGB, or with one alpha channel.",
        )


def decode_page(page: TiffPage, stream: BinaryIO) -> tuple[Pixels, Pixels | None]:
    """Pixels (H, W, 3) as stored, not turned, and alpha (H, W) or ``None``."""
    if len(set(page.numbers(BITS))) > 1:
        raise ValueError("channels of unequal depth")
    file_size = stream.seek(0, io.SEEK_END)
    for places, lengths in _SEGMENTS:  # some codecs fill a strip that stops short without a word
        pairs = zip(page.numbers(places), page.numbers(lengths), strict=True)
        if any(place + length > file_size for place, length in pairs):
            raise ValueError("the file ends before its pixels do")
    stream.seek(0)
    with _quiet_tifffile(), tifffile.TiffFile(stream) as tiff:
        samples, colormap = tiff.pages[0].asarray(), getattr(tiff.pages[0], "colormap", None)
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.shape[:2] != (page.number(HEIGHT), page.number(WIDTH)):
        samples = np.moveaxis(samples, 0, -1)  # one plane per channel
    photometric = page.number(PHOTOMETRIC, _BLACK_IS_ZERO)
    channels = _COLOUR_CHANNELS[photometric]
    if samples.shape[:2] != (page.number(HEIGHT), page.number(WIDTH)) or not channels <= samples.shape[2] <= 4:
        raise ValueError(f"samples of shape {samples.shape}")
    colour, alpha = samples[..., :channels], samples[..., channels:]
    bits = page.number(BITS, 1)
    if photometric == _PALETTE:
        colour = _palette(colormap)[colour[..., 0]]
    elif bits < 8:
        colour = np.rint(colour * (255.0 / (2**bits - 1))).astype(np.uint8)
    if photometric == _WHITE_IS_ZERO:
        colour = 255 - colour
    if photometric == _YCBCR and page.number(COMPRESSION) not in _JPEG_COMPRESSIONS:  # the JPEG codec gives RGB
        colour = np.asarray(Image.frombytes("YCbCr", colour.shape[1::-1], colour.tobytes()).convert("RGB"))
    colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    if not alpha.shape[2]:
        return colour.astype(np.uint8), None
    if page.number(EXTRA_SAMPLES) == _PREMULTIPLIED:
        colour = np.minimum(np.rint(colour * 255.0 / np.maximum(alpha, 1)), 255)
    return colour.astype(np.uint8), alpha[..., 0].astype(np.uint8)


def is_grey(page: TiffPage) -> bool:
    """Whether the page holds no colour."""
    return page.number(PHOTOMETRIC, _BLACK_IS_ZERO) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)


def tiff_info(page: TiffPage, stream: BinaryIO) -> dict[str, Any]:
    """The page's metadata under the names that Pillow gives them in other files."""
    info = {
        "icc_profile": page.data(ICC),
        "exif": exif.from_tiff(stream, page.fields, page.layout),
        "xmp": page.data(XMP),
        "dpi": page.dpi,
    }
    return {name: value for name, value in info.items() if value is not None}


def write_tiff(samples: np.ndarray, metadata: Metadata, stream: BinaryIO) -> None:
    """Write a deflate-compressed TIFF (BigTIFF where 4 GiB would not do).

    ``samples`` is uint8: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) or (H, W, 4) colour without or with alpha.
    ``stream`` is a file open for reading and writing.
    """
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    byte_order = exif.byte_order(metadata.exif) if metadata.exif else "<"
    with tifffile.TiffWriter(stream, bigtiff=samples.nbytes >= _BIG_TIFF_FROM, byteorder=byte_order) as tiff:
        tiff.write(
            samples,
            photometric="rgb" if channels >= 3 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            compression="zlib",
            predictor=True,
            iccprofile=metadata.icc,
            extratags=[(XMP, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else [],
            resolution=metadata.dpi,
            resolutionunit="inch" if metadata.dpi else None,
            metadata=None,
            software=False,
        )
    if metadata.exif:
        exif.add_to_tiff(stream, metadata.exif, resolution=metadata.dpi is None)


def _palette(colormap: np.ndarray | None) -> np.ndarray:
    """(256, 3) uint8 of a colour map of shape (3, n), which holds 16 bits, or 8 from writers who forgot."""
    if colormap is None:
        raise ValueError("no palette")
    colours = np.zeros((256, 3), np.uint8)
    colours[: colormap.shape[1]] = (colormap >> 8 if colormap.max() > 255 else colormap).T[:256]
    return colours


@contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """tifffile without its log, which would reach the terminal; what matters it raises."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
