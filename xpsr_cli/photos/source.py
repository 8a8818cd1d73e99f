"""Reading photos: what a file is, whether it can be taken as it is, and its upright pixels."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import exif, formats
from xpsr_cli.photos.formats import PhotoFormat, reason
from xpsr_cli.photos.ifd import Field, Layout, read_directory, read_header
from xpsr_cli.photos.metadata import read_metadata
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import MIN_SIDE_PX

MAX_INPUT_PIXELS = 2**28
"""Most pixels an input may have: 268 million, 768 MiB once decoded."""

# Opened by class and not by ``Image.open``: the picture of a JPEG that carries further ones (camera previews, gain
# maps) is then a plain JPEG, and the size is judged here, before anything is decoded.
_OPEN: dict[str, Callable[[BinaryIO], Any]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "YCbCr"})

# What brings a picture stored with an EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_photo(path: str | Path) -> Photo:
    """The photo in a PNG, JPEG, WebP or TIFF file, told by its content whatever its name.

    Returns 8-bit RGB pixels, turned upright, with transparency and metadata. Grey and palette files become RGB.
    Whatever cannot be read without loss (more than 8 bits, CMYK, several pictures) and whatever is no photo is one
    :class:`PhotoError` that names the file.
    """
    path = Path(path)
    photo_format = _identify(path)
    try:
        with _pillow_as_decoder(), path.open("rb") as stream:
            return _read(path, photo_format, stream)
    except (PhotoError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise PhotoError(
            f"{path} is damaged or cut short: {reason(error)}.", "Copy or download it again, or open and save it anew."
        ) from error


def _identify(path: Path) -> PhotoFormat:
    try:
        if path.is_dir():
            raise PhotoError(f"{path} is a folder, not a photo.", "Name the photos in it.")
        if not path.exists():
            raise PhotoError(f"{path} does not exist.", "Check the name and the folder.")
        if not path.is_file():
            raise PhotoError(f"{path} is no regular file.", "Save the photo to a file first.")
        with path.open("rb") as stream:
            head = stream.read(16)
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be opened: {reason(error)}.", "Check its permissions.") from error
    if not head:
        raise PhotoError(f"{path} is empty (0 bytes).", "Copy or download it again.")
    photo_format = formats.identify(head)
    if photo_format is None:
        kind = formats.other_kind(head)
        what = f"{path} is {kind} file" if kind else f"{path} is not a photo"
        raise PhotoError(f"{what}, as its first bytes show.", f"Give {formats.FORMAT_NAMES} files.")
    return photo_format


@contextmanager
def _pillow_as_decoder() -> Iterator[None]:
    """Pillow without its own opinion on large pictures and without its warnings, which would reach the terminal."""
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _read(path: Path, photo_format: PhotoFormat, stream: BinaryIO) -> Photo:
    orientation = block = None
    if photo_format is formats.PNG:
        _check_png_header(path, stream)
    elif photo_format is formats.TIFF:
        layout, fields = _tiff_page(path, stream)
        _check_tiff_page(path, layout, fields)
        orientation, block = exif.orientation_of(fields, layout), exif.from_tiff(stream, fields, layout)
    stream.seek(0)
    image = _OPEN[photo_format.name](stream)
    _check_size(path, *image.size)
    if photo_format is not formats.TIFF and getattr(image, "n_frames", 1) > 1:
        raise PhotoError(f"{path} is an animation of {image.n_frames} pictures.", "Save the picture you want alone.")
    if image.mode == "CMYK":
        raise PhotoError(
            f"{path} is in CMYK, the colours of print.", "Convert it to RGB with its colour profile first."
        )
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise PhotoError(f"{path} has pixels of the kind {image.mode}.", "Save it as 8-bit RGB first.")
    image.load()
    metadata, orientation = read_metadata({**image.info, "exif": block or image.info.get("exif")}, orientation)
    grey = image.mode in _GREY_MODES
    if photo_format is not formats.TIFF and orientation in _TURNS:  # Pillow turns TIFF itself
        image = image.transpose(_TURNS[orientation])
    pixels, alpha = _arrays(image)
    return Photo(pixels, alpha, metadata, name=path.name, grey=grey, path=path)


def _arrays(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (H, W, 3) and, where the image has transparency of any kind, alpha (H, W)."""
    if image.mode == "La":
        image = image.convert("LA")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
    return np.array(image.convert("RGB")), None


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_INPUT_PIXELS:
        raise PhotoError(
            f"{path} has {width} x {height} = {width * height} pixels, and {MAX_INPUT_PIXELS} is the limit.",
            "Cut it into parts first.",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise PhotoError(
            f"{path} is {width} x {height} pixels, and no side may be below {MIN_SIDE_PX}.", "Use a larger photo."
        )


def _check_depth(path: Path, bits: int, kind: str = "") -> None:
    if bits > 8 or kind:
        raise PhotoError(
            f"{path} has {bits}-bit {kind}samples, and only 8-bit photos can be read.", "Save it with 8 bits first."
        )


def _check_png_header(path: Path, stream: BinaryIO) -> None:
    """Judge size and depth by the first chunk: Pillow would make 16 bits 8 without a word."""
    stream.seek(8)
    _, kind, width, height, bits = struct.unpack(">I4sIIB", stream.read(17))
    if kind != b"IHDR":
        raise ValueError("the first chunk is no header")
    _check_size(path, width, height)
    _check_depth(path, bits)


_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES = 254, 256, 257, 258, 262, 277
_EXTRA, _SAMPLE_FORMAT, _DNG = 338, 339, 50706
_REDUCED, _MASK = 1, 4  # bits of the subfile type
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of extra samples that are transparency
_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # of colour, by photometric interpretation


def _tiff_page(path: Path, stream: BinaryIO) -> tuple[Layout, list[Field]]:
    """The directory of the only picture in a TIFF file (smaller copies and masks behind it do not count)."""
    layout, offset = read_header(stream)
    page: list[Field] = []
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        fields, offset = read_directory(stream, layout, offset)
        full = not (_number(fields, layout, _SUBFILE) & (_REDUCED | _MASK))
        if not page and (not full or any(field.tag == _DNG for field in fields)):
            raise PhotoError(f"{path} is a camera's raw file.", "Develop it to an 8-bit TIFF, PNG or JPEG first.")
        if page and full:
            raise PhotoError(f"{path} holds several pictures (pages).", "Save the page you want alone.")
        page = page or fields
    return layout, page


def _check_tiff_page(path: Path, layout: Layout, fields: list[Field]) -> None:
    """Judge size, depth and channels by the page's tags."""
    _check_size(path, _number(fields, layout, _WIDTH), _number(fields, layout, _HEIGHT))
    sample_format = _number(fields, layout, _SAMPLE_FORMAT, 1)
    _check_depth(path, _number(fields, layout, _BITS, 1), {2: "signed ", 3: "float "}.get(sample_format, ""))
    channels = _CHANNELS.get(_number(fields, layout, _PHOTOMETRIC, 1))
    if channels is None:
        return  # named by its mode later
    extra = _number(fields, layout, _SAMPLES, 1) - channels
    if extra > 1 or (extra == 1 and _number(fields, layout, _EXTRA) not in (_PREMULTIPLIED, _STRAIGHT)):
        raise PhotoError(
            f"{path} has {extra} channel(s) beyond its colours that are not declared to be transparency.",
            "Save it as RGB, or with one alpha channel.",
        )


def _number(fields: list[Field], layout: Layout, tag: int, default: int = 0) -> int:
    """The largest value of a tag, ``default`` where the directory does not have it."""
    return max((value for field in fields if field.tag == tag for value in field.numbers(layout)), default=default)
