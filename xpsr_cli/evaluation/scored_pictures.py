"""Pictures as they are scored: what their files show, in 8 bits, and what had to be done for that."""

# shapes: pixels are (H, W, 3) uint8

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpsr_cli.photos.photo import Depth, Pixels, quantize
from xpsr_cli.photos.source import open_photo


@dataclass(frozen=True, eq=False)
class ScoredPicture:
    """Upright red, green and blue, and a word for each thing that a file had and scores do not see."""

    pixels: Pixels
    conversions: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])


def read_picture(path: Path) -> ScoredPicture:
    """The picture in a file as it is scored.

    More than 8 bits are rounded to 8, inks are converted through their profile, and what is transparent lies over
    white. :class:`~xpsr_cli.errors.PhotoError` for what cannot be read, and for pixels that are no numbers.
    """
    with open_photo(path) as photo:
        info = photo.info
        region = photo.read(0, 0, info.height, info.width)
        conversions = [] if info.depth is Depth.U8 else ["rounded to 8 bits"]
        colour = region.colour
        if info.cmyk:
            conversions.append("converted from CMYK")
        if region.alpha is not None and bool((region.alpha < 1).any()):
            colour = 1 + (colour - 1) * region.alpha[..., None]
            conversions.append("laid over white")
    return ScoredPicture(np.ascontiguousarray(quantize(colour, Depth.U8)), tuple(conversions))
