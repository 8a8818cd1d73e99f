"""What a photo is to the rest of the program: facts known before a pixel is read, and windows of its pixels.

Pixels outside of files are float32 in [0, 1] whatever the file holds: 8 and 16 bits go through it without loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from xpsr_cli.photos.metadata import Metadata

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Samples = NDArray[Any]


class Depth(str, Enum):
    """What one sample of a file is."""

    U8 = "8"
    U16 = "16"
    FLOAT = "float"  # 32 bits, 0 to 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""
        return np.dtype({"8": np.uint8, "16": np.uint16, "float": np.float32}[self.value])

    @property
    def white(self) -> int:
        """The sample that means 1.0."""
        return {"8": 255, "16": 65535, "float": 1}[self.value]


@dataclass(frozen=True)
class PhotoInfo:
    """A photo without its pixels.

    ``width`` and ``height`` are those of the upright picture. ``grey`` says that the file holds no colour, ``alpha``
    that it has a channel for transparency, ``cmyk`` that it holds inks (which are converted when it is read and
    written, see :mod:`xpsr_cli.photos.cmyk`). ``name`` is what messages call the photo; ``path`` is the file it came
    from, ``None`` for one made in memory.
    """

    width: int
    height: int
    depth: Depth = Depth.U8
    grey: bool = False
    alpha: bool = False
    cmyk: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    name: str = "photo"
    path: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.width, self.height


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of a part of a photo.

    ``colour`` is (h, w, 3) float32 in [0, 1]: red, green, blue as the file encodes them, in the colour space of its
    profile (sRGB without one); the channels of a grey photo are equal. ``alpha`` is (h, w) float32, 0 transparent to 1
    opaque, not premultiplied; ``None`` when the photo has no such channel.
    """

    colour: Floats
    alpha: Floats | None = None


class PhotoSource(Protocol):
    """A photo whose pixels are read window by window. Sources are context managers; leaving one closes its file."""

    @property
    def info(self) -> PhotoInfo:
        """What is known without the pixels."""

    def read(self, top: int, left: int, height: int, width: int) -> Region:
        """The pixels of a window that lies within the upright picture; :class:`PhotoError` if they are damaged."""

    def transparent(self) -> bool:
        """Whether any pixel is less than opaque. Reads the alpha channel, if there is one."""

    def close(self) -> None:
        """Let go of the file and of what was kept of it."""

    def __enter__(self) -> Self:
        """The source itself."""

    def __exit__(self, *_: object) -> None:
        """Close it."""


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright photo in memory, which is a :class:`PhotoSource` too.

    ``pixels`` is (H, W, 3) uint8, uint16 or float32 in [0, 1], ``alpha`` (H, W) of the same type or ``None``; the rest
    is as in :class:`PhotoInfo`.
    """

    pixels: Samples
    alpha: Samples | None = None
    metadata: Metadata = field(default_factory=Metadata)
    name: str = "photo"
    grey: bool = False
    path: Path | None = None
    cmyk: bool = False

    def __post_init__(self) -> None:
        known = [depth.dtype for depth in Depth]
        if self.pixels.dtype not in known or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}, not (H, W, 3) of a photo's types")
        if self.alpha is not None and (self.alpha.dtype, self.alpha.shape) != (
            self.pixels.dtype,
            self.pixels.shape[:2],
        ):
            raise ValueError(f"alpha is {self.alpha.dtype} {self.alpha.shape}, which does not fit the pixels")

    @classmethod
    def from_source(cls, source: PhotoSource) -> Photo:
        """The whole of a source, in the type of its file."""
        info = source.info
        region = source.read(0, 0, info.height, info.width)
        alpha = None if region.alpha is None else quantize(region.alpha, info.depth)
        return cls(
            quantize(region.colour, info.depth), alpha, info.metadata, info.name, info.grey, info.path, info.cmyk
        )

    @property
    def info(self) -> PhotoInfo:
        """The photo without its pixels."""
        depth = next(depth for depth in Depth if depth.dtype == self.pixels.dtype)
        return PhotoInfo(
            self.width,
            self.height,
            depth,
            self.grey,
            self.alpha is not None,
            self.cmyk,
            self.metadata,
            self.name,
            self.path,
        )

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

    def read(self, top: int, left: int, height: int, width: int) -> Region:
        """See :class:`PhotoSource`."""
        there = slice(top, top + height), slice(left, left + width)
        alpha = None if self.alpha is None else to_01(self.alpha[there])
        return Region(to_01(self.pixels[there]), alpha)

    def transparent(self) -> bool:
        """See :class:`PhotoSource`."""
        return self.alpha is not None and bool((self.alpha < self.info.depth.white).any())

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def with_pixels(self, pixels: Samples, alpha: Samples | None = None) -> Photo:
        """The same photo, metadata and name with other pixels, of any size; ``alpha`` is replaced too."""
        return replace(self, pixels=pixels, alpha=alpha)


def to_01(samples: Samples) -> Floats:
    """Samples of a file to float32 in [0, 1]."""
    if samples.dtype == np.float32:
        return samples
    white = np.float32(np.iinfo(samples.dtype).max)
    return samples.astype(np.float32) / white


def quantize(values_01: Floats, depth: Depth) -> Samples:
    """Float32 values to the nearest samples of a file; what lies outside of [0, 1] is clipped."""
    clipped = np.clip(values_01, 0, 1)
    if depth is Depth.FLOAT:
        return clipped
    return np.rint(clipped * np.float32(depth.white)).astype(depth.dtype)
