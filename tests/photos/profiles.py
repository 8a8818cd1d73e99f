"""Makers of colour profiles: the usual spaces of photos, grey, and a press with four inks.

The spaces with primaries come from lcms by their published numbers; the press is laid out here, table by table, since
no library makes one. Sources: ICC.1:2001-04 (version 2 profiles), IEC 61966-2-1, ISO 22028-2, Adobe RGB (1998).
"""

from __future__ import annotations

import struct
from functools import cache

import imagecodecs
import numpy as np

_D50 = np.array([0.9642, 1.0, 0.8249])
_D65_XY, _D50_XY = (0.3127, 0.3290), (0.3457, 0.3585)
_ADOBE_TO_XYZ_D50 = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
# How dense each ink (columns: cyan, magenta, yellow, black) at its most is to red, green and blue light (rows).
_DENSITIES = np.array([[1.15, 0.10, 0.02, 1.2], [0.22, 1.05, 0.06, 1.2], [0.08, 0.30, 0.95, 1.2]])
_BLACK_SHARE = 0.6  # how much of the common grey the press prints with black


def srgb() -> bytes:
    """sRGB."""
    return _with_primaries(_D65_XY, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06), None)


def display_p3() -> bytes:
    """Display P3, as phones write it."""
    return _with_primaries(_D65_XY, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060), None)


def adobe_rgb() -> bytes:
    """Adobe RGB (1998)."""
    return _with_primaries(_D65_XY, (0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256)


def prophoto() -> bytes:
    """ProPhoto RGB, which holds colours that no eye sees."""
    return _with_primaries(_D50_XY, (0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105), 1.8)


@cache
def grey() -> bytes:
    """Grey with a gamma of 2.2."""
    return _dated(imagecodecs.cms_profile("gray", whitepoint=_D65_XY, gamma=2.2))


@cache
def _with_primaries(white: tuple, primaries: tuple, gamma: float | None) -> bytes:
    if gamma is not None:
        return _dated(imagecodecs.cms_profile("rgb", whitepoint=white, primaries=primaries, gamma=gamma))
    x = np.linspace(0, 1, 1024)
    curve = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    table = np.rint(curve * 65535).astype(np.uint16)
    return _dated(imagecodecs.cms_profile("rgb", whitepoint=white, primaries=primaries, transferfunction=table))


def _dated(profile: bytes) -> bytes:
    """The profile with the time of day taken out."""
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


@cache
def cmyk() -> bytes:
    """A press with four inks whose densities add up, with tables from inks to Lab and back that agree."""
    to_lab = _lut16(_inks_to_lab(_grid(11, 4)), 4, 3, 11)
    to_inks = _lut16(_lab_to_inks(_grid(33, 3)), 3, 4, 33)
    tags = {
        b"desc": _description("Four inks"),
        b"cprt": b"text" + bytes(4) + b"no rights reserved\0",
        b"wtpt": b"XYZ " + bytes(4) + _fixed(_D50 * 0.88),
        b"A2B0": to_lab,
        b"A2B1": to_lab,
        b"A2B2": to_lab,
        b"B2A0": to_inks,
        b"B2A1": to_inks,
        b"B2A2": to_inks,
        b"gamt": _lut16(np.zeros((8, 1)), 3, 1, 2),
    }
    return _packed(b"prtr", b"CMYK", b"Lab ", tags)


def _grid(points: int, channels: int) -> np.ndarray:
    """(points ** channels, channels) in [0, 1], the last channel fastest."""
    axes = np.meshgrid(*[np.linspace(0, 1, points)] * channels, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], -1)


def _inks_to_lab(inks: np.ndarray) -> np.ndarray:
    """Lab as 16-bit tables of version 2 hold it, over 65535."""
    rgb = 10.0 ** -(inks @ _DENSITIES.T)
    xyz = rgb @ _ADOBE_TO_XYZ_D50.T / _ADOBE_TO_XYZ_D50.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lightness, a, b = 116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])
    return np.stack([lightness / 100 * 0xFF00, (a + 128) * 256, (b + 128) * 256], -1) / 65535


def _lab_to_inks(encoded: np.ndarray) -> np.ndarray:
    """The inverse: black prints a share of the grey, the three colours the rest; what cannot be printed is clipped."""
    lightness, a, b = np.moveaxis(encoded * 65535 / [0xFF00 / 100, 256, 256] - [0, 128, 128], -1, 0)
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2)
    rgb = (xyz * _ADOBE_TO_XYZ_D50.sum(1)) @ np.linalg.inv(_ADOBE_TO_XYZ_D50).T
    darkest = _DENSITIES.sum(1)
    density = -np.log10(np.maximum(rgb, 10.0**-darkest))
    colours = density @ np.linalg.inv(_DENSITIES[:, :3]).T  # without black
    grey = np.linalg.inv(_DENSITIES[:, :3]) @ _DENSITIES[:, 3]  # the colours that black stands for
    black = np.clip((np.maximum(colours, 0) / grey).min(-1) * _BLACK_SHARE, 0, 1)
    black = np.maximum(black, ((colours - 1) / grey).max(-1)).clip(0, 1)
    return np.clip(np.concatenate([colours - black[:, None] * grey, black[:, None]], -1), 0, 1)


def _lut16(table: np.ndarray, inputs: int, outputs: int, points: int) -> bytes:
    straight = struct.pack(">HH", 0, 65535)
    head = b"mft2" + bytes(4) + bytes([inputs, outputs, points, 0]) + _fixed(np.eye(3)) + struct.pack(">HH", 2, 2)
    values = np.rint(np.clip(table, 0, 1) * 65535).astype(">u2").tobytes()
    return head + straight * inputs + values + straight * outputs


def _fixed(values: np.ndarray) -> bytes:
    return np.rint(np.asarray(values) * 65536).astype(">i4").tobytes()


def _description(text: str) -> bytes:
    words = text.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(words)) + words + bytes(4 + 4 + 2 + 1 + 67)


def _packed(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of version 2.4; tags of the same content share their place."""
    at, body, places = 128 + 4 + 12 * len(tags), b"", {}
    for data in tags.values():
        if data not in places:
            places[data] = at + len(body)
            body += data + bytes(-len(data) % 4)
    table = struct.pack(">I", len(tags))
    table += b"".join(struct.pack(">4sII", tag, places[data], len(data)) for tag, data in tags.items())
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp"
    header += bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + table + body
