"""Pictures as a web page holds them: the bytes of the file where browsers show it rightly, else made into a PNG.

Browsers know neither TIFF nor the profile of a photo's inks, some take no orientation from a PNG, and none of them
stays usable with hundreds of megapixels. What is made for a page is upright 8-bit sRGB, and says that it was made.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from xpsr_cli.evaluation.screen_colours import ScreenColours
from xpsr_cli.photos import formats
from xpsr_cli.photos.formats import PhotoFormat, identify
from xpsr_cli.photos.photo import Depth, PhotoInfo, PhotoSource, Pixels
from xpsr_cli.photos.source import open_photo

MAX_PIXELS = 40_000_000
"""Most pixels of a picture on a page; larger ones are reduced."""
MAX_SIDE_PX = 16384
"""Longest side of a picture on a page: beyond it browsers refuse to calculate with pictures."""
MAX_FILE_BYTES = 64 * 2**20
"""Longest file that is taken into a page as it is."""

_TYPES = {formats.PNG: "image/png", formats.JPEG: "image/jpeg", formats.WEBP: "image/webp"}
_ORIENTATION = 0x0112
_BAND_PIXELS = 2**21


@dataclass(frozen=True)
class PagePicture:
    """A picture that a page can hold.

    ``data`` is a file of ``media_type``; ``width`` and ``height`` are those of the upright picture as shown, in
    pixels, and ``original_size`` those of the photo it was made of. ``change`` says in a few words what was done to
    it for the page; it is empty where ``data`` is the photo's own file.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    original_size: tuple[int, int]
    change: str = ""

    @property
    def uri(self) -> str:
        """The picture as an address that holds it."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"


def page_picture(source: PagePicture | bytes | Path | Pixels) -> PagePicture:
    """A picture for a page.

    ``source`` is a photo file of any kind that can be read, the bytes of a PNG, JPEG or WebP file, or (H, W, 3) uint8
    in sRGB. :class:`~xpsr_cli.errors.PhotoError` for a file that cannot be read, ``ValueError`` for other bytes.
    """
    if isinstance(source, PagePicture):
        return source
    if isinstance(source, bytes):
        return _of_bytes(source)
    if isinstance(source, Path):
        with open_photo(source) as photo:
            return picture_of_photo(photo)
    return PagePicture(encode_png(source), "image/png", source.shape[1], source.shape[0], source.shape[1::-1])


def picture_of_photo(photo: PhotoSource) -> PagePicture:
    """The picture of a photo that is open; see :func:`page_picture`."""
    info = photo.info
    size = size_on_page(*info.size)
    if size == info.size and info.path is not None and (media_type := _shown_by_browsers(info, info.path)):
        return PagePicture(info.path.read_bytes(), media_type, *info.size, info.size)
    pixels = _reduced(photo, size)
    kind = "inks" if info.cmyk else {Depth.U16: "16 bits", Depth.FLOAT: "32-bit float"}.get(info.depth)
    change = f"converted from {kind} to 8-bit sRGB" if kind else "converted to 8-bit sRGB"
    if size != info.size:
        change = f"reduced to {size[0]} x {size[1]} pixels, {change}"
    return PagePicture(encode_png(pixels), "image/png", *size, info.size, change)


def screen_bands(photo: PhotoSource, height: int) -> Iterator[Pixels]:
    """A photo from top to bottom as a screen shows it: (at most ``height``, W, 3 or 4) uint8 in sRGB."""
    colours = ScreenColours(photo.info)
    for top in range(0, photo.info.height, height):
        rows = min(height, photo.info.height - top)
        yield colours.convert(photo.read(top, 0, rows, photo.info.width))


def band_rows(info: PhotoInfo) -> int:
    """Rows of a photo that are worked on at a time."""
    return max(1, _BAND_PIXELS // info.width)


def size_on_page(width: int, height: int) -> tuple[int, int]:
    """The size, in pixels, in which a page shows a picture: its own, or the largest that browsers take well."""
    shrink = _shrink(width, height)
    return max(1, int(width / shrink)), max(1, int(height / shrink))


def _shrink(width: int, height: int) -> float:
    return max(math.sqrt(width * height / MAX_PIXELS), max(width, height) / MAX_SIDE_PX, 1.0)


def encode_png(pixels: Pixels) -> bytes:
    """(H, W, 3 or 4) uint8 as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _of_bytes(data: bytes) -> PagePicture:
    media_type = _TYPES.get(kind) if (kind := identify(data[:16])) else None
    if media_type is None:
        raise ValueError("these bytes are no PNG, JPEG or WebP file")
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) > 4:  # it lies on its side
            width, height = height, width
    return PagePicture(data, media_type, width, height, (width, height))


def _shown_by_browsers(info: PhotoInfo, path: Path) -> str | None:
    """The media type of a file that browsers show upright and in its colours; ``None`` for any other."""
    with path.open("rb") as stream:
        kind = identify(stream.read(16))
    if kind not in _TYPES or path.stat().st_size > MAX_FILE_BYTES:
        return None
    described = any(chunk == b"cICP" for chunk, _ in info.metadata.png_colour)
    if info.cmyk or info.metadata.grey_profile or described and not info.metadata.hdr:
        return None
    return _TYPES[kind] if _upright_in_browsers(path, kind) else None


def _upright_in_browsers(path: Path, kind: PhotoFormat) -> bool:
    """Whether a file is stored upright, or is a JPEG that says in its EXIF how it is to be turned."""
    with Image.open(path) as image:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        if not turned:
            return True
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
    return kind is formats.JPEG and exif.get(_ORIENTATION, 1) != 1


def _reduced(photo: PhotoSource, size: tuple[int, int]) -> Pixels:
    """The photo as a screen shows it: means of whole blocks where it is much larger, then Pillow for the rest."""
    info = photo.info
    step = int(_shrink(*info.size))
    bands = screen_bands(photo, max(1, band_rows(info) // step) * step)
    if step == 1:
        pixels = np.concatenate(list(bands))
    else:
        pixels = np.concatenate([np.asarray(Image.fromarray(band).reduce(step)) for band in bands])
    if size == info.size:
        return pixels
    covered = 0, 0, info.width / step, info.height / step  # the last blocks of a row and a column may not be whole
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX, covered))
