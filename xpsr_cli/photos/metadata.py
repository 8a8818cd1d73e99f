"""What travels with the pixels: colour profile, EXIF, XMP, IPTC, texts and resolution.

The networks work on a photo's own encoded values, and its profile goes out byte for byte: photos of wide gamuts are
not converted to sRGB, which would clip their colours. Only inks are converted (:mod:`xpsr_cli.photos.cmyk`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import exif as exif_block
from xpsr_cli.photos import formats, xmp_size
from xpsr_cli.photos import xmp as xmp_packet
from xpsr_cli.photos.formats import FORMATS, PhotoFormat
from xpsr_cli.photos.iptc import iptc_of, raw_profile
from xpsr_cli.photos.texts import MANIFEST, texts_of, to_comment


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
            xmp=xmp_size.with_size(self.xmp, width, height) if self.xmp else None,
        )

    def for_output(self, photo_format: PhotoFormat, width: int, height: int, *, grey: bool = False) -> Metadata:
        """What goes into a file of ``photo_format`` with a picture of this size, and only what that format holds.

        Tags that state the size are corrected. Texts and resolution go into XMP where the format has no place for
        them; the manifest of :mod:`xpsr_cli.photos.provenance` leaves an XMP packet that is too long with it, if it is
        a text too. Colours that a PNG describes without a profile get one; ``grey`` says that the file will have one
        channel. :class:`PhotoError` names the formats that hold what this one cannot.
        """
        if self.iptc and not photo_format.holds_iptc:
            _refuse(photo_format, "the IPTC data of this photo", [f for f in FORMATS if f.holds_iptc])
        kept = self.for_size(width, height)
        if not photo_format.holds_texts:
            kept = replace(kept, xmp=kept._xmp_with_texts(photo_format), texts=())
        elif any(len(to_comment(text)) > (photo_format.max_text_bytes or math.inf) for text in kept.texts):
            _refuse(photo_format, "texts as long as this photo's", [formats.PNG, formats.TIFF])
        if kept.dpi is not None and not photo_format.holds_dpi:
            kept = replace(kept, xmp=xmp_packet.with_resolution(kept.xmp, kept.dpi) or kept.xmp, dpi=None)
        if len(kept.xmp or b"") > (photo_format.max_xmp_bytes or math.inf) and MANIFEST in dict(kept.texts):
            kept = replace(kept, xmp=xmp_packet.with_properties(kept.xmp, {xmp_packet.MANIFEST: None}) or kept.xmp)
        if photo_format is not formats.PNG and self.png_colour:
            from xpsr_cli.photos.png_colour import profile_of

            made = profile_of(self.png_colour, grey=grey) if self.icc is None or self.hdr else None
            kept = replace(kept, icc=self.icc or made, png_colour=())
        return kept

    def only_profile(self) -> Metadata:
        """What says how the values are to be seen, and nothing else."""
        return Metadata(icc=self.icc, png_colour=self.png_colour)

    def _xmp_with_texts(self, photo_format: PhotoFormat) -> bytes | None:
        texts = [text for text in self.texts if text[0] != MANIFEST]  # which XMP has in a place of its own
        if not texts:
            return self.xmp
        packet = xmp_packet.with_texts(self.xmp, texts)
        if packet is None:
            what = "the texts of this photo, as its XMP is damaged and takes nothing more"
            _refuse(photo_format, what, [f for f in FORMATS if f.holds_texts])
        return packet

    @property
    def hdr(self) -> bool:
        """Whether a PNG says that its values are brighter than paper (PQ or HLG)."""
        from xpsr_cli.photos.png_colour import is_hdr

        return is_hdr(self.png_colour)

    @property
    def grey_profile(self) -> bool:
        """Whether the colour profile describes grey, so that it fits no picture with three channels."""
        return self.icc is not None and self.icc[16:20] == b"GRAY"  # ICC.1:2022, 7.2.6: data colour space


def read_metadata(info: Mapping[Any, Any], orientation: int | None = None) -> tuple[Metadata, int]:
    """Metadata from a Pillow image's ``info``, and the orientation (1 to 8) in which the file stores the pixels.

    Beyond what Pillow puts there, ``info`` may have ``iptc`` (IIM records, bare or in Photoshop resources),
    ``photoshop`` (resources by number), ``texts`` (pairs of keyword and text), ``comment`` (one or several) and
    ``png_colour`` (pairs of chunk type and data). ``orientation`` is that of a format which keeps it outside of EXIF.
    An EXIF block that makes no sense is left out. As in Pillow, an orientation in XMP counts where EXIF has none.
    """
    exif, xmp, iptc = _exif_of(info), _xmp_of(info), iptc_of(info)
    dpi = _dpi_of(info.get("dpi") or (xmp and xmp_packet.resolution(xmp)))
    if exif is not None:
        try:
            orientation = orientation or exif_block.orientation(exif)
            iptc = iptc or iptc_of({"iptc": exif_block.iptc(exif)})
            exif = exif_block.upright(exif)
        except exif_block.DAMAGED:
            exif = None
    if xmp is not None:
        orientation = orientation or xmp_size.orientation(xmp)
        xmp = xmp_size.upright(xmp)
    if dpi is not None and orientation in (5, 6, 7, 8):  # lying on its side: across is down
        dpi = dpi[1], dpi[0]
    icc = info.get("icc_profile") or None
    metadata = Metadata(icc, exif, xmp, iptc, dpi, texts_of(info), _png_colour_of(info, icc))
    return metadata, orientation or 1


def _png_colour_of(info: Mapping[Any, Any], icc: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """The chunks that count: beside a profile those that go before it or add to it (PNG, third edition, 11.3.2)."""
    chunks = tuple((bytes(kind), bytes(data)) for kind, data in info.get("png_colour") or ())
    return tuple(chunk for chunk in chunks if icc is None or chunk[0] not in (b"gAMA", b"cHRM", b"sRGB"))


def _exif_of(info: Mapping[Any, Any]) -> bytes | None:
    exif = info.get("exif")
    if exif is None and isinstance(text := info.get("Raw profile type exif"), str):
        exif = raw_profile(text)  # as old versions of ImageMagick put it into a PNG
    while isinstance(exif, bytes) and exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif if isinstance(exif, bytes) and exif else None


def _dpi_of(given: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in given)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    usable = all(math.isfinite(value) and 0 < value < 2**20 for value in (across, down))
    return (across, down) if usable else None


def _xmp_of(info: Mapping[Any, Any]) -> bytes | None:
    xmp = info.get("xmp", info.get("XML:com.adobe.xmp"))
    if xmp is None and isinstance(text := info.get("Raw profile type xmp"), str):
        xmp = raw_profile(text)
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return xmp if isinstance(xmp, bytes) and xmp else None


def _refuse(photo_format: PhotoFormat, what: str, others: Sequence[PhotoFormat]) -> NoReturn:
    names = " or ".join(f"{f.name} ({f.extensions[0]})" for f in others)
    raise PhotoError(f"{photo_format.name} cannot hold {what}.", f"Use {names}, or --no-metadata.")
