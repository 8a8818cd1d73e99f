"""Small photos, and what makes a refusal a good one."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import contextmanager

import pytest
from PIL import Image

from xpsr_cli.errors import XpsrError

EXTENSIONS = (".png", ".jpg", ".webp", ".tif")


def camera_exif(order="II", orientation=6, thumbnail=True):
    """An EXIF block as a camera would write it: lying on its side, with a place, a maker's note and a thumbnail."""
    exif = Image.Exif()
    exif.endian = "<" if order == "II" else ">"
    exif[0x010F] = "Maker"
    exif[0x8298] = "somebody"
    exif[0x0112] = orientation
    under = exif.get_ifd(0x8769)
    under[0x829A] = (1, 200)
    under[0x9003] = "2020:01:02 03:04:05"
    under[0xA002], under[0xA003] = 40, 24
    under[0x9214] = (20, 12)
    under[0x927C] = b"a note \0\1\2 of the maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 8.5)})
    block = exif.tobytes()[6:]
    return _with_thumbnail(block, exif.endian) if thumbnail else block


def _with_thumbnail(block, order):
    """The block with a second directory that points to a small JPEG at the end."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    block += b"\0" * (len(block) % 2)
    entries = ((0x0201, 4, 1, len(block) + 30), (0x0202, 4, 1, len(buffer.getvalue())))
    table = struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    count = struct.unpack_from(order + "H", block, 8)[0]
    linked = bytearray(block)
    struct.pack_into(order + "I", linked, 10 + 12 * count, len(block))
    return bytes(linked) + table + bytes(4) + buffer.getvalue()


def png_header(width, height, depth=8, colour=2):
    """A PNG that claims a size and has nothing behind its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@contextmanager
def refusal(kind, *parts):
    """The block raises ``kind`` with one sentence that has all ``parts`` in it, and a hint of one sentence."""
    with pytest.raises(XpsrError) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert error.hint.endswith(".")
    for part in parts:
        assert str(part) in f"{error.message} {error.hint}"
