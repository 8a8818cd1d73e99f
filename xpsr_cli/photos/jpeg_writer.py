"""JPEG files written from groups of rows: each is encoded by itself, and restart markers join them into one picture.

A restart marker ends every row of blocks, after which nothing before it counts; so the coded rows of a strip are those
that the whole picture would have. Source: ITU-T T.81, annexes B and E.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from PIL import Image

from xpsr_cli.photos.iptc import photoshop_segment
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import PhotoInfo, Samples
from xpsr_cli.photos.texts import COMMENT, MANIFEST, to_comment

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_APP0, _APP1, _APP2, _APP13, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_FRAME, _SCAN = 0xC0, 0xDA
_END = b"\xff\xd9"
_LAST_RESTART = b"\xff\xd7"  # they are counted from 0 to 7; a strip of eight rows of blocks ends before the last
_PROFILE_PART = 65533 - 14  # bytes of a profile that one segment holds


def write_jpeg(rows: Iterable[Samples], info: PhotoInfo, stream: BinaryIO, *, quality: int) -> None:
    """Write a baseline JPEG whose colour is not subsampled (4:4:4).

    ``rows`` are (h, width, channels) uint8 from top to bottom: grey, RGB, or the inks of CMYK (255: all of it), in
    groups of :data:`~xpsr_cli.photos.samples.GROUP_ROWS`. ``info`` is what the file holds, its metadata included;
    ``quality`` is 1 to 100.
    """
    for number, strip in enumerate(rows):
        segments, coded = _encoded(strip, quality, info.metadata.dpi)
        if number == 0:
            _write_header(stream, segments, info)
        else:
            stream.write(_LAST_RESTART)
        stream.write(coded)
    stream.write(_END)


def _encoded(strip: Samples, quality: int, dpi: tuple[float, float] | None) -> tuple[list[tuple[int, bytes]], bytes]:
    """A strip as a JPEG: its segments up to the scan, by marker, and the coded blocks."""
    height, width, channels = strip.shape
    image = Image.frombytes(_MODES[channels], (width, height), strip.tobytes())
    buffer = io.BytesIO()
    density = {"dpi": tuple(min(max(round(value), 1), 65535) for value in dpi)} if dpi else {}
    image.save(buffer, "JPEG", quality=quality, subsampling=0, restart_marker_rows=1, **density)
    data = buffer.getvalue()
    segments = []
    place, marker = 2, 0
    while marker != _SCAN:
        marker, size = struct.unpack_from(">xBH", data, place)
        segments.append((marker, data[place + 4 : place + 2 + size]))
        place += 2 + size
    return segments, data[place : -len(_END)]


def _write_header(stream: BinaryIO, segments: list[tuple[int, bytes]], info: PhotoInfo) -> None:
    """Everything before the coded blocks, with the height of the picture instead of the strip's."""
    stream.write(b"\xff\xd8")
    if segments[0][0] == _APP0:  # the resolution comes first; inks without one have no such segment
        _write_segment(stream, *segments.pop(0))
    for marker, data in _metadata_segments(info.metadata):
        _write_segment(stream, marker, data)
    for marker, data in segments:
        if marker == _FRAME:
            data = data[:1] + struct.pack(">H", info.height) + data[3:]
        _write_segment(stream, marker, data)


def _write_segment(stream: BinaryIO, marker: int, data: bytes) -> None:
    stream.write(struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data)


def _metadata_segments(metadata: Metadata) -> Iterator[tuple[int, bytes]]:
    if metadata.exif:
        yield _APP1, b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        yield _APP1, b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp
    if metadata.icc:
        starts = range(0, len(metadata.icc), _PROFILE_PART)
        for number, start in enumerate(starts, start=1):
            part = metadata.icc[start : start + _PROFILE_PART]
            yield _APP2, b"ICC_PROFILE\0" + bytes([number, len(starts)]) + part
    if metadata.iptc:
        yield _APP13, photoshop_segment(metadata.iptc)
    # readers that show one comment show the last: let it be the user's own, never the manifest
    for text in sorted(metadata.texts, key=lambda text: (text[0] != MANIFEST, text[0] == COMMENT)):
        yield _COMMENT, to_comment(text)
