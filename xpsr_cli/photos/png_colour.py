"""What a PNG without a profile says of its colours, as a profile for files that can only say it so.

The chunks sRGB, gAMA, cHRM and cICP give a tone curve and primaries. Other formats would show such a picture as sRGB;
a profile made of the same numbers keeps its look. Sources: PNG (third edition), 11.3.2; ITU-T H.273, tables 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import imagecodecs
import numpy as np

from xpsr_cli.errors import PhotoError

_D65 = (0.3127, 0.3290)
_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# By number of H.273: white point, and the primaries red, green, blue.
_PRIMARIES = {
    1: (_D65, _SRGB),
    4: ((0.310, 0.316), (0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: (_D65, (0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: (_D65, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: (_D65, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    9: (_D65, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: (_D65, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
}
_PQ, _HLG = 16, 18
_SRGB_GAMMA = 45455
_CLOSE = 0.002  # of a chromaticity: writers round them in many ways

Chunks = tuple[tuple[bytes, bytes], ...]
Curve = Callable[[np.ndarray], np.ndarray]


def is_hdr(chunks: Chunks) -> bool:
    """Whether the chunks say that the picture is brighter than paper (PQ or HLG)."""
    described = dict(chunks).get(b"cICP", b"")
    return len(described) == 4 and described[1] in (_PQ, _HLG)


def profile_of(chunks: Chunks, *, grey: bool = False) -> bytes | None:
    """A colour profile that says what ``chunks`` (type, data) say; ``None`` where that is sRGB or nothing.

    ``grey`` makes one for a picture of one channel. :class:`PhotoError` for HDR and for what no profile can say.
    Chunks of the wrong length do not count. As PNG has it, cICP goes before sRGB, and that before gAMA and cHRM.
    """
    found = {kind: data for kind, data in chunks if len(data) == _LENGTHS.get(kind)}
    if b"cICP" in found:
        white, primaries, curve = _described(*found[b"cICP"])
    elif b"sRGB" in found:
        return None
    else:
        white, primaries, curve = _measured(found)
    if curve is None and (grey or np.allclose((*white, *primaries), (*_D65, *_SRGB), atol=_CLOSE)):
        return None
    levels = np.linspace(0, 1, 1024)
    options: dict[str, Any] = {"whitepoint": white, "transferfunction": _quantised((curve or _srgb_curve)(levels))}
    if not grey:
        options["primaries"] = primaries
    made = bytearray(imagecodecs.cms_profile("gray" if grey else "rgb", **options))
    made[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # else the time of day would be in the result
    return bytes(made)


_LENGTHS: Mapping[bytes, int] = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}


def _described(primaries: int, transfer: int, matrix: int, full: int) -> tuple[tuple, tuple, Curve | None]:
    """White point, primaries and curve (``None``: that of sRGB) of a cICP chunk."""
    if transfer in (_PQ, _HLG):
        raise PhotoError(
            f"HDR colours ({'PQ' if transfer == _PQ else 'HLG'}) can only be described in a PNG.", "Use PNG (.png)."
        )
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix != 0 or full != 1:
        raise PhotoError(
            f"Colours of cICP {primaries}/{transfer}/{matrix}/{full} can only be described in a PNG.",
            "Use PNG (.png).",
        )
    return *_PRIMARIES[primaries], _CURVES[transfer]


def _measured(found: Mapping[bytes, bytes]) -> tuple[tuple, tuple, Curve | None]:
    """White point, primaries and curve (``None``: that of sRGB) of the chunks gAMA and cHRM."""
    white, primaries = _D65, _SRGB
    if b"cHRM" in found:
        values = [value / 100000 for value in struct.unpack(">8I", found[b"cHRM"])]
        if _makes_sense(values):
            white, primaries = tuple(values[:2]), tuple(values[2:])
    gamma = struct.unpack(">I", found[b"gAMA"])[0] if b"gAMA" in found else 0
    ours = np.allclose((*white, *primaries), (*_D65, *_SRGB), atol=_CLOSE)
    if not 1000 <= gamma <= 10_000_000 or (gamma == _SRGB_GAMMA and ours):
        return white, primaries, None
    return white, primaries, lambda levels: levels ** (100000 / gamma)


def _makes_sense(values: list[float]) -> bool:
    """Whether white point and primaries are colours that span a triangle."""
    points = np.array(values).reshape(4, 2)
    sides = points[2:] - points[1]
    area = abs(sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0])
    return bool((points[:, 1] > 0).all() and (points.sum(1) <= 1.2).all() and area > 0.01)


def _quantised(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)


def _srgb_curve(levels: np.ndarray) -> np.ndarray:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _bt709_curve(levels: np.ndarray) -> np.ndarray:
    return np.where(levels < 0.081, levels / 4.5, ((levels + 0.099) / 1.099) ** (1 / 0.45))


# By number of H.273, from encoded to linear.
_CURVES: Mapping[int, Curve | None] = {
    1: _bt709_curve,
    4: lambda levels: levels**2.2,
    5: lambda levels: levels**2.8,
    6: _bt709_curve,
    8: lambda levels: levels,
    13: None,
    14: _bt709_curve,
    15: _bt709_curve,
}
