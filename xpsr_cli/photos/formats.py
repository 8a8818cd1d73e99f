"""The file formats of photos: their extensions, their signatures, and what each can hold. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xpsr_cli.errors import PhotoError


@dataclass(frozen=True)
class PhotoFormat:
    """What a format is called and the limits that decide whether a photo fits in it."""

    name: str
    extensions: tuple[str, ...]  # the first one is the usual one
    max_side_px: int
    max_bits: int = 16  # bits per channel
    holds_alpha: bool = True
    holds_grey: bool = True
    holds_cmyk: bool = False
    holds_iptc: bool = True
    holds_dpi: bool = True
    holds_texts: bool = False  # keywords with texts, or comments
    max_exif_bytes: int | None = None  # None: no limit that a photo reaches
    max_xmp_bytes: int | None = None
    max_iptc_bytes: int | None = None
    max_text_bytes: int | None = None


_SEGMENT = 65533  # bytes that one JPEG segment holds

PNG = PhotoFormat("PNG", (".png",), 2**31 - 1, holds_texts=True)
JPEG = PhotoFormat(
    "JPEG",
    (".jpg", ".jpeg"),
    65535,
    max_bits=8,
    holds_alpha=False,
    holds_cmyk=True,
    holds_texts=True,
    max_exif_bytes=_SEGMENT - 6,  # "Exif\0\0"
    max_xmp_bytes=_SEGMENT - 29,  # the name of XMP
    max_iptc_bytes=_SEGMENT - 14 - 12 - 1,  # "Photoshop 3.0\0", the head of a resource, and a byte to make it even
    max_text_bytes=_SEGMENT,
)
WEBP = PhotoFormat("WebP", (".webp",), 16383, max_bits=8, holds_grey=False, holds_iptc=False, holds_dpi=False)
TIFF = PhotoFormat("TIFF", (".tif", ".tiff"), 2**31 - 1, holds_cmyk=True)
AVIF = PhotoFormat("AVIF", (".avif",), 65536, max_bits=12)
FORMATS = (PNG, JPEG, WEBP, TIFF)
"""What results can be written in."""
INPUT_FORMATS = (*FORMATS, AVIF)
"""What photos can be read from."""

EXTENSIONS = tuple(extension for photo_format in INPUT_FORMATS for extension in photo_format.extensions)
"""Of photos that can be read."""
OUTPUT_EXTENSIONS = tuple(extension for photo_format in FORMATS for extension in photo_format.extensions)
FORMAT_NAMES = "PNG, JPEG, WebP, AVIF and TIFF"
"""Of photos that can be read, for sentences."""

_OTHER_SIGNATURES = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"8BPS", "a Photoshop"),
    (0, b"%PDF", "a PDF"),
    (4, b"ftypheic", "a HEIC"),
    (4, b"ftypheix", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"JXL ", "a JPEG XL"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"v/1\x01", "an OpenEXR"),
)


def identify(head: bytes) -> PhotoFormat | None:
    """The format of a file by its first 16 bytes; ``None`` for every other kind of file."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TIFF
    if head[4:].startswith((b"ftypavif", b"ftypavis")):  # a picture, a sequence of them
        return AVIF
    return None


def other_kind(head: bytes) -> str | None:
    """What a file that :func:`identify` does not know probably is, such as ``"a GIF"``."""
    for offset, signature, kind in _OTHER_SIGNATURES:
        if head[offset:].startswith(signature):
            return kind
    return None


def format_of_output(path: Path) -> PhotoFormat:
    """The format that the extension of ``path`` asks for; :class:`PhotoError` lists those that can be written."""
    for photo_format in FORMATS:
        if path.suffix.lower() in photo_format.extensions:
            return photo_format
    kind = f"in a {path.suffix} format" if path.suffix else "without a format, as its name has no extension"
    raise PhotoError(f"{path} cannot be written {kind}.", f"Use one of {', '.join(OUTPUT_EXTENSIONS)}.")


def reason(error: BaseException) -> str:
    """What the system or a codec says of a failure, as the end of a sentence."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
