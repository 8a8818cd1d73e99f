"""IPTC-IIM records, the captions and credits of newsrooms, in and out of the places where files keep them.

The records themselves are carried byte for byte. A JPEG has them in a Photoshop resource, as do PNGs by ImageMagick;
a TIFF has them bare. Sources: IPTC-NAA IIM 4.2; Photoshop file formats, "Image resources section".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

RESOURCE = 0x0404
"""The number of the Photoshop resource that holds the records."""
PNG_KEYWORD = "Raw profile type iptc"
"""The keyword under which PNGs carry the records."""

_MARK = b"8BIM"
_RECORD = 0x1C  # the byte each record starts with


def iptc_of(info: Mapping[Any, Any]) -> bytes | None:
    """The records in a Pillow-like ``info``: bare (``iptc``), in resources (``photoshop``), or in a PNG's text."""
    resources, text = info.get("photoshop"), info.get(PNG_KEYWORD, info.get("Raw profile type 8bim"))
    found = info.get("iptc")
    if not found and isinstance(resources, Mapping):
        found = resources.get(RESOURCE)
    if not found and isinstance(text, str):
        found = raw_profile(text)
    if isinstance(found, bytes) and found.startswith(_MARK):
        found = _resource(found)
    return _records(found) if isinstance(found, bytes) and found[:1] == bytes([_RECORD]) else None


def _records(data: bytes) -> bytes:
    """The data without the zeros that pad it behind its last record (IIM 4.2, section 1.5: lengths of two bytes)."""
    at = 0
    while data[at : at + 1] == bytes([_RECORD]) and at + 5 <= len(data):
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if length >= 0x8000:  # an extended one: the length of the length; never seen in photos
            return data
        at += 5 + length
    return data[:at]


def raw_profile(text: str) -> bytes | None:
    """The bytes that ImageMagick puts into a PNG's text: a name, a length, and hexadecimal lines."""
    try:
        return bytes.fromhex("".join(text.strip("\n").split("\n")[2:]))
    except ValueError:
        return None


def photoshop_segment(iptc: bytes) -> bytes:
    """What a JPEG's APP13 segment holds, without marker and length."""
    return b"Photoshop 3.0\0" + _as_resource(iptc)


def png_text(iptc: bytes) -> str:
    """What a PNG's text under :data:`PNG_KEYWORD` says."""
    block = _as_resource(iptc)
    digits = block.hex()
    lines = (digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\niptc\n{len(block):8d}\n" + "\n".join(lines) + "\n"


def _as_resource(iptc: bytes) -> bytes:
    """A resource with an empty name, padded to an even length."""
    return _MARK + struct.pack(">HHI", RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def _resource(block: bytes) -> bytes | None:
    """The records among a block of resources."""
    at = 0
    while block[at : at + 4] == _MARK and at + 12 <= len(block):
        number, name = struct.unpack_from(">HB", block, at + 4)
        at += 6 + (name + 2) // 2 * 2  # the name with its length, made even
        if at + 4 > len(block):
            return None
        size = struct.unpack_from(">I", block, at)[0]
        if number == RESOURCE:
            return block[at + 4 : at + 4 + size]
        at += 4 + (size + 1) // 2 * 2
    return None
