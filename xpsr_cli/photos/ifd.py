"""Directories of the TIFF structure, which EXIF blocks share: read, edited in place, and laid out anew.

Everything here is bytes: a value keeps its type, its byte order and every bit, whether anyone knows its tag or not.
Structure: TIFF 6.0 section 2; EXIF 2.32 section 4.6.2; BigTIFF doubles the widths of counts and offsets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

LONG, LONG8 = 4, 16
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MAX_FIELDS = 4096
_MAX_BYTES = 2**26


@dataclass(frozen=True)
class Layout:
    """Byte order (``"<"`` or ``">"``) and the widths of a classic or a big directory."""

    order: str
    big: bool = False

    @property
    def count(self) -> struct.Struct:
        """How many fields follow."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, count, and the value or its place."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def offset(self) -> struct.Struct:
        """A place in the file."""
        return struct.Struct(self.order + ("Q" if self.big else "I"))


@dataclass(frozen=True)
class Field:
    """One tag with its value as stored; ``children`` are set when the value is a directory of its own."""

    tag: int
    type: int
    count: int
    data: bytes
    children: tuple[Field, ...] | None = None

    def numbers(self, layout: Layout) -> tuple[int, ...]:
        """The value as whole numbers; empty for types that are not."""
        code = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(self.type)
        return struct.unpack(f"{layout.order}{self.count}{code}", self.data) if code else ()

    def ratio(self, layout: Layout) -> float:
        """The first value of a fraction; not a number for other types or a division by zero."""
        if self.type != 5:
            return math.nan
        above, below = struct.unpack_from(layout.order + "II", self.data)
        return above / below if below else math.nan


def read_header(stream: BinaryIO) -> tuple[Layout, int]:
    """Layout of a TIFF structure and the place of its first directory; ``ValueError`` if it is none."""
    stream.seek(0)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack(order + "H", head[2:4])[0] if order and len(head) >= 8 else 0
    if version == 42:
        return Layout(order), struct.unpack(order + "I", head[4:8])[0]
    if version == 43 and len(head) == 16:
        return Layout(order, big=True), struct.unpack(order + "Q", head[8:16])[0]
    raise ValueError("no TIFF header")


def read_directory(
    stream: BinaryIO, layout: Layout, offset: int, required: frozenset[int] = frozenset()
) -> tuple[list[Field], int]:
    """Fields of the directory at ``offset`` and the place of the next one (0: none).

    Fields of unknown type, whose value lies outside the file, or beyond 64 MiB in all are left out, unless their tag
    is ``required``. That, and what is no directory, raises ``ValueError``, ``OverflowError`` or ``struct.error``.
    """
    stream.seek(offset)
    count = layout.count.unpack(stream.read(layout.count.size))[0]
    if not 0 < count <= _MAX_FIELDS:
        raise ValueError(f"directory with {count} fields")
    table = stream.read(count * layout.entry.size)
    following = stream.read(layout.offset.size)
    fields, room = [], _MAX_BYTES
    for tag, kind, number, inline in layout.entry.iter_unpack(table):
        size = _TYPE_SIZES.get(kind, 0) * number
        if not 0 < size <= room:
            continue
        if size > len(inline):
            stream.seek(layout.offset.unpack(inline)[0])
            data = stream.read(size)
        else:
            data = inline[:size]
        if len(data) == size:
            room -= size
            fields.append(Field(tag, kind, number, data))
        elif tag in required:
            raise ValueError(f"the value of tag {tag} is cut short")
    # Some writers leave the last four bytes out of a directory that nothing follows.
    return fields, layout.offset.unpack(following)[0] if len(following) == layout.offset.size else 0


def pack_directory(fields: list[Field], layout: Layout, base: int, following: int = 0) -> bytes:
    """A directory that will lie at ``base`` (even), with its values and the directories under it behind it."""
    fields = sorted(fields, key=lambda field: field.tag)
    body_at = base + layout.count.size + len(fields) * layout.entry.size + layout.offset.size
    table, body = layout.count.pack(len(fields)), b""
    for field in fields:
        if field.children is not None:
            place = layout.offset.pack(body_at + len(body))
            table += layout.entry.pack(field.tag, LONG8 if layout.big else LONG, 1, place)
            body += pack_directory(list(field.children), layout, body_at + len(body))
        elif len(field.data) <= layout.offset.size:
            table += layout.entry.pack(field.tag, field.type, field.count, field.data)
        else:
            place = layout.offset.pack(body_at + len(body))
            table += layout.entry.pack(field.tag, field.type, field.count, place)
            body += field.data
        body += bytes(len(body) % 2)
    return table + layout.offset.pack(following) + body


def edit_directory(block: bytearray, layout: Layout, offset: int, edits: Mapping[int, int | None]) -> None:
    """Change a classic directory where it stands: tag -> new whole number, or ``None`` to take the tag out.

    Tags that are not there stay absent; nothing outside the table moves, so values that know their own place
    (camera makers' notes) stay right. The link to a following directory is cut.
    """
    count = layout.count.unpack_from(block, offset)[0]
    start, end = offset + 2, offset + 2 + count * 12
    if not 0 < count <= _MAX_FIELDS or end > len(block):
        raise ValueError(f"directory with {count} fields")
    kept = []
    for at in range(start, end, 12):
        entry = bytes(block[at : at + 12])
        tag = struct.unpack_from(layout.order + "H", entry)[0]
        if tag not in edits:
            kept.append(entry)
        elif (value := edits[tag]) is not None:
            kept.append(struct.pack(layout.order + "HHII", tag, LONG, 1, value))
    room = min(end + 4, len(block)) - offset
    block[offset : offset + room] = (layout.count.pack(len(kept)) + b"".join(kept)).ljust(room, b"\0")
