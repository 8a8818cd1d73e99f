"""A TIFF's samples as colours: palettes looked up, white where white is, floats within their range."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import tiff
from xpsr_cli.photos.photo import Depth, Samples
from xpsr_cli.photos.spool import Spool
from xpsr_cli.photos.stored import SpooledPicture, StoredPicture
from xpsr_cli.photos.tiff import TiffPage
from xpsr_cli.photos.tiff_segments import CACHE_BYTES, TiffSegments

_BAND_ROWS = 64


def open_tiff(path: Path, stream: BinaryIO, folder: Path | None) -> StoredPicture:
    """The picture in a TIFF file; refuses what cannot be read without loss, and files that end before their pixels.

    Files whose strips or tiles are so large that they cannot be kept are decoded once, into a spool in ``folder``.
    """
    page = tiff.read_page(path, stream)
    picture = TiffPicture(path, page, stream)
    if picture.segments.row_bytes > CACHE_BYTES:
        return SpooledPicture(picture.header, partial(_decode, picture), folder)
    return picture


class TiffPicture:
    """See :class:`xpsr_cli.photos.stored.StoredPicture`."""

    needs_file = True

    def __init__(self, path: Path, page: TiffPage, stream: BinaryIO) -> None:
        self.header = tiff.read_tiff_header(path, page, stream)
        self.segments = TiffSegments(path, page, stream)
        self._path, self._page = path, page
        self._palette = _palette(page) if page.photometric == tiff.PALETTE else None

    def read(self, top: int, left: int, height: int, width: int) -> Samples:
        """See :class:`xpsr_cli.photos.stored.StoredPicture`."""
        samples = self.segments.read(top, left, height, width)
        if self.header.depth is Depth.FLOAT:
            samples = samples.astype(np.float32, copy=False)
            if not ((samples >= 0) & (samples <= 1)).all():  # not a number is neither
                if np.isnan(samples).any():
                    raise PhotoError(
                        f"{self._path} has pixels that are no numbers (NaN).",
                        "Save it anew with numbers in their place.",
                    )
                raise PhotoError(
                    f"{self._path} has float samples outside of 0 to 1, as HDR pictures have.",
                    "Map its tones to the range from 0 to 1 first.",
                )
        stored_colours = samples.shape[2] - self.header.alpha
        colour, alpha = samples[..., :stored_colours], samples[..., stored_colours:]
        colour = self._colours(colour)
        if not self.header.alpha:
            return colour
        return np.concatenate([colour, self._spread(alpha)], axis=2)

    def close(self) -> None:
        """See :class:`xpsr_cli.photos.stored.StoredPicture`."""
        self.segments.close()

    def _colours(self, stored: Samples) -> Samples:
        photometric = self._page.photometric
        if self._palette is not None:
            return self._palette[stored[..., 0]]
        if photometric == tiff.YCBCR and self._page.number(tiff.COMPRESSION) not in tiff.JPEG_COMPRESSIONS:
            height, width = stored.shape[:2]  # from a JPEG come red, green and blue already
            return np.asarray(Image.frombytes("YCbCr", (width, height), stored.tobytes()).convert("RGB"))
        colour = self._spread(stored)
        if photometric == tiff.WHITE_IS_ZERO:
            colour = colour.dtype.type(self.header.depth.white) - colour
        return colour

    def _spread(self, samples: Samples) -> Samples:
        """Fewer than 8 bits to 8."""
        bits = self.segments.bits
        return samples * np.uint8(255 // (2**bits - 1)) if bits < 8 else samples


def _decode(picture: TiffPicture, spool: Spool) -> None:
    """Write the picture into a spool, every strip or tile after the other."""
    height, width, _ = spool.shape
    cell_height, cell_width = picture.segments.cell_size
    for y in range(0, height, cell_height):
        for x in range(0, width, cell_width):
            columns = min(cell_width, width - x)
            for top in range(y, min(y + cell_height, height), _BAND_ROWS):
                rows = min(_BAND_ROWS, y + cell_height - top, height - top)
                spool.write(top, x, picture.read(top, x, rows, columns))
    picture.close()


def _palette(page: TiffPage) -> Samples:
    """(256, 3) uint8 of a colour map, which holds all reds first, in 16 bits or, from writers who forgot, in 8."""
    values = page.numbers(tiff.COLOUR_MAP)
    count = 2 ** page.number(tiff.BITS, 1)
    if len(values) < 3 * count:
        raise ValueError("no palette")
    table = values[: 3 * count].reshape(3, count).T
    colours = np.zeros((256, 3), np.uint8)
    colours[:count] = table >> 8 if table.max() > 255 else table
    return colours
