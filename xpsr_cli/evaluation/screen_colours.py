"""What a photo looks like on a screen: its colours through its profile into 8-bit sRGB, as browsers show them."""

from __future__ import annotations

from functools import cache

import imagecodecs
import numpy as np

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.cmyk import working_profile
from xpsr_cli.photos.photo import Depth, Floats, PhotoInfo, Pixels, Region, quantize, to_01
from xpsr_cli.photos.png_colour import profile_of

_BACKGROUND = np.float32(128 / 255)  # as assets/slider.js has it


class ScreenColours:
    """Turns the colours of one photo into those of a screen. Values of a profile that is damaged stay as they are."""

    def __init__(self, info: PhotoInfo) -> None:
        self._grey = info.metadata.grey_profile
        profile = _profile(info)
        self._profile = profile if profile is not None and not _is_srgb(profile, self._grey) else None

    def convert(self, region: Region) -> Pixels:
        """(h, w, 3) uint8 in sRGB, or (h, w, 4) with straight alpha where the photo has it."""
        colour = region.colour
        if self._profile is not None:
            colour = _to_srgb(colour, self._profile, self._grey)
        pixels: Pixels = quantize(colour, Depth.U8)
        if region.alpha is None:
            return pixels
        return np.dstack([pixels, quantize(region.alpha, Depth.U8)])


def on_grey(pixels: Pixels) -> Pixels:
    """(h, w, 3 or 4) uint8 as (h, w, 3): what is transparent lies on a middle grey."""
    if pixels.shape[2] == 3:
        return pixels
    visible = to_01(pixels[..., 3:])
    colour: Floats = _BACKGROUND + visible * (to_01(pixels[..., :3]) - _BACKGROUND)
    mixed: Pixels = quantize(colour, Depth.U8)
    return mixed


def _profile(info: PhotoInfo) -> bytes | None:
    if info.cmyk:
        return working_profile()
    if info.metadata.icc is not None:
        return info.metadata.icc
    try:
        return profile_of(info.metadata.png_colour)
    except PhotoError:  # HDR, and what no profile can say
        return None


@cache
def _is_srgb(profile: bytes, grey: bool) -> bool:
    """Whether a profile changes nothing that 8 bits hold, or cannot be used at all."""
    levels = np.linspace(0, 1, 18, dtype=np.float32)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
    if grey:
        lattice = np.repeat(levels[None, :, None], 3, axis=2)
    try:
        return bool(np.abs(_to_srgb(lattice, profile, grey) - lattice).max() < 1 / 255)
    except (imagecodecs.CmsError, ValueError, RuntimeError):
        return True


def _to_srgb(colour: Floats, profile: bytes, grey: bool) -> Floats:
    values = np.ascontiguousarray(colour[..., 0] if grey else colour)
    converted: Floats = imagecodecs.cms_transform(
        values,
        profile,
        _srgb_profile(),
        colorspace="gray" if grey else "rgb",
        outcolorspace="rgb",
        outdtype="float32",
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
    )
    return np.clip(converted.reshape(colour.shape), 0, 1)


@cache
def _srgb_profile() -> bytes:
    return bytes(imagecodecs.cms_profile("srgb"))
