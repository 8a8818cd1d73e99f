"""What an AVIF file says of its colours that its decoder does not pass on: bits, and primaries by number.

Sources: ISO/IEC 14496-12 (boxes), AV1-ISOBMFF 2.3.3 (``av1C``), ITU-T H.273 (numbers of colours).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_HDR = {16: "PQ", 18: "HLG"}  # by transfer characteristics
_UNSPECIFIED, _BT709, _SRGB_TRANSFER = 2, 1, 13
_LIKE_SRGB_TRANSFER = frozenset({_BT709, _UNSPECIFIED, 6, _SRGB_TRANSFER, 14, 15})  # as every viewer shows them
_MAX_META = 2**24


@dataclass(frozen=True)
class AvifBoxes:
    """``bits`` of a sample; ``grey`` without colours; ``hdr`` names a transfer of high dynamic range.

    ``cicp`` are the colours as a PNG has them, ``None`` for those of sRGB, and where a file does not say.
    """

    bits: int = 8
    grey: bool = False
    hdr: str = ""
    cicp: bytes | None = None


def read_boxes(stream: BinaryIO) -> AvifBoxes:
    """The boxes of an AVIF file; :class:`ValueError` if there are none."""
    meta = next((box for kind, box in _file_boxes(stream) if kind == b"meta"), None)
    if meta is None:
        raise ValueError("no description of a picture in it")
    bits, hdr, cicp = 8, "", None
    grey = []  # by coded picture: an alpha channel is a grey one of its own
    for kind, box in _properties(meta):
        if kind == b"av1C" and len(box) >= 3:
            bits = max(bits, (12 if box[2] & 0x20 else 10) if box[2] & 0x40 else 8)
            grey.append(bool(box[2] & 0x10))
        elif kind == b"colr" and box[:4] == b"nclx" and len(box) >= 8:
            primaries, transfer = int.from_bytes(box[4:6], "big"), int.from_bytes(box[6:8], "big")
            hdr = hdr or _HDR.get(transfer, "")
            if primaries not in (_BT709, _UNSPECIFIED) or transfer not in _LIKE_SRGB_TRANSFER:
                cicp = bytes([primaries & 255, transfer & 255, 0, 1])  # RGB, full range
    return AvifBoxes(bits, bool(grey) and all(grey), hdr, cicp)


def _file_boxes(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes of a file; only of those that are not large."""
    place, end = 0, stream.seek(0, io.SEEK_END)
    while place + 8 <= end:
        stream.seek(place)
        head = stream.read(16)
        size, start = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(head[8:16], "big"), 16
        size = size or end - place
        if size < start:
            return
        stream.seek(place + start)
        yield head[4:8], stream.read(size - start) if size <= _MAX_META else b""
        place += size


def _properties(meta: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each property of the items, in ``meta`` / ``iprp`` / ``ipco``."""
    for kind, box in _boxes(meta[4:]):
        if kind == b"iprp":
            for inner, properties in _boxes(box):
                if inner == b"ipco":
                    yield from _boxes(properties)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big") or len(data) - place
        if size < 8:
            return
        yield data[place + 4 : place + 8], data[place + 8 : place + size]
        place += size
