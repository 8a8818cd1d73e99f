"""How different two colours look: CIEDE2000, and the CIE Lab colours that the pixels of a photo mean.

Source: G. Sharma, W. Wu, E. N. Dalal, "The CIEDE2000 color-difference formula", Color Res. Appl. 30 (2005) 21-30.
"""

from __future__ import annotations

import functools

import imagecodecs
import numpy as np
from PIL import ImageCms

COLOUR_SPACES = {b"RGB ": "rgb", b"GRAY": "gray", b"CMYK": "cmyk"}  # by the signature in a profile (ICC.1:2022, 7.2.6)


def ciede2000(lab_1, lab_2):
    """Differences (...) between Lab colours (..., 3); 1 is about what an eye can just tell apart."""
    (l_1, a_1, b_1), (l_2, a_2, b_2) = (np.moveaxis(np.asarray(lab, np.float64), -1, 0) for lab in (lab_1, lab_2))
    mean_chroma = (np.hypot(a_1, b_1) + np.hypot(a_2, b_2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25.0**7))
    chroma_1, chroma_2 = np.hypot(stretch * a_1, b_1), np.hypot(stretch * a_2, b_2)
    hue_1, hue_2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a_1, b_1), (a_2, b_2)))

    grey = chroma_1 * chroma_2 == 0  # a grey has no hue
    turn = np.where(grey, 0, (hue_2 - hue_1 + 180) % 360 - 180)
    delta_hue = 2 * np.sqrt(chroma_1 * chroma_2) * np.sin(np.radians(turn) / 2)
    hue = np.where(grey, hue_1 + hue_2, _mean_hue(hue_1, hue_2))
    lightness, chroma = (l_1 + l_2) / 2, (chroma_1 + chroma_2) / 2

    tone = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    of_lightness = (l_2 - l_1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    of_chroma = (chroma_2 - chroma_1) / (1 + 0.045 * chroma)
    of_hue = delta_hue / (1 + 0.015 * chroma * tone)
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(np.radians(60) * _blueness(hue))
    return np.sqrt(of_lightness**2 + of_chroma**2 + of_hue**2 + rotation * of_chroma * of_hue)


def _mean_hue(hue_1, hue_2):
    """The angle half way between two, on the shorter way round."""
    total = hue_1 + hue_2
    far = np.abs(hue_1 - hue_2) > 180
    return np.where(far, np.where(total < 360, total + 360, total - 360), total) / 2


def _blueness(hue):
    return np.exp(-(((hue - 275) / 25) ** 2))


@functools.lru_cache
def _lab_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def colour_space(profile):
    """``"rgb"``, ``"gray"`` or ``"cmyk"``: what the values are that a colour profile describes."""
    return COLOUR_SPACES[profile[16:20]]


def to_lab(values_01, profile=None):
    """Lab colours (h, w, 3), relative to D50, of values (h, w, channels) in [0, 1]; without a profile they are sRGB.

    CMYK is the amount of ink. An RGB picture may be given as grey with three equal channels where the profile is grey.
    """
    profile = profile or imagecodecs.cms_profile("srgb")
    space = colour_space(profile)
    values = np.ascontiguousarray(values_01, np.float32)
    if space == "gray":
        values = np.ascontiguousarray(values[..., :1])
    if space == "cmyk":
        values = values * 100  # Little CMS counts ink in percent when it is given floats
    lab = imagecodecs.cms_transform(
        values, profile, _lab_profile(), colorspace=space, outcolorspace="lab", outdtype="float32"
    )
    return lab.reshape(*values.shape[:2], 3)
