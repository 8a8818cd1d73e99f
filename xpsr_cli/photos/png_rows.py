"""The pixels of a PNG, decoded a few rows at a time, whatever their depth.

Rows are unpacked with zlib. Undoing their filters, which look at the row above, is left to a PNG decoder in C: it is
given each band of rows as a small PNG of its own, with the last row of the band before on top.
Source: PNG specification, third edition, clauses 7 to 10.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np

from xpsr_cli.photos.photo import Samples
from xpsr_cli.photos.png_chunks import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, SIGNATURE, PngHeader, chunks
from xpsr_cli.photos.spool import Spool

MAX_WIDTH = 1_000_000
"""Widest picture that the decoder takes."""
_BAND_BYTES = 2**21
_BAND_ROWS = 256
_PIECE_BYTES = 2**16  # of packed pixels read at a time
_COLOUR_TYPES = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGB_ALPHA}
_ONE_PASS = ((0, 0, 1, 1),)
# First column and row, and the steps across and down, of the seven passes of an interlaced picture.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def decode_png(stream: BinaryIO, header: PngHeader, spool: Spool) -> None:
    """Write all pixels into ``spool``, which has the shape that :func:`colours_and_alpha` says.

    Grey of fewer than 8 bits is spread to 8, palettes become colours, a transparent colour becomes an alpha channel.
    Raises anything when the file is damaged.
    """
    packed = _PackedRows(stream, header.pixels_at)
    for x, y, across, down in _ADAM7 if header.interlaced else _ONE_PASS:
        width = (header.width - x + across - 1) // across
        height = (header.height - y + down - 1) // down
        if width <= 0 or height <= 0:
            continue
        for top, rows in _bands(packed, header, width, height):
            samples = _pixels(rows, header, width)
            if across == down == 1:
                spool.write(top, 0, samples)
                continue
            for row, values in enumerate(samples, start=top):
                whole = spool.read(y + row * down, 0, 1, header.width)
                whole[0, x::across] = values
                spool.write(y + row * down, 0, whole)
    packed.finish()


def colours_and_alpha(header: PngHeader) -> tuple[int, bool]:
    """How many colours a pixel has once it is decoded, and whether it has an alpha channel."""
    colours = 1 if header.colour_type in (GREY, GREY_ALPHA) else 3
    return colours, header.colour_type in (GREY_ALPHA, RGB_ALPHA) or header.transparency is not None


def _bands(packed: _PackedRows, header: PngHeader, width: int, height: int) -> Iterator[tuple[int, Samples]]:
    """The rows of one pass without their filters, as (first row, (rows, samples of a row))."""
    row_bytes = header.row_bytes(width)
    count = max(1, min(_BAND_ROWS, _BAND_BYTES // row_bytes))
    above = b""
    for top in range(0, height, count):
        filtered = packed.read(min(count, height - top) * (1 + row_bytes))
        rows = _unfiltered(above + filtered, row_bytes, header)[1 if above else 0 :]
        above = b"\0" + rows[-1].astype(rows.dtype.newbyteorder(">")).tobytes()
        yield top, rows


def _unfiltered(filtered: bytes, row_bytes: int, header: PngHeader) -> Samples:
    """Rows, each behind the byte that names its filter, as samples: (rows, samples), or bytes below 8 bits."""
    bits, samples = (8, 1) if header.bits < 8 else (header.bits, header.samples)
    rows, width = len(filtered) // (1 + row_bytes), row_bytes * 8 // (bits * samples)
    layout = struct.pack(">IIBBBBB", width, rows, bits, _COLOUR_TYPES[samples], 0, 0, 0)
    parts = ((b"IHDR", layout), (b"IDAT", zlib.compress(filtered, 0)), (b"IEND", b""))
    png = SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in parts
    )
    return np.asarray(imagecodecs.png_decode(png)).reshape(rows, -1)


def _pixels(rows: Samples, header: PngHeader, width: int) -> Samples:
    """Samples of stored rows to pixels, (rows, width, channels)."""
    if header.bits < 8:
        rows = _unpacked(rows, header.bits)[:, :width]
    pixels = rows.reshape(len(rows), width, header.samples)
    if header.colour_type == PALETTE:
        return _palette(header)[pixels[..., 0]]
    key = header.transparency
    opaque = None
    if key is not None and header.colour_type in (GREY, RGB):
        colour = np.frombuffer(key, ">u2")[: header.samples] & (2**header.bits - 1)
        if len(colour) != header.samples:
            raise ValueError("its transparent colour is cut short")
        opaque = (pixels != colour).any(axis=2, keepdims=True)
    if header.bits < 8:
        pixels = pixels * np.uint8(255 // (2**header.bits - 1))
    if opaque is not None:
        pixels = np.concatenate([pixels, opaque * pixels.dtype.type(np.iinfo(pixels.dtype).max)], axis=2)
    return pixels


def _unpacked(rows: Samples, bits: int) -> Samples:
    """Bytes to the values of ``bits`` bits in them, from the highest down."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return (rows[..., None] >> shifts & np.uint8(2**bits - 1)).reshape(len(rows), -1)


def _palette(header: PngHeader) -> Samples:
    """(256, 3) colours, or (256, 4) with alpha; what the file does not set is black, as decoders have it."""
    colours, alpha = header.palette[:768], header.transparency
    if not colours or len(colours) % 3:
        raise ValueError("no palette")
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours) // 3] = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    if alpha is None:
        return table
    opacity = np.full((256, 1), 255, np.uint8)
    opacity[: len(alpha[:256]), 0] = np.frombuffer(alpha[:256], np.uint8)
    return np.concatenate([table, opacity], axis=1)


class _PackedRows:
    """The bytes in the chunks of pixels, unpacked as far as they are asked for."""

    def __init__(self, stream: BinaryIO, place: int) -> None:
        self._pieces = _pieces(stream, place)
        self._unpacker = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes; :class:`ValueError` if there are fewer."""
        parts = []
        while count:
            part = self._some(count)
            if not part:
                raise ValueError("rows are missing")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Read to the end, where a check sum stands; :class:`ValueError` if there is no end."""
        surplus = 0
        while part := self._some(_PIECE_BYTES):
            surplus += len(part)
            if surplus > _PIECE_BYTES:
                break
        if not self._unpacker.eof:
            raise ValueError("its pixels do not end where they should")
        for _ in self._pieces:
            pass

    def _some(self, most: int) -> bytes:
        """Between one and ``most`` bytes, none at the end."""
        while not self._unpacker.eof:
            data = self._unpacker.unconsumed_tail
            if not data and not (data := next(self._pieces, b"")):
                return self._unpacker.decompress(b"", most)  # what it still holds back
            if part := self._unpacker.decompress(data, most):
                return part
        return b""


def _pieces(stream: BinaryIO, place: int) -> Iterator[bytes]:
    """The packed pixels by pieces, with the check sum of each chunk compared."""
    for kind, start, length in chunks(stream, place):
        if kind != b"IDAT":
            return
        check = zlib.crc32(kind)
        for at in range(0, length, _PIECE_BYTES):
            stream.seek(start + at)
            piece = stream.read(min(_PIECE_BYTES, length - at))
            check = zlib.crc32(piece, check)
            yield piece
        stream.seek(start + length)
        if check != int.from_bytes(stream.read(4), "big"):
            raise ValueError("a check sum of its pixels is wrong")
