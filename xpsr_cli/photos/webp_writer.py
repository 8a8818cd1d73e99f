"""WebP files, whose codec wants the picture as a whole: at most 16383 x 16383 pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, cast

from PIL import Image

from xpsr_cli.photos.photo import PhotoInfo, Samples


def write_webp(rows: Iterable[Samples], info: PhotoInfo, stream: BinaryIO, *, quality: int | None) -> None:
    """Write a WebP, lossless unless a ``quality`` (1 to 100) is named.

    ``rows`` are (h, width, 3) or with alpha (h, width, 4) uint8 from top to bottom; ``info`` is what the file holds,
    its metadata included.
    """
    image = Image.new("RGBA" if info.alpha else "RGB", info.size)
    filled = 0
    for group in rows:
        image.paste(Image.fromarray(group), (0, filled))
        filled += len(group)
    metadata = info.metadata
    options: dict[str, Any] = {
        "icc_profile": metadata.icc,
        "exif": metadata.exif and b"Exif\0\0" + metadata.exif,
        "xmp": metadata.xmp,
        "quality": quality,
    }
    given = {name: value for name, value in options.items() if value is not None}
    image.save(cast("BinaryIO", _WithoutDescriptor(stream)), "WebP", lossless=quality is None, exact=True, **given)


class _WithoutDescriptor:
    """A file that hides its descriptor, to which Pillow would write without noticing that a full disk took a part."""

    def __init__(self, stream: BinaryIO) -> None:
        self.write = stream.write
        self.flush = stream.flush
