"""What a new size and an upright picture mean for an EXIF block, and EXIF in and out of TIFF files.

A block is the bytes that start with the TIFF header, without the ``Exif`` marker that JPEG puts before it. Blocks are
edited where they stand; only TIFF, whose own directory holds the tags, needs them laid out anew.
Source: CIPA DC-008 (EXIF 2.32), tables 4 to 15.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from xpsr_cli.photos.ifd import Field, Layout, edit_directory, pack_directory, read_directory, read_header

_ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
_WIDTH, _HEIGHT = 0x0100, 0x0101
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_RELATED_WIDTH, _RELATED_HEIGHT = 0x1001, 0x1002
_SUBJECT_AREA, _SUBJECT_LOCATION = 0x9214, 0xA214  # in pixels of the picture as it was
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_IPTC = 0x83BB
_RESOLUTION = frozenset({0x011A, 0x011B, 0x0128})

# Tags of a TIFF directory that speak of the photograph; all others speak of how that file stores its pixels.
_ABOUT_THE_PHOTO = frozenset(
    {
        0x010D,  # document name
        0x010E,  # description
        0x010F,  # make
        0x0110,  # model
        0x011A,  # x resolution
        0x011B,  # y resolution
        0x0128,  # resolution unit
        0x0131,  # software
        0x0132,  # date and time
        0x013B,  # artist
        0x013C,  # host computer
        0x4746,  # rating
        0x4749,  # rating in percent
        0x8298,  # copyright
        0x9C9B,  # title, comment, author, keywords, subject as Windows writes them
        0x9C9C,
        0x9C9D,
        0x9C9E,
        0x9C9F,
        _EXIF_IFD,
        _GPS_IFD,
    }
)
_LAST_CLASSIC_TYPE = 13  # BigTIFF has wider ones, which no EXIF block may hold
_DIRECTORIES = frozenset({_EXIF_IFD, _GPS_IFD, _INTEROP_IFD})

DAMAGED = (ValueError, OverflowError, IndexError, struct.error)
"""What reading a senseless block raises."""


def orientation(block: bytes) -> int | None:
    """How the stored picture is turned, 1 (upright) to 8; ``None`` when the block does not say or says nonsense."""
    stream = io.BytesIO(block)
    layout, offset = read_header(stream)
    return orientation_of(read_directory(stream, layout, offset)[0], layout)


def orientation_of(fields: list[Field], layout: Layout) -> int | None:
    """The orientation among the fields of a directory, as :func:`orientation` gives it."""
    values = [value for field in fields if field.tag == _ORIENTATION for value in field.numbers(layout)]
    return values[0] if values and 1 <= values[0] <= 8 else None


def iptc(block: bytes) -> bytes | None:
    """The IPTC records that came into a block with the tags of a TIFF."""
    stream = io.BytesIO(block)
    layout, offset = read_header(stream)
    return next((field.data for field in read_directory(stream, layout, offset)[0] if field.tag == _IPTC), None)


def upright(block: bytes) -> bytes | None:
    """The block of a picture that has been turned upright: no orientation, no thumbnail, no places in pixels.

    ``None`` when that was all it said.
    """
    edited = bytearray(block)
    layout, places, following = _directories(block)
    edits = {0: {_ORIENTATION: None}, _EXIF_IFD: {_SUBJECT_AREA: None, _SUBJECT_LOCATION: None}}
    for kind, tags in edits.items():
        if kind in places:
            edit_directory(edited, layout, places[kind], tags)
    if following:
        _erase_thumbnail(edited, layout, following)
    return bytes(edited) if layout.count.unpack_from(edited, places[0])[0] else None


def with_size(block: bytes, width: int, height: int) -> bytes:
    """The block with every tag that states the picture's size, in pixels, set to ``width`` and ``height``."""
    edited = bytearray(block)
    layout, places, _ = _directories(block)
    edits = {
        0: {_WIDTH: width, _HEIGHT: height},
        _EXIF_IFD: {_PIXEL_WIDTH: width, _PIXEL_HEIGHT: height},
        _INTEROP_IFD: {_RELATED_WIDTH: width, _RELATED_HEIGHT: height},
    }
    for kind, tags in edits.items():
        if kind in places:
            edit_directory(edited, layout, places[kind], tags)
    return bytes(edited)


def _directories(block: bytes) -> tuple[Layout, dict[int, int], int]:
    """Layout, the places of the block's directories by the tag that points there (0: the first), and the second."""
    stream = io.BytesIO(block)
    layout, first = read_header(stream)
    if layout.big:
        raise ValueError("an EXIF block is never a BigTIFF")
    fields, following = read_directory(stream, layout, first)
    places = {0: first}
    while fields:
        field = fields.pop()
        if field.tag in _DIRECTORIES and field.tag not in places and field.numbers(layout):
            place = field.numbers(layout)[0]
            try:
                under, _ = read_directory(stream, layout, place)
            except DAMAGED:
                continue
            places[field.tag] = place
            fields += under
    return layout, places, following


def _erase_thumbnail(block: bytearray, layout: Layout, offset: int) -> None:
    """Take the picture out that the second directory points to (its directory is no longer linked)."""
    try:
        fields, _ = read_directory(io.BytesIO(bytes(block)), layout, offset)
    except DAMAGED:
        return
    values = {field.tag: field.numbers(layout) for field in fields}
    if not values.get(_THUMBNAIL) or not values.get(_THUMBNAIL_BYTES):
        return
    start, size = values[_THUMBNAIL][0], values[_THUMBNAIL_BYTES][0]
    if start < offset:
        return
    if start + size >= len(block):
        del block[start:]
    else:
        block[start : start + size] = bytes(size)


def from_tiff(stream: BinaryIO, fields: list[Field], layout: Layout) -> bytes | None:
    """An EXIF block of what a TIFF file's directory says of the photograph; ``None`` when it says nothing.

    ``fields`` are those of the page; ``stream`` is the file they came from.
    """
    about = [field for field in fields if field.tag in _ABOUT_THE_PHOTO]
    about = _with_children(stream, about, layout)
    if not {field.tag for field in about} - _RESOLUTION:
        return None
    classic = Layout(layout.order)
    header = (b"II*\0" if layout.order == "<" else b"MM\0*") + classic.offset.pack(8)
    return header + pack_directory(about, classic, base=8)


def add_to_tiff(stream: BinaryIO, block: bytes, *, resolution: bool) -> None:
    """Give a one-page TIFF file, open for reading and writing, the tags of an EXIF block of the same byte order.

    The page's own tags win; ``resolution`` lets the block's resolution win instead. A new directory goes to the end
    of the file and the header is pointed at it, so pixels stay where they are.
    """
    layout, offset = read_header(stream)
    own = {field.tag: field for field in read_directory(stream, layout, offset)[0]}
    source = io.BytesIO(block)
    block_layout, first = read_header(source)
    if block_layout.order != layout.order:
        raise ValueError("the EXIF block has another byte order than the file")
    about = [field for field in read_directory(source, block_layout, first)[0] if field.tag in _ABOUT_THE_PHOTO]
    for field in _with_children(source, about, block_layout):
        if field.tag not in own or (resolution and field.tag in _RESOLUTION):
            own[field.tag] = field
    end = stream.seek(0, io.SEEK_END)
    stream.write(bytes(end % 2))
    end += end % 2
    stream.write(pack_directory(list(own.values()), layout, base=end))
    stream.seek(8 if layout.big else 4)
    stream.write(layout.offset.pack(end))


def byte_order(block: bytes) -> str:
    """``"<"`` or ``">"``."""
    return read_header(io.BytesIO(block))[0].order


def _with_children(stream: BinaryIO, fields: list[Field], layout: Layout) -> list[Field]:
    """The fields with the directories they point to read into them; pointers that lead nowhere are left out."""
    complete = []
    for field in fields:
        if field.tag not in _DIRECTORIES:
            if field.type <= _LAST_CLASSIC_TYPE:
                complete.append(field)
            continue
        try:
            under, _ = read_directory(stream, layout, field.numbers(layout)[0])
        except DAMAGED:
            continue
        # Only interoperability lies one level deeper; another pointer found there is a loop.
        deeper = [f for f in under if f.tag not in _DIRECTORIES or (f.tag == _INTEROP_IFD and field.tag == _EXIF_IFD)]
        complete.append(Field(field.tag, field.type, 1, b"", tuple(_with_children(stream, deeper, layout))))
    return complete
