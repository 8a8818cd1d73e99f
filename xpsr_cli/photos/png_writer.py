"""PNG files written from groups of rows: filtered, compressed on several cores, and never held as a whole.

Source: PNG (third edition), W3C 2025; the filters are those of section 9.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from xpsr_cli.photos.iptc import PNG_KEYWORD, png_text
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import PhotoInfo, Pixels, Samples
from xpsr_cli.photos.samples import channel_count

_JOB_BYTES = 2**18  # least that is compressed at a time: each piece starts without knowing the one before
_BLOCK_BYTES = 2**17  # filtered at a time, so that it stays in the processor's cache
_MAX_THREADS = 4
_LONG_TEXT = 1024  # characters from which a text is compressed
_METRES_PER_INCH = 0.0254
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels: grey, grey and alpha, RGB, RGB and alpha
# zlib's level and strategy. Filtered photos are noise in which a search for repeats finds next to nothing: runs alone
# come within 5 % of its size (0 % in 16 bits) and take a seventh of its time. Drawn pictures are another matter.
_STORED, _RUNS = (0, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_RLE)
_GLANCE, _REPEATS = (3, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_FILTERED)
_GLANCE_ROWS = 8  # of which one is looked at
_ZLIB_HEADER, _LAST_BLOCK = b"\x78\x5e", b"\x03\x00"
_MEMORY_LEVEL = 9  # the most that zlib may use: 256 KiB
_ADLER_BASE = 65521


def write_png(rows: Iterable[Samples], info: PhotoInfo, stream: BinaryIO, *, compress: bool = True) -> None:
    """Write a PNG.

    ``rows`` are (h, width, channels) uint8 or uint16 from top to bottom, of any heights; ``info`` is what the file
    holds, its metadata included. Without ``compress`` the samples are stored as they are.
    """
    channels = channel_count(info)
    bits = 8 * info.depth.dtype.itemsize
    stream.write(_SIGNATURE)
    header = struct.pack(">IIBBBBB", info.width, info.height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
    for kind, data in ((b"IHDR", header), *_metadata_chunks(info.metadata)):
        _write_chunk(stream, kind, data)
    _write_chunk(stream, b"IDAT", _ZLIB_HEADER)
    adler = zlib.adler32(b"")
    for data, part_adler, size in _compressed(_jobs(rows), channels * bits // 8, compress):
        _write_chunk(stream, b"IDAT", data)
        adler = _adler32_joined(adler, part_adler, size)
    _write_chunk(stream, b"IDAT", _LAST_BLOCK + struct.pack(">I", adler))
    _write_chunk(stream, b"IEND", b"")


def _write_chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I4s", len(data), kind))
    stream.write(data)
    stream.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """What goes before the pixels, as type and data, in the order that the format asks for."""
    yield from metadata.png_colour
    if metadata.icc:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc, 9)
    if metadata.dpi:
        across, down = (min(round(value / _METRES_PER_INCH), 2**31 - 1) for value in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp
    if metadata.iptc:
        yield b"zTXt", PNG_KEYWORD.encode() + b"\0\0" + zlib.compress(png_text(metadata.iptc).encode(), 9)
    for keyword, text in metadata.texts:
        yield _text_chunk(keyword, text)


def _text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    compressed = len(text) >= _LONG_TEXT
    key = keyword.encode("latin-1") + b"\0"
    try:
        data = text.encode("latin-1")
    except UnicodeEncodeError:
        data = text.encode()
        return b"iTXt", key + bytes([compressed, 0]) + b"\0\0" + (zlib.compress(data, 9) if compressed else data)
    return (b"zTXt", key + b"\0" + zlib.compress(data, 9)) if compressed else (b"tEXt", key + data)


def _jobs(rows: Iterable[Samples]) -> Iterator[tuple[Pixels, Pixels]]:
    """Rows as bytes, (n, bytes of a row), enough of them to be compressed at a time, and the row above them."""
    parts: list[Pixels] = []
    above: Pixels | None = None
    for group in rows:
        big_endian = np.ascontiguousarray(group, group.dtype.newbyteorder(">"))
        parts.append(big_endian.view(np.uint8).reshape(len(group), -1))
        above = np.zeros_like(parts[0][0]) if above is None else above
        if sum(part.nbytes for part in parts) >= _JOB_BYTES:
            job = np.concatenate(parts) if len(parts) > 1 else parts[0]
            yield job, above
            parts, above = [], job[-1].copy()
    if parts and above is not None:
        yield np.concatenate(parts), above


def _compressed(jobs: Iterable[tuple[Pixels, Pixels]], pixel: int, compress: bool) -> Iterator[tuple[bytes, int, int]]:
    """Deflated pieces in order, each with the Adler-32 and the length of what it holds."""
    threads = min(os.cpu_count() or 1, _MAX_THREADS)
    waiting: deque[Future[tuple[bytes, int, int]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for rows, above in jobs:
            waiting.append(pool.submit(_deflated, rows, above, pixel, compress))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _deflated(rows: Pixels, above: Pixels, pixel: int, compress: bool) -> tuple[bytes, int, int]:
    """One piece: raw deflate that ends on a byte, so that the next piece can follow it."""
    step = max(1, _BLOCK_BYTES // rows.shape[1])
    data = np.pad(rows, ((0, 0), (1, 0)))
    if compress:
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            data[start : start + step] = filtered(block, above, pixel)
            above = block[-1]
    return _deflate(data, _effort(data) if compress else _STORED), zlib.adler32(data.data), data.nbytes


def _effort(data: Pixels) -> tuple[int, int]:
    """Whether a search for repeats is worth its time, tried on some of the rows."""
    some = np.ascontiguousarray(data[::_GLANCE_ROWS])
    return _REPEATS if len(_deflate(some, _GLANCE)) < len(_deflate(some, _RUNS)) else _RUNS


def _deflate(data: Pixels, effort: tuple[int, int]) -> bytes:
    level, strategy = effort
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY_LEVEL, strategy)
    return compressor.compress(data.data) + compressor.flush(zlib.Z_SYNC_FLUSH)


def filtered(rows: Pixels, above: Pixels, pixel: int) -> Pixels:
    """Rows as (n, 1 + bytes of a row): the filter of each and what it leaves.

    ``rows`` is (n, bytes of a row), ``above`` the row before them, ``pixel`` the bytes of a pixel. Each row gets the
    filter (0 to 4) with the least sum of differences, which are taken to be signed.
    """
    height, width = rows.shape
    around = np.zeros((height + 1, pixel + width), np.uint8)
    around[0, pixel:], around[1:, pixel:] = above, rows
    left, up, corner = around[1:, :-pixel], around[:-1, pixel:], around[:-1, :-pixel]
    average = (left & up) + ((left ^ up) >> 1)  # rounded down, without leaving 8 bits
    candidates = (rows, rows - left, rows - up, rows - average, rows - _paeth(left, up, corner))
    costs = np.stack([np.minimum(rest, -rest).sum(axis=1, dtype=np.int64) for rest in candidates])
    kinds = costs.argmin(axis=0)
    result = np.empty((height, 1 + width), np.uint8)
    result[:, 0] = kinds
    for kind, rest in enumerate(candidates):
        chosen = kinds == kind
        result[chosen, 1:] = rest[chosen]
    return result


def _paeth(left: Pixels, up: Pixels, corner: Pixels) -> Pixels:
    """Of left, up and corner the one that is nearest to left + up - corner; the first of equals.

    The distance to the corner is the difference of the two others' where corner lies between left and up; elsewhere
    it is their sum, so the corner is never nearest. That keeps all within 8 bits.
    """
    to_left = np.maximum(up, corner) - np.minimum(up, corner)
    to_up = np.maximum(left, corner) - np.minimum(left, corner)
    to_corner = np.maximum(to_left, to_up) - np.minimum(to_left, to_up)
    to_corner |= _mask((up < corner) == (left < corner))
    other = corner ^ ((up ^ corner) & _mask(to_up <= to_corner))
    return other ^ ((left ^ other) & _mask(to_left <= np.minimum(to_up, to_corner)))


def _mask(condition: np.ndarray) -> Pixels:
    """255 where true, 0 where not: several times as fast as choosing by index."""
    return -condition.view(np.uint8)


def _adler32_joined(first: int, second: int, second_size: int) -> int:
    """The Adler-32 of two pieces one after the other (RFC 1950, section 9)."""
    low = ((first & 0xFFFF) + (second & 0xFFFF) - 1) % _ADLER_BASE
    high = ((first >> 16) + (second >> 16) + second_size * ((first & 0xFFFF) - 1)) % _ADLER_BASE
    return high << 16 | low
