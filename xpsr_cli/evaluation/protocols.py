"""Protocols: named sets of the choices on which PSNR, SSIM and the choice of a MANIQA depend, as papers make them.

The same word in two tables is the same figure only if all of these choices are the same, so a report says them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from xpsr_cli.errors import UsageError


class Channels(str, Enum):
    """The values that are compared."""

    LUMA = "luma (Y of BT.601 limited range, 16 to 235)"
    RGB = "RGB, mean over the three channels"


class Border(str, Enum):
    """How many pixels at the border are left out."""

    KEPT = "kept"
    SCALE = "cropped by as many pixels as the scale says"


@dataclass(frozen=True)
class Protocol:
    """How PSNR and SSIM are computed, and which MANIQA a table under this protocol means.

    ``mse_floor`` is added to the mean squared error of PSNR, for values in [0, 1]. ``ssim_rounded`` rounds luma to
    whole numbers before SSIM (PSNR never does), ``ssim_clamped`` raises negative values of its contrast-structure map
    to 0. ``maniqa`` is the name of a metric, or empty where such tables have none.
    """

    name: str
    about: str
    channels: Channels = Channels.LUMA
    border: Border = Border.KEPT
    mse_floor: float = 0.0
    ssim_rounded: bool = False
    ssim_clamped: bool = False
    maniqa: str = ""

    def crop_px(self, scale: float | None) -> int:
        """Pixels to leave out on every side.

        Raises:
            ValueError: the protocol crops by the scale, which is ``None``.
        """
        if self.border is Border.KEPT:
            return 0
        if scale is None:
            raise ValueError(f"Protocol {self.name} needs the scale.")
        return math.ceil(scale)

    @property
    def words(self) -> str:
        """What is compared, for someone who reads a table: ``luma (...), border kept, SSIM on rounded luma``."""
        rounded = ", SSIM on rounded luma" if self.ssim_rounded else ""
        clamped = ", its contrast-structure clamped at 0" if self.ssim_clamped else ""
        return f"{self.channels.value}, border {self.border.value}{rounded}{clamped}"

    def describe(self) -> dict[str, str]:
        """Its choices in words, for a report."""
        floor = f", {self.mse_floor:g} added to the mean squared error of values up to 1" if self.mse_floor else ""
        rounded = ", luma rounded" if self.ssim_rounded else ""
        clamped = ", contrast-structure clamped at 0" if self.ssim_clamped else ""
        choices = {
            "about": self.about,
            "files": "as saved, 8 bits",
            "channels": self.channels.value,
            "border": self.border.value,
            "PSNR": f"not rounded, peak 255{floor}",
            "SSIM": f"11 x 11 Gaussian of 1.5, valid windows, K 0.01 and 0.03, range 255{rounded}{clamped}",
            "mean": "of the values of all pictures",
        }
        return {**choices, "MANIQA": self.maniqa} if self.maniqa else choices


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "osediff",
            "the tables of OSEDiff, TSD-SR, SeeSR and most since, on StableSR's test sets, as pyiqa computes them",
            mse_floor=1e-8,
            ssim_rounded=True,
            ssim_clamped=True,
            maniqa="maniqa-pipal",
        ),
        Protocol(
            "xpsr",
            "the tables of the XPSR paper, as its released script computes them",
            mse_floor=1e-8,
            ssim_rounded=True,
            ssim_clamped=True,
            maniqa="maniqa-koniq",
        ),
        Protocol(
            "classic",
            "the tables on Set5, Set14, BSD100 and Urban100, as BasicSR computes them",
            border=Border.SCALE,
        ),
        Protocol("rgb", "all three channels, nothing left out", channels=Channels.RGB),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name; :class:`UsageError` listing the names otherwise."""
    if name not in PROTOCOLS:
        raise UsageError(f"There is no protocol named {name!r}.", f"Known: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
