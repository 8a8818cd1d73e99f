"""TIFF files: the directory of the one picture in them, what it says, and what cannot be read without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import exif
from xpsr_cli.photos.ifd import Field, Layout, read_directory, read_header
from xpsr_cli.photos.photo import Depth
from xpsr_cli.photos.stored import MAX_STREAMED_PIXELS, StoredHeader, check_size

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
FILL_ORDER, STRIP_PLACES, SAMPLES, ROWS_PER_STRIP, STRIP_LENGTHS = 266, 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANES, RESOLUTION_UNIT, PREDICTOR, COLOUR_MAP = 282, 283, 284, 296, 317, 320
FAX3_OPTIONS, FAX4_OPTIONS, TILE_WIDTH, TILE_HEIGHT, TILE_PLACES, TILE_LENGTHS = 292, 293, 322, 323, 324, 325
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING = 332, 338, 339, 347, 530
XMP, IMAGE_DEPTH, IPTC, ICC, DNG_VERSION = 700, 32997, 33723, 34675, 50706
_STORAGE = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_PLACES, SAMPLES, ROWS_PER_STRIP, STRIP_LENGTHS}
    | {PLANES, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_PLACES, TILE_LENGTHS, INK_SET, EXTRA_SAMPLES}
    | {SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING}
)
REDUCED, MASK = 1, 4  # bits of the subfile type
PREMULTIPLIED, STRAIGHT = 1, 2  # the extra samples that are transparency
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_STORED_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
_INCHES = {2: 1.0, 3: 2.54}  # by resolution unit
JPEG_COMPRESSIONS = (6, 7)
# None, three of fax, LZW, two of JPEG, deflate under both numbers, PackBits, LZMA, Zstandard: those whose output has
# the size that the directory says, or none at all.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, *JPEG_COMPRESSIONS, 8, 32946, 32773, 34925, 50000})
_WHOLE, _FLOAT = 1, 3  # sample formats
_KINDS = {2: "signed ", 3: "float ", 5: "complex ", 6: "complex "}
_NUMBER_TYPES = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}


class TiffPage:
    """The directory of the only picture in a file, by tag."""

    def __init__(self, fields: list[Field], layout: Layout) -> None:
        self.fields, self.layout = fields, layout
        self._by_tag = {field.tag: field for field in fields}

    def __contains__(self, tag: int) -> bool:
        return tag in self._by_tag

    def field(self, tag: int) -> Field | None:
        """A tag with its value as stored."""
        return self._by_tag.get(tag)

    def numbers(self, tag: int) -> np.ndarray:
        """The values of a tag as whole numbers, none where the directory does not have it."""
        field = self._by_tag.get(tag)
        code = _NUMBER_TYPES.get(field.type) if field else None
        return np.frombuffer(field.data if field else b"", self.layout.order + code) if code else np.empty(0, "u8")

    def number(self, tag: int, default: int = 0) -> int:
        """The largest value of a tag, ``default`` where the directory does not have it."""
        values = self.numbers(tag)
        return int(values.max()) if len(values) else default

    def data(self, tag: int) -> bytes | None:
        """The bytes of a tag."""
        return self._by_tag[tag].data if tag in self else None

    @property
    def photometric(self) -> int:
        """How samples become colours; black is zero where the directory does not say."""
        return self.number(PHOTOMETRIC, BLACK_IS_ZERO)

    @property
    def extra(self) -> int:
        """Samples of a pixel beyond its colours."""
        return self.number(SAMPLES, 1) - _STORED_COLOURS[self.photometric]

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
        whole = not found.number(SUBFILE) & (REDUCED | MASK)
        if page is None:
            page = found
            if not whole or DNG_VERSION in page:
                raise PhotoError(f"{path} is a camera's raw file.", "Develop it to a 16-bit TIFF, PNG or JPEG first.")
        elif whole:
            raise PhotoError(f"{path} holds several pictures (pages).", "Save the page you want alone.")
    if page is None:
        raise ValueError("no picture in it")
    if page.number(IMAGE_DEPTH, 1) > 1:
        raise PhotoError(f"{path} holds several pictures (a volume).", "Save the slice you want alone.")
    return page


def read_tiff_header(path: Path, page: TiffPage, stream: BinaryIO) -> StoredHeader:
    """What a page says of its picture; refuses what cannot be read without loss, before anything is decoded."""
    width, height = page.number(WIDTH), page.number(HEIGHT)
    check_size(path, width, height, MAX_STREAMED_PIXELS)
    _check_colours(path, page)
    depth = _depth(path, page)
    if page.number(COMPRESSION, 1) not in _COMPRESSIONS:
        raise PhotoError(
            f"{path} is compressed in a way that cannot be read (number {page.number(COMPRESSION)}).",
            "Save it with deflate or LZW compression first.",
        )
    return StoredHeader(
        width,
        height,
        depth,
        colours={WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, CMYK: 4}.get(page.photometric, 3),
        alpha=page.extra == 1,
        premultiplied=page.number(EXTRA_SAMPLES) == PREMULTIPLIED,
        metadata=_metadata(page, stream),
        orientation=exif.orientation_of(page.fields, page.layout),
    )


def _check_colours(path: Path, page: TiffPage) -> None:
    photometric = page.photometric
    if photometric not in _STORED_COLOURS:
        raise PhotoError(
            f"{path} has colours that are neither grey nor RGB (photometric interpretation {photometric}).",
            "Save it as RGB first.",
        )
    if photometric == CMYK and page.number(INK_SET, 1) != 1:
        raise PhotoError(f"{path} has inks other than those of CMYK.", "Convert it to RGB first.")
    if page.extra > 1 or (page.extra == 1 and page.number(EXTRA_SAMPLES) not in (PREMULTIPLIED, STRAIGHT)):
        raise PhotoError(
            f"{path} has {page.extra} channel(s) beyond its colours that are not declared to be transparency.",
            "Save it as RGB, or with one alpha channel.",
        )
    if page.extra < 0:
        raise ValueError("fewer channels than colours")
    plain = page.number(COMPRESSION, 1) not in JPEG_COMPRESSIONS
    if photometric == YCBCR and plain and page.number(SUBSAMPLING, 2) > 1:
        raise PhotoError(f"{path} has subsampled YCbCr colours outside of a JPEG.", "Save it as RGB first.")


def _depth(path: Path, page: TiffPage) -> Depth:
    bits, kinds = page.number(BITS, 1), set(page.numbers(SAMPLE_FORMAT).tolist()) or {_WHOLE}
    if len(set(page.numbers(BITS).tolist())) > 1 or len(kinds) > 1:
        raise PhotoError(f"{path} has channels of unequal depth.", "Save it with 8 or 16 bits per channel first.")
    kind = kinds.pop()
    if kind == _FLOAT and bits in (16, 32, 64) and page.photometric not in (PALETTE, YCBCR):
        return Depth.FLOAT
    if kind in (_WHOLE, 4) and bits in (1, 2, 4, 8):  # 4: the writer does not say
        return Depth.U8
    if kind in (_WHOLE, 4) and bits == 16 and page.photometric not in (PALETTE, YCBCR):
        return Depth.U16
    raise PhotoError(
        f"{path} has {bits}-bit {_KINDS.get(kind, '')}samples, which cannot be read.",
        "Save it with 8 or 16 bits, or as floats from 0 to 1.",
    )


def _metadata(page: TiffPage, stream: BinaryIO) -> dict[str, Any]:
    """The page's metadata under the names that Pillow gives them in other files."""
    info = {
        "icc_profile": page.data(ICC),
        "exif": exif.from_tiff(stream, page.fields, page.layout),
        "xmp": page.data(XMP),
        "iptc": page.data(IPTC),
        "dpi": page.dpi,
    }
    return {name: value for name, value in info.items() if value is not None}
