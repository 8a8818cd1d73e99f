"""From bands of pixels to the rows of a file: as the format counts its channels and bits, in groups of one height."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from xpsr_cli.photos.photo import Floats, PhotoInfo, Region, Samples, quantize

GROUP_ROWS = 64
"""Rows that are encoded at a time, whatever the heights of the bands: the bytes of a file do not depend on them.

Eight rows of a JPEG's blocks, after which its restart markers are counted anew, and a quarter of a TIFF's tile.
"""

_ROWS_AT_A_TIME = 8  # converted, which takes several times their memory


def channel_count(info: PhotoInfo) -> int:
    """Samples of one pixel in a file: one of grey, three of colour or four of inks, and one of transparency."""
    return (4 if info.cmyk else 1 if info.grey else 3) + info.alpha


def file_rows(bands: Iterable[Region], info: PhotoInfo) -> Iterator[Samples]:
    """The samples of a file, as (rows, width, channels) in the type of ``info.depth``, from top to bottom.

    ``bands`` are full-width regions of any heights, in that order. All groups have ``GROUP_ROWS`` rows but the last.
    Raises :class:`ValueError` for bands that do not make up the picture of ``info``.
    """
    colours = _colours(info)
    shape = info.width, channel_count(info)
    group = np.empty((min(GROUP_ROWS, info.height), *shape), info.depth.dtype)
    filled = total = 0
    for band in bands:
        height, width = band.colour.shape[:2]
        if width != info.width or (info.alpha and band.alpha is None):
            raise ValueError(f"a band of width {width} does not fit a picture of width {info.width}, or has no alpha")
        if total + height > info.height:
            raise ValueError(f"the bands have {total + height} rows, and the picture {info.height}")
        start = 0
        while start < height:
            rows = slice(start, min(start + _ROWS_AT_A_TIME, start + len(group) - filled, height))
            colour = colours(band.colour[rows])
            start, target = rows.stop, group[filled : filled + rows.stop - rows.start]
            target[..., : colour.shape[2]] = quantize(colour, info.depth)
            if info.alpha and band.alpha is not None:
                target[..., -1] = quantize(band.alpha[rows], info.depth)
            filled, total = filled + len(target), total + len(target)
            if filled == len(group):
                yield group
                group = np.empty((min(GROUP_ROWS, info.height - total), *shape), info.depth.dtype)
                filled = 0
        del band  # nothing of it is held while the next one is made
    if total != info.height:
        raise ValueError(f"the bands have {total} rows, and the picture {info.height}")


def _colours(info: PhotoInfo) -> Callable[[Floats], Floats]:
    """What turns (h, w, 3) red, green and blue into the colours of the file, (h, w, c)."""
    if info.cmyk:
        from xpsr_cli.photos.cmyk import CmykProfile  # brings in a colour engine that few photos need

        if info.metadata.icc is None:
            raise ValueError("inks without a profile")
        return CmykProfile(info.metadata.icc).to_inks
    return _grey if info.grey else lambda colour: colour


def _grey(colour: Floats) -> Floats:
    """Luma (ITU-R BT.601, as Pillow has it), (h, w, 1); three equal channels give that very value."""
    red, green, blue = colour[..., :1], colour[..., 1:2], colour[..., 2:]
    return green + np.float32(0.299) * (red - green) + np.float32(0.114) * (blue - green)
