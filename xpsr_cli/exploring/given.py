"""The pictures that an exploration is given: the small one, and one to walk on from."""

# shapes: h w small, H W large

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.options import MAX_SCALE, MIN_SCALE, ResizeFilter
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Depth, Floats, PhotoInfo, PhotoSource, Pixels, quantize

_PILLOW = {
    ResizeFilter.BICUBIC: Image.Resampling.BICUBIC,
    ResizeFilter.AREA: Image.Resampling.BILINEAR,  # enlarging by area would make blocks of the edges
    ResizeFilter.BILINEAR: Image.Resampling.BILINEAR,
    ResizeFilter.LANCZOS: Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, eq=False)
class GivenPicture:
    """The small picture. ``alpha`` (h, w) in [0, 1] is ``None`` where it is opaque, ``metadata`` go into answers."""

    info: PhotoInfo
    sha256: str
    colour: Floats
    alpha: Floats | None
    metadata: Metadata

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels."""
        return self.info.height, self.info.width

    @property
    def colour_01(self) -> Tensor:
        """(3, h, w)."""
        return as_tensor(self.colour)

    @property
    def pixels(self) -> Pixels:
        """(h, w, 3) uint8."""
        return quantize(self.colour, Depth.U8)

    def large_alpha(self, size: tuple[int, int], operator: ResizeFilter) -> Pixels | None:
        """The transparency enlarged to (H, W), uint8, by plain resampling; ``None`` where there is none."""
        if self.alpha is None:
            return None
        large = Image.fromarray(self.alpha).resize((size[1], size[0]), _PILLOW[operator])
        return quantize(np.asarray(large, np.float32), Depth.U8)


def read_given(source: PhotoSource, file: Path) -> GivenPicture:
    """All of the small picture."""
    info = source.info
    region = source.read(0, 0, info.height, info.width)
    alpha = region.alpha if region.alpha is not None and bool((region.alpha < 1).any()) else None
    metadata = info.metadata
    if info.cmyk or metadata.grey_profile:
        metadata = replace(metadata, icc=None)  # it does not describe red, green and blue
    return GivenPicture(info, hash_file(file), region.colour, alpha, metadata)


def remarks(given: GivenPicture) -> list[str]:
    """What answers do not keep of the small picture, or keep in another way."""
    said = []
    if given.info.depth is not Depth.U8:
        bits = "32-bit float" if given.info.depth is Depth.FLOAT else "16-bit"
        said.append(f"the picture has {bits} channels: it counts in full, but answers have 8 bits")
    if given.alpha is not None:
        said.append("the picture is transparent in places: answers are drawn without regard to it, and are too")
    if given.info.cmyk:
        said.append("the picture has inks (CMYK): answers are in sRGB")
    elif given.info.grey:
        said.append("the picture is grey: answers may have colour in their detail")
    return said


def as_tensor(colour: Floats) -> Tensor:
    """(h, w, 3) as (3, h, w) float32."""
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1), dtype=np.float32))


def large_size(info: PhotoInfo, scale: float | None, refined: PhotoInfo | None) -> tuple[int, int]:
    """(H, W) of the answers: the small picture's times ``scale``, or without one that of the picture to walk on from.

    :class:`UsageError` where both are given and do not agree, or where it is no answer to the small picture.
    """
    if scale is None:
        assert refined is not None
        if not _is_enlarged(info, refined):
            raise UsageError(
                f"{refined.name} has {refined.width} x {refined.height} pixels, which is not {info.width} x "
                f"{info.height} of {info.name} enlarged {MIN_SCALE:g} to {MAX_SCALE:g} times.",
                "Give --refine an answer to this picture.",
            )
        return refined.height, refined.width
    size = round(info.height * scale), round(info.width * scale)
    if refined is not None and (refined.height, refined.width) != size:
        raise UsageError(
            f"{refined.name} has {refined.width} x {refined.height} pixels, and answers at a scale of {scale:g} have "
            f"{size[1]} x {size[0]}.",
            "Leave --scale out, or give --refine an answer of this size.",
        )
    return size


def _is_enlarged(small: PhotoInfo, large: PhotoInfo) -> bool:
    """Whether there is one scale, of those allowed, that makes both sides of ``large``, rounded."""
    sides = ((large.width, small.width), (large.height, small.height))
    least = max(MIN_SCALE, *((many - 0.5) / few for many, few in sides))
    most = min(MAX_SCALE, *((many + 0.5) / few for many, few in sides))
    return least <= most


def scale_of(small: tuple[int, int], large: tuple[int, int]) -> float:
    """Enlargement of each side, in the mean."""
    return math.sqrt(large[0] * large[1] / (small[0] * small[1]))
