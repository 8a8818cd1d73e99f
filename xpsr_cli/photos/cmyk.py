"""Photos in inks: through their profile into red, green and blue for the networks, and back for the file.

The colours in between are Rec. 2020 with the tone curve of sRGB: wide enough for what inks print, and close to what
the networks know. Both ways are relative colorimetric, so paper is white and the darkest ink stays as dark as it is.
There is no black point compensation: it would be estimated by other rules each way and not undo itself. How much of a
grey is printed with black follows the profile, as in any conversion, so inks may differ where the colour does not.
"""

from __future__ import annotations

from functools import cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.png_colour import profile_of

Floats = NDArray[np.float32]

_REC2020_PRIMARIES, _SRGB_CURVE = 9, 13  # numbers of ITU-T H.273
_FULL_INK = np.float32(100)  # lcms counts float inks in percent


class CmykProfile:
    """The profile of a photo in inks. Safe to use from several threads; each pixel is converted for itself.

    ``icc`` is the profile; a damaged one, and one that is not of four inks or knows only one way, is a
    :class:`PhotoError`.
    """

    def __init__(self, icc: bytes) -> None:
        if icc[16:20] != b"CMYK":  # ICC.1:2022, 7.2.6: data colour space
            raise PhotoError(
                "The photo is in CMYK, but its colour profile is for something else.",
                "Assign the right profile to it.",
            )
        self._icc = icc
        try:
            self.to_inks(self.to_rgb(np.zeros((1, 1, 4), np.float32)))
        except (imagecodecs.CmsError, ValueError, RuntimeError) as error:
            raise PhotoError(
                "The photo is in CMYK, and its colour profile is damaged or works only one way.",
                "Convert it to RGB with its profile first.",
            ) from error

    def to_rgb(self, inks: Floats) -> Floats:
        """(h, w, 4) float32 ink amounts, 0 none to 1 full, to (h, w, 3) red, green and blue in [0, 1]."""
        return np.clip(_convert(inks * _FULL_INK, self._icc, "cmyk", working_profile(), "rgb"), 0, 1)

    def to_inks(self, rgb: Floats) -> Floats:
        """(h, w, 3) float32 red, green and blue in [0, 1], as :meth:`to_rgb` gives them, to (h, w, 4) ink amounts."""
        inks = _convert(rgb, working_profile(), "rgb", self._icc, "cmyk")
        return np.clip(inks / _FULL_INK, 0, 1)


@cache
def working_profile() -> bytes:
    """The profile of the red, green and blue that inks are read as."""
    profile = profile_of(((b"cICP", bytes([_REC2020_PRIMARIES, _SRGB_CURVE, 0, 1])),))
    assert profile is not None  # it is only for sRGB
    return profile


def _convert(values: Floats, source: bytes, colours: str, target: bytes, target_colours: str) -> Floats:
    return imagecodecs.cms_transform(
        np.ascontiguousarray(values, np.float32),
        source,
        target,
        colorspace=colours,
        outcolorspace=target_colours,
        outdtype="float32",
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
    )
