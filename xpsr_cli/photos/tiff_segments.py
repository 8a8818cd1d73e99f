"""The pixels of a TIFF: only the strips or tiles that a window touches are decoded, and the last ones are kept.

A strip or a tile is shown to tifffile, which has every codec and raises on damage, as a small TIFF of its own that
says how samples are stored and nothing else: whatever further tags a file has cannot change what its pixels are.
"""

from __future__ import annotations

import io
import logging
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import tiff
from xpsr_cli.photos.ifd import Field, Layout, pack_directory
from xpsr_cli.photos.photo import Samples
from xpsr_cli.photos.stored import MAX_WHOLE_PIXELS
from xpsr_cli.photos.tiff import TiffPage

CACHE_BYTES = 2**27
"""Most that is kept of decoded strips and tiles. A picture of which one row of them is larger is decoded once."""
_WINDOW_ROWS = 640  # of which windows that follow each other from left to right share the strips
_MAX_SEGMENTS = 2**22
_AS_STORED = (  # tags that hold for every segment as for the picture
    *(tiff.BITS, tiff.COMPRESSION, tiff.FILL_ORDER, tiff.PREDICTOR, tiff.SAMPLE_FORMAT, tiff.SUBSAMPLING),
    *(tiff.PHOTOMETRIC, tiff.SAMPLES, tiff.EXTRA_SAMPLES, tiff.FAX3_OPTIONS, tiff.FAX4_OPTIONS),
)
_LONG = 4
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that state the size


@dataclass(frozen=True)
class _Grid:
    """Where the segments lie: ``places`` and ``lengths`` in the file by [plane, row, column] of segments."""

    cell_height: int
    cell_width: int
    tiled: bool
    places: np.ndarray
    lengths: np.ndarray


class TiffSegments:
    """Windows of the samples of a page, as stored: (height, width, samples), native byte order.

    Raises :class:`PhotoError` for segments that are too large, and anything for segments that lie outside of the file.
    """

    def __init__(self, path: Path, page: TiffPage, stream: BinaryIO) -> None:
        self._page, self._stream = page, stream
        self.height, self.width = page.number(tiff.HEIGHT), page.number(tiff.WIDTH)
        self.samples, self.bits = page.number(tiff.SAMPLES, 1), page.number(tiff.BITS, 1)
        kind = "f" if page.number(tiff.SAMPLE_FORMAT, 1) == 3 else "u"
        self.dtype = np.dtype(f"{kind}{max(self.bits // 8, 1)}")
        self._planar = page.number(tiff.PLANES, 1) == 2 and self.samples > 1
        self._plain = page.number(tiff.COMPRESSION, 1) == 1
        self._grid = _grid(page, self.height, self.width, self.samples if self._planar else 1)
        self._check(path)
        self._decoder = lru_cache(16)(self._new_decoder)
        self._cells: OrderedDict[tuple[int, int, int], Samples] = OrderedDict()
        self._held = 0

    @property
    def cell_size(self) -> tuple[int, int]:
        """Height and width of a strip or tile, in pixels."""
        return self._grid.cell_height, self._grid.cell_width

    @property
    def row_bytes(self) -> int:
        """What one row of strips or tiles takes once it is decoded; nothing where single rows can be read."""
        columns = self._grid.places.shape[2]
        return 0 if self._plain else columns * self._cell_bytes()

    def read(self, top: int, left: int, height: int, width: int) -> Samples:
        """The samples of a window."""
        window = np.empty((height, width, self.samples), self.dtype)
        cell_height, cell_width = self.cell_size
        for row in range(top // cell_height, (top + height - 1) // cell_height + 1):
            y = row * cell_height
            rows = max(top - y, 0), min(top + height - y, cell_height)
            for column in range(left // cell_width, (left + width - 1) // cell_width + 1):
                x = column * cell_width
                columns = slice(max(left - x, 0), min(left + width - x, cell_width))
                there = (
                    slice(y + rows[0] - top, y + rows[1] - top),
                    slice(x + columns.start - left, x + columns.stop - left),
                )
                for plane in range(self._grid.places.shape[0]):
                    part = self._rows(plane, row, column, *rows)[:, columns]
                    window[there][..., plane : plane + 1 if self._planar else None] = part
        return window

    def close(self) -> None:
        """Let go of what is kept."""
        self._cells.clear()

    def _rows(self, plane: int, row: int, column: int, start: int, stop: int) -> Samples:
        """Some rows of a segment, of its full width within the picture: (rows, width, samples in the plane)."""
        if self._plain:
            return self._plain_rows(plane, row, column, start, stop)
        key = plane, row, column
        if key in self._cells:
            self._cells.move_to_end(key)
        else:
            cell = self._decoded(plane, row, column)
            self._held += cell.nbytes
            self._cells[key] = cell
            while self._held > self._capacity() and len(self._cells) > self._grid.places.shape[0]:
                self._held -= self._cells.popitem(last=False)[1].nbytes
        return self._cells[key][start:stop]

    def _plain_rows(self, plane: int, row: int, column: int, start: int, stop: int) -> Samples:
        """Rows of a segment that is not compressed: nothing else is read."""
        grid = self._grid
        bytes_per_row = self._stored_row_bytes()
        self._stream.seek(int(grid.places[plane, row, column]) + start * bytes_per_row)
        data = self._stream.read((stop - start) * bytes_per_row)
        return self._decode(data, stop - start, grid.cell_width, False)[:, : self.width - column * grid.cell_width]

    def _decoded(self, plane: int, row: int, column: int) -> Samples:
        grid = self._grid
        height = min(grid.cell_height, self.height - row * grid.cell_height)
        width = min(grid.cell_width, self.width - column * grid.cell_width)
        self._stream.seek(int(grid.places[plane, row, column]))
        data = self._stream.read(int(grid.lengths[plane, row, column]))
        if self._page.number(tiff.COMPRESSION) in tiff.JPEG_COMPRESSIONS:
            _check_jpeg(data, grid.cell_height, grid.cell_width)
        return self._decode(data, height, width, grid.tiled)

    def _decode(self, data: bytes, height: int, width: int, tiled: bool) -> Samples:
        jfif = data[6:10] == b"JFIF"
        tables = self._page.data(tiff.JPEG_TABLES)
        with _quiet_tifffile():
            decoded = self._decoder(height, width, tiled, jfif)(data, 0, jpegtables=tables)[0]
        samples = 1 if self._planar else self.samples
        if decoded is None or decoded.shape[1] < height or decoded.shape[2] < width or decoded.shape[3] != samples:
            raise ValueError(f"a piece of {width} x {height} pixels is {None if decoded is None else decoded.shape}")
        if decoded.dtype.kind == "b":
            decoded = decoded.view(np.uint8)
        if decoded.dtype != self.dtype:
            raise ValueError(f"samples of {decoded.dtype}")
        return decoded[0, :height, :width]

    def _new_decoder(self, height: int, width: int, tiled: bool, jfif: bool) -> Callable[..., Any]:
        """tifffile's decoder for a segment of which (height, width) lie in the picture."""
        layout = Layout(self._page.layout.order, big=True)
        numbers = {tiff.WIDTH: width, tiff.HEIGHT: height, tiff.ROWS_PER_STRIP: height, tiff.PLANES: 1}
        if tiled:
            numbers |= {tiff.TILE_WIDTH: self._grid.cell_width, tiff.TILE_HEIGHT: self._grid.cell_height}
        places = (tiff.TILE_PLACES, tiff.TILE_LENGTHS) if tiled else (tiff.STRIP_PLACES, tiff.STRIP_LENGTHS)
        numbers |= {places[0]: 16, places[1]: 16}
        if self._planar:
            numbers |= {tiff.SAMPLES: 1, tiff.PHOTOMETRIC: tiff.BLACK_IS_ZERO, tiff.BITS: self.bits}
            numbers |= {tiff.SAMPLE_FORMAT: self._page.number(tiff.SAMPLE_FORMAT, 1)}
        fields = [Field(tag, _LONG, 1, struct.pack(layout.order + "I", value)) for tag, value in numbers.items()]
        for tag in _AS_STORED:
            field = self._page.field(tag)
            if field is not None and tag not in numbers and not (self._planar and tag == tiff.EXTRA_SAMPLES):
                fields.append(field)
        mark = (b"II" if layout.order == "<" else b"MM") + struct.pack(layout.order + "HHHQ", 43, 8, 0, 32)
        # tifffile looks into the first segment for the mark of JFIF, which tells what colours a JPEG holds.
        segment = bytes(6) + (b"JFIF" if jfif else b"none") + bytes(6)
        stand_in = io.BytesIO(mark + segment + pack_directory(fields, layout, base=32))
        with _quiet_tifffile(), tifffile.TiffFile(stand_in) as file:
            decoder: Callable[..., Any] = file.pages[0].decode
        return decoder

    def _cell_bytes(self) -> int:
        height, width = self.cell_size
        return height * width * self.samples * self.dtype.itemsize

    def _capacity(self) -> int:
        window_rows = _WINDOW_ROWS * self.width * self.samples * self.dtype.itemsize
        return min(max(2 * self.row_bytes, window_rows), CACHE_BYTES)

    def _stored_row_bytes(self) -> int:
        samples = 1 if self._planar else self.samples
        return (self._grid.cell_width * samples * self.bits + 7) // 8

    def _check(self, path: Path) -> None:
        """Some codecs fill a segment that stops short without a word, so the places in the file are judged here."""
        grid = self._grid
        height, width = self.cell_size
        if not self._plain and height * width > MAX_WHOLE_PIXELS:
            raise PhotoError(
                f"{path} is stored in pieces of {width} x {height} pixels, and {MAX_WHOLE_PIXELS} is the limit.",
                "Save it with smaller tiles or strips first.",
            )
        file_size = self._stream.seek(0, io.SEEK_END)
        needed = grid.lengths
        if self._plain:
            rows = np.full(grid.places.shape[1], height, np.uint64)
            if not grid.tiled:
                rows[-1] = self.height - (len(rows) - 1) * height
            needed = np.broadcast_to((rows * np.uint64(self._stored_row_bytes()))[:, None], grid.places.shape)
            if (grid.lengths < needed).any():
                raise ValueError("pieces that are too short for their pixels")
        if not needed.all():
            raise ValueError("pieces of it are empty")
        if (grid.places > file_size).any() or (needed > file_size - grid.places).any():
            raise ValueError("the file ends before its pixels do")


def _grid(page: TiffPage, height: int, width: int, planes: int) -> _Grid:
    tiled = tiff.TILE_WIDTH in page
    if tiled:
        cell_width, cell_height = page.number(tiff.TILE_WIDTH), page.number(tiff.TILE_HEIGHT)
        tags = tiff.TILE_PLACES, tiff.TILE_LENGTHS
    else:
        cell_width, cell_height = width, min(page.number(tiff.ROWS_PER_STRIP, height), height)
        tags = tiff.STRIP_PLACES, tiff.STRIP_LENGTHS
    if not cell_height or not cell_width:
        raise ValueError("pieces of no size")
    rows, columns = -(-height // cell_height), -(-width // cell_width)
    count = planes * rows * columns
    places, lengths = (page.numbers(tag).astype(np.uint64)[:count] for tag in tags)
    if not len(places) == len(lengths) == count or count > _MAX_SEGMENTS:
        raise ValueError(f"{count} pieces, and places of {min(len(places), len(lengths))}")
    shape = planes, rows, columns
    return _Grid(cell_height, cell_width, tiled, places.reshape(shape), lengths.reshape(shape))


def _check_jpeg(data: bytes, height: int, width: int) -> None:
    """Compare the size a JPEG claims with its place: a decoder would believe it."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAMES:
            claimed_height, claimed_width = struct.unpack_from(">HH", data, at + 5)
            if claimed_height > height or claimed_width > width:
                raise ValueError("a piece that is larger than its place")
            return
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("a piece that does not say its size")


@contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """tifffile without its log, which would reach the terminal; what matters it raises."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
