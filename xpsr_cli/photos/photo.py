"""A photo in memory: its pixels, its transparency and everything that has to come out again unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpsr_cli.photos.metadata import Metadata

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright 8-bit photo.

    ``pixels`` is (H, W, 3) uint8, red, green, blue in the colour space of ``metadata.icc`` (sRGB when there is none).
    ``alpha`` is (H, W) uint8, 0 transparent to 255 opaque, not premultiplied; ``None`` when the file has no such
    channel. ``grey`` says that the file held no colour: the three channels are equal and it is written grey again.
    ``name`` is what messages call the photo; ``path`` is the file it came from, ``None`` for one made in memory.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    name: str = "photo"
    grey: bool = False
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}, not uint8 (H, W, 3)")
        if self.alpha is not None and (self.alpha.dtype != np.uint8 or self.alpha.shape != self.pixels.shape[:2]):
            raise ValueError(f"alpha is {self.alpha.dtype} {self.alpha.shape}, not uint8 {self.pixels.shape[:2]}")

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.pixels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.width, self.height

    @property
    def transparent(self) -> bool:
        """Whether any pixel is less than opaque (an alpha channel that is 255 everywhere does not count)."""
        return self.alpha is not None and bool((self.alpha < 255).any())

    def with_pixels(self, pixels: Pixels, alpha: Pixels | None = None) -> Photo:
        """The same photo, metadata and name with other pixels, of any size; ``alpha`` is replaced too."""
        return replace(self, pixels=pixels, alpha=alpha)
