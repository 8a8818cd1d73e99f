"""TIFF and BigTIFF files written from groups of rows: in tiles, of which one row is held at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import tifffile

from xpsr_cli.photos import exif
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import PhotoInfo, Samples
from xpsr_cli.photos.samples import channel_count
from xpsr_cli.settings import Compression

TILE_SIDE = 256
"""Most pixels of a tile across and down."""
_XMP, _IPTC = 700, 33723
_BYTE, _UNDEFINED = 1, 7  # types of a tag
BIG_TIFF_FROM = 2**32 - 2**26
"""Bytes of pixels from which offsets of 32 bits may not do."""
_MAX_THREADS = 4
_TILES_AT_A_TIME = 16  # handed to the threads
_COMPRESSIONS: dict[Compression, str | None] = {
    Compression.NONE: None,
    Compression.DEFLATE: "zlib",
    Compression.LZW: "lzw",
    Compression.ZSTD: "zstd",
}


def write_tiff(
    rows: Iterable[Samples], info: PhotoInfo, stream: BinaryIO, *, compression: Compression = Compression.DEFLATE
) -> None:
    """Write a tiled TIFF, or a BigTIFF where 4 GiB might not do.

    ``rows`` are (h, width, channels) uint8, uint16 or float32 from top to bottom, in groups of which a whole number
    makes :data:`TILE_SIDE` rows; ``info`` is what the file holds, its metadata included. ``stream`` is open for
    reading and writing.
    """
    metadata, dtype = info.metadata, info.depth.dtype
    channels = channel_count(info)
    tile = _tile_side(info.height), _tile_side(info.width)
    picture_bytes = _ceil(info.height, tile[0]) * _ceil(info.width, tile[1]) * channels * dtype.itemsize
    byte_order = exif.byte_order(metadata.exif) if metadata.exif else "<"
    tiles: Iterator[Any] = _tiles(rows, info, tile)
    if compression is Compression.NONE:  # as bytes: an array would be written past the stream, and errors unnoticed
        tiles = (part.astype(np.dtype(f"{byte_order}{dtype.str[1:]}")).tobytes() for part in tiles)
    with tifffile.TiffWriter(stream, bigtiff=picture_bytes >= BIG_TIFF_FROM, byteorder=byte_order) as tiff:
        tiff.write(
            tiles,
            shape=(info.height, info.width) if channels == 1 else (info.height, info.width, channels),
            dtype=dtype,
            tile=tile,
            photometric="separated" if info.cmyk else "minisblack" if info.grey else "rgb",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if info.alpha else None,
            compression=_COMPRESSIONS[compression],
            predictor=compression is not Compression.NONE,
            iccprofile=metadata.icc,
            extratags=list(_tags(metadata)),
            resolution=metadata.dpi,
            resolutionunit="inch" if metadata.dpi else None,
            metadata=None,
            software=False,
            maxworkers=min(os.cpu_count() or 1, _MAX_THREADS),
            buffersize=_TILES_AT_A_TIME * math.prod(tile) * channels * dtype.itemsize,
        )
    if metadata.exif:
        exif.add_to_tiff(stream, metadata.exif, resolution=metadata.dpi is None)


def _tags(metadata: Metadata) -> Iterator[tuple[int, int, int, bytes, bool]]:
    if metadata.xmp:
        yield _XMP, _BYTE, len(metadata.xmp), metadata.xmp, True
    if metadata.iptc:
        yield _IPTC, _UNDEFINED, len(metadata.iptc), metadata.iptc, True


def _tile_side(side: int) -> int:
    """A tile is no larger than the picture needs; its sides are multiples of 16."""
    return min(TILE_SIDE, _ceil(side, 16))


def _ceil(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def _tiles(rows: Iterable[Samples], info: PhotoInfo, tile: tuple[int, int]) -> Iterator[Samples]:
    """Tiles from left to right and top to bottom; beyond the picture they are zero."""
    strip = np.zeros((tile[0], _ceil(info.width, tile[1]), channel_count(info)), info.depth.dtype)
    filled = total = 0
    for group in rows:
        strip[filled : filled + len(group), : info.width] = group
        filled, total = filled + len(group), total + len(group)
        if filled == tile[0] or total == info.height:
            strip[filled:] = 0
            for left in range(0, strip.shape[1], tile[1]):
                yield strip[:, left : left + tile[1]].copy()
            filled = 0
