"""What a PNG file says besides its pixels: header, palette, profile, EXIF and texts, wherever in the file they stand.

Source: PNG specification, third edition (W3C, 2025). Chunks are read by hand so that no picture is decoded for them
and nothing is cut to 8 bits on the way.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from xpsr_cli.photos.iptc import raw_profile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_BITS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_COLOUR_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"})
_READ = _COLOUR_CHUNKS | {b"PLTE", b"tRNS", b"acTL", b"pHYs", b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt"}
_MAX_BYTES = 2**26  # of profile, EXIF and texts in all, as they expand
_XMP = "XML:com.adobe.xmp"
_INCH = 0.0254  # metres
# Where ImageMagick puts what it has no chunk for, as text.
_RAW_PROFILES = (
    ("Raw profile type xmp", "xmp"),
    ("Raw profile type icc", "icc_profile"),
    ("Raw profile type icm", "icc_profile"),
    ("Raw profile type APP1", "exif"),
)


@dataclass
class PngHeader:
    """The picture's layout and ``metadata`` under the names that Pillow has for it."""

    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: bool
    palette: bytes = b""
    transparency: bytes | None = None
    pictures: int = 1
    pixels_at: int = 0  # the first chunk of pixels
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples of a pixel as stored; one, an index, for palettes."""
        return _SAMPLES[self.colour_type]

    def row_bytes(self, width: int) -> int:
        """Bytes of a stored row of ``width`` pixels."""
        return (width * self.samples * self.bits + 7) // 8


def chunks(stream: BinaryIO, place: int = len(SIGNATURE)) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place of the data and its length of each chunk from ``place`` on, up to the end of the picture.

    Raises :class:`ValueError` when the file ends before.
    """
    end = stream.seek(0, io.SEEK_END)
    while True:
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8 or place + 12 + (length := int.from_bytes(head[:4], "big")) > end:
            raise ValueError("the file ends before its picture does")
        kind = head[4:]
        yield kind, place + 8, length
        if kind == b"IEND":
            return
        place += 12 + length


def read_header(stream: BinaryIO, judge: Callable[[PngHeader], None] | None = None) -> PngHeader:
    """The header of a PNG with all that its chunks say; ``judge`` sees its layout before anything else is read.

    Raises :class:`ValueError` or ``struct.error`` for a file that is damaged or cut short.
    """
    header = _read_layout(stream)
    if judge is not None:
        judge(header)
    room, frames, first_is_frame = _MAX_BYTES, 0, False
    for kind, place, length in chunks(stream):
        if kind == b"IDAT":
            header.pixels_at = header.pixels_at or place - 8
        elif kind == b"fcTL":
            first_is_frame |= not header.pixels_at
        elif kind in _READ:
            if length > room:
                raise ValueError("its texts are too large")
            data = _data(stream, kind, place, length)
            if kind == b"acTL":
                frames = struct.unpack(">II", data)[0]
            else:
                room -= max(length, _take(header, kind, data, room))
    if not header.pixels_at:
        raise ValueError("no pixels in it")
    header.pictures = frames + (not first_is_frame) if frames else 1
    for keyword, name in _RAW_PROFILES:
        if name not in header.metadata and keyword in header.metadata:
            header.metadata[name] = raw_profile(header.metadata[keyword])
    return header


def _read_layout(stream: BinaryIO) -> PngHeader:
    stream.seek(len(SIGNATURE))
    length, kind = struct.unpack(">I4s", stream.read(8))
    if kind != b"IHDR" or length != 13:
        raise ValueError("the first chunk is no header")
    data = _data(stream, kind, len(SIGNATURE) + 8, length)
    width, height, bits, colour_type, compression, filters, interlace = struct.unpack(">IIBBBBB", data)
    if bits not in _BITS.get(colour_type, ()) or compression or filters or interlace > 1:
        raise ValueError("its header makes no sense")
    return PngHeader(width, height, bits, colour_type, interlaced=bool(interlace))


def _data(stream: BinaryIO, kind: bytes, place: int, length: int) -> bytes:
    stream.seek(place)
    data = stream.read(length)
    if zlib.crc32(kind + data) != int.from_bytes(stream.read(4), "big"):
        raise ValueError(f"the check sum of {kind.decode('latin-1')} is wrong")
    return data


def _take(header: PngHeader, kind: bytes, data: bytes, room: int) -> int:
    """Put what a chunk says into the header, and return the bytes it expands to."""
    info = header.metadata
    if kind == b"PLTE":
        header.palette = data
    elif kind == b"tRNS":
        header.transparency = data
    elif kind in _COLOUR_CHUNKS:
        info.setdefault("png_colour", []).append((kind, data))
    elif kind == b"eXIf":
        info["exif"] = data
    elif kind == b"pHYs":
        across, down, unit = struct.unpack(">IIB", data)
        if unit == 1:
            info["dpi"] = across * _INCH, down * _INCH
    elif kind == b"iCCP":
        name, _, packed = data.partition(b"\0")
        info["icc_profile"] = _inflate(packed[1:], room)
        return len(info["icc_profile"])
    else:
        return _take_text(info, kind, data, room)
    return len(data)


def _take_text(info: dict[str, Any], kind: bytes, data: bytes, room: int) -> int:
    keyword, _, value = data.partition(b"\0")
    encoding = "latin-1"
    if kind == b"zTXt":
        value = _inflate(value[1:], room)
    elif kind == b"iTXt":
        packed, encoding = value[:1] == b"\1", "utf-8"
        value = value[2:].split(b"\0", 2)[-1]  # behind the language and the keyword in it
        value = _inflate(value, room) if packed else value
    name, text = keyword.decode("latin-1"), value.decode(encoding, "replace")
    if name == _XMP:
        info["xmp"] = value
    elif name.startswith("Raw profile type "):
        info[name] = text
    else:
        info.setdefault("texts", []).append((name, text))
    return len(value)


def _inflate(packed: bytes, room: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, room + 1)
    except zlib.error as error:
        raise ValueError(f"its metadata cannot be unpacked ({error})") from error
    if len(data) > room:
        raise ValueError("its texts are too large")
    return data
