"""What travels with the pixels: colour profile, EXIF, XMP and resolution."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xpsr_cli.photos import exif as exif_block


@dataclass(frozen=True)
class Metadata:
    """The metadata of an upright photo.

    ``icc`` is the colour profile byte for byte. ``exif`` is an EXIF block from its TIFF header on; the orientation and
    the embedded thumbnail are gone from it. ``xmp`` is the XMP packet, ``iptc`` the IPTC-IIM records. ``dpi`` is
    pixels per inch across and down. ``texts`` are keywords and texts as PNG has them; a JPEG's comment is one with the
    keyword "Comment". ``png_colour`` are the chunks, by type, in which a PNG says what its values mean when it has no
    profile (gAMA, cHRM, sRGB, cICP).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()
    png_colour: tuple[tuple[bytes, bytes], ...] = ()

    def for_size(self, width: int, height: int) -> Metadata:
        """The same metadata with every tag that states the picture's size, in pixels, corrected."""
        return replace(
            self,
            exif=exif_block.with_size(self.exif, width, height) if self.exif else None,
            xmp=_xmp_with_size(self.xmp, width, height) if self.xmp else None,
        )

    @property
    def grey_profile(self) -> bool:
        """Whether the colour profile describes grey, so that it fits no picture with three channels."""
        return self.icc is not None and self.icc[16:20] == b"GRAY"  # ICC.1:2022, 7.2.6: data colour space


def read_metadata(info: Mapping[Any, Any], orientation: int | None = None) -> tuple[Metadata, int]:
    """Metadata from a Pillow image's ``info``, and the orientation (1 to 8) in which the file stores the pixels.

    ``orientation`` is that of a format which keeps it outside of EXIF. An EXIF block that makes no sense is left out.
    As in Pillow, an orientation in XMP counts where EXIF has none.
    """
    exif, xmp, dpi = _exif_of(info), _xmp_of(info), _dpi_of(info)
    if exif is not None:
        try:
            orientation = orientation or exif_block.orientation(exif)
            exif = exif_block.upright(exif)
        except exif_block.DAMAGED:
            exif = None
    if xmp is not None:
        orientation = orientation or _xmp_orientation(xmp)
        xmp = _xmp_upright(xmp)
    if dpi is not None and orientation in (5, 6, 7, 8):  # lying on its side: across is down
        dpi = dpi[1], dpi[0]
    return Metadata(icc=info.get("icc_profile") or None, exif=exif, xmp=xmp, dpi=dpi), orientation or 1


def _exif_of(info: Mapping[Any, Any]) -> bytes | None:
    exif = info.get("exif")
    if exif is None and isinstance(text := info.get("Raw profile type exif"), str):
        try:  # as old versions of ImageMagick put it into a PNG: a name, a length, and hexadecimal lines
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            return None
    while isinstance(exif, bytes) and exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif if isinstance(exif, bytes) and exif else None


def _dpi_of(info: Mapping[Any, Any]) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    usable = all(math.isfinite(value) and 0 < value < 2**20 for value in (across, down))
    return (across, down) if usable else None


def _xmp_of(info: Mapping[Any, Any]) -> bytes | None:
    xmp = info.get("xmp", info.get("XML:com.adobe.xmp"))
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return xmp if isinstance(xmp, bytes) and xmp else None


# A property is an attribute (tiff:Orientation="6") or an element (<tiff:Orientation>6</tiff:Orientation>).
_NUMBER = rb"((?:%s)\s*(?:=\s*[\"']|>)\s*)(\d+)"
_XMP_ORIENTATION = re.compile(_NUMBER % rb"tiff:Orientation")
_XMP_WIDTH = re.compile(_NUMBER % rb"tiff:ImageWidth|exif:PixelXDimension")
_XMP_HEIGHT = re.compile(_NUMBER % rb"tiff:ImageLength|exif:PixelYDimension")
_XMP_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)


def _xmp_orientation(xmp: bytes) -> int | None:
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[2]) if found and found[2] in b"12345678" else None


def _xmp_upright(xmp: bytes) -> bytes:
    return _XMP_THUMBNAILS.sub(b"", _XMP_ORIENTATION.sub(rb"\g<1>1", xmp))


def _xmp_with_size(xmp: bytes, width: int, height: int) -> bytes:
    return _XMP_HEIGHT.sub(_becomes(height), _XMP_WIDTH.sub(_becomes(width), xmp))


def _becomes(value: int) -> Callable[[re.Match[bytes]], bytes]:
    return lambda found: found[1] + str(value).encode()
