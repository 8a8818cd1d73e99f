"""How bright a photo is, how much of it is lost in black and white, and whether a colour lies over all of it."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np

from xpsr_cli.captioning.sample_windows import SampleWindow
from xpsr_cli.photos.photo import Floats

_EVERY = 4  # pixels in a row and rows: tones need no more
_TWENTIETH = (5, 95)
_CLIPPED = (2.0, 253.0)
_GREYEST = 5  # per cent
_MIDTONES = (16.0, 250.0)  # outside of them colours are rounded or cut off


class Tones(NamedTuple):
    """See :class:`~xpsr_cli.captioning.measured.Measurements`; a photo without visible pixels is grey."""

    shadows: float = 0.25
    highlights: float = 0.75
    clipped: float = 0.0
    cast: float = 0.0
    cast_hue: float = 0.0


def measure_tones(windows: list[SampleWindow]) -> Tones:
    """Brightness and colour of the visible pixels, as the file encodes them."""
    thin = (slice(None, None, _EVERY), slice(None, None, _EVERY))
    colour = np.concatenate([window.colour[thin][window.visible[thin]] for window in windows])
    luma = np.concatenate([window.luma[thin][window.visible[thin]] for window in windows])
    if not len(luma):
        return Tones()
    shadows, highlights = np.percentile(luma, _TWENTIETH) / 255
    clipped = (colour.max(axis=1) <= _CLIPPED[0]) | (colour.min(axis=1) >= _CLIPPED[1])
    used = (luma > _MIDTONES[0]) & (luma < _MIDTONES[1])
    cast, hue = _cast(colour[used] / luma[used, None]) if used.any() else (0.0, 0.0)
    return Tones(float(shadows), float(highlights), float(clipped.mean()), cast, hue)


def _cast(relative: Floats) -> tuple[float, float]:
    """Strength and hue of what (pixels, 3) colours, divided by their brightness, have in common.

    The hue is that of the average (grey world), the strength that of the greyest twentieth: a lawn is green on
    average, under a green cast nothing in the picture is grey.
    """
    chroma = relative - relative.mean(axis=1, keepdims=True)
    average = chroma.mean(axis=0)
    length = float(np.linalg.norm(average))
    if length < 1e-3:
        return 0.0, 0.0
    strength = float(np.percentile(chroma @ (average / length), _GREYEST))
    hue, _, _ = colorsys.rgb_to_hsv(*(float(value) for value in average - average.min()))
    return max(strength, 0.0), 360 * hue
