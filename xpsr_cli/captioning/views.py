"""What a multimodal model sees of a photo: all of it, made small, and where it is large a part of it as it is.

A photo is read in bands of full width that hold a few million pixels, so its size does not matter for the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from xpsr_cli.captioning.captions import Box
from xpsr_cli.photos.photo import Floats, PhotoSource, Pixels, Region

WHOLE_PX = 1024
"""Longer side of the view of a whole photo, at most."""
DETAIL_PX = 512
"""Side of the part that is shown as it is."""
LARGE = 1.5
"""A photo whose longer side is more than this times the view's is shown in detail, too."""
_BAND_PIXELS = 2**21
_BACKGROUND = np.float32(0.5)  # what transparent pixels lie on: neither a dark nor a light picture comes of it


@dataclass(frozen=True, eq=False)
class View:
    """Two pictures of one photo, each (h, w, 3) uint8.

    ``whole`` is all of the photo with a longer side of at most :data:`WHOLE_PX`. ``detail`` is a part of it in its own
    pixels, to judge sharpness and noise by; it is the very same array as ``whole`` where that has lost little.
    """

    whole: Pixels
    detail: Pixels


def take_view(photo: PhotoSource, box: Box | None = None) -> View:
    """The view of a photo, or of the part of it in ``box``.

    Raises :class:`~xpsr_cli.errors.PhotoError` if its pixels are damaged.
    """
    box = box or Box(0, 0, photo.info.width, photo.info.height)
    whole = _reduced(photo, box)
    if max(box.width, box.height) <= LARGE * WHOLE_PX:
        return View(whole, whole)
    return View(whole, _detail(photo, box))


def on_square(picture: Pixels, background: tuple[int, int, int]) -> Pixels:
    """The picture in the middle of a square of one colour, for models that look at the middle square alone."""
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), background, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def _reduced(photo: PhotoSource, box: Box) -> Pixels:
    """The box with a longer side of at most :data:`WHOLE_PX`: means of whole blocks, then Pillow for the rest."""
    longer = max(box.width, box.height)
    step = max(1, longer // WHOLE_PX)
    rows = max(1, _BAND_PIXELS // box.width // step) * step
    bands = []
    for top in range(0, box.height, rows):
        height = min(rows, box.height - top)
        bands.append(_to_uint8(_block_means(_visible(photo.read(box.top + top, box.left, height, box.width)), step)))
    blocks = np.concatenate(bands)
    if longer <= WHOLE_PX:
        return blocks
    shrink = WHOLE_PX / longer
    size = max(1, round(box.width * shrink)), max(1, round(box.height * shrink))
    covered = 0, 0, box.width / step, box.height / step  # the last blocks of a row and a column may not be whole
    return np.asarray(Image.fromarray(blocks).resize(size, Image.Resampling.BOX, covered))


def _block_means(colour: Floats, step: int) -> Floats:
    """Means over blocks of ``step`` pixels a side; those at the right and at the bottom may be smaller."""
    if step == 1:
        return colour
    for axis in (0, 1):
        length = colour.shape[axis]
        starts = np.arange(0, length, step)
        counts = np.diff(np.append(starts, length)).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = len(counts)
        sums: Floats = np.add.reduceat(colour, starts, axis=axis)
        colour = sums / counts.reshape(shape)
    return colour


def _detail(photo: PhotoSource, box: Box) -> Pixels:
    """Of the middle of the box and those of its quarters, the window in which neighbouring pixels differ most."""
    width, height = min(DETAIL_PX, box.width), min(DETAIL_PX, box.height)
    best, most = None, -1.0
    for across, down in ((2, 2), (1, 1), (3, 1), (1, 3), (3, 3)):
        left = box.left + min(max(box.width * across // 4 - width // 2, 0), box.width - width)
        top = box.top + min(max(box.height * down // 4 - height // 2, 0), box.height - height)
        window = _to_uint8(_visible(photo.read(top, left, height, width)))
        if (contrast := _contrast(window)) > most:
            best, most = window, contrast
    assert best is not None
    return best


def _contrast(picture: Pixels) -> float:
    """Mean difference of neighbouring pixels."""
    grey = picture.mean(axis=2, dtype=np.float32)
    return sum(float(np.abs(steps).mean()) for axis in (0, 1) if (steps := np.diff(grey, axis=axis)).size)


def _visible(region: Region) -> Floats:
    """The colours as they look on the background."""
    if region.alpha is None:
        return region.colour
    return _BACKGROUND + region.alpha[..., None] * (region.colour - _BACKGROUND)


def _to_uint8(colour: Floats) -> Pixels:
    return np.rint(np.clip(colour, 0, 1) * np.float32(255)).astype(np.uint8)
