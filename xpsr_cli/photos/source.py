"""Reading photos: what a file is, whether it can be taken as it is, and its upright pixels."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import exif, formats, tiff
from xpsr_cli.photos.formats import PhotoFormat, reason
from xpsr_cli.photos.metadata import Metadata, read_metadata
from xpsr_cli.photos.photo import Photo, Pixels
from xpsr_cli.settings import MIN_SIDE_PX

MAX_INPUT_PIXELS = 2**28
"""Most pixels an input may have: 268 million, 768 MiB once decoded."""

# Opened by class and not by ``Image.open``: the picture of a JPEG that carries further ones (camera previews, gain
# maps) is then a plain JPEG, and the size is judged here, before anything is decoded.
_OPEN: dict[str, Callable[[BinaryIO], Any]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "RGB", "RGBA"})

# What brings a picture that is stored with an EXIF orientation upright, as (H, W) or (H, W, C).
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
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
    """Pillow without its own limits and without its warnings, which would reach the terminal."""
    pixels, text = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # profiles and XMP above 1 MiB are real
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pixels, text


def _read(path: Path, photo_format: PhotoFormat, stream: BinaryIO) -> Photo:
    if photo_format is formats.TIFF:
        return _read_tiff(path, stream)
    if photo_format is formats.PNG:
        _check_png_header(path, stream)
    stream.seek(0)
    image = _OPEN[photo_format.name](stream)
    _check_size(path, *image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise PhotoError(f"{path} is an animation of {image.n_frames} pictures.", "Save the picture you want alone.")
    if image.mode == "CMYK":
        raise PhotoError(f"{path} is in CMYK, the colours of print.", "Convert it to RGB with its profile first.")
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise PhotoError(f"{path} has pixels of the kind {image.mode}.", "Save it as 8-bit RGB first.")
    image.load()
    metadata, orientation = read_metadata(image.info)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        pixels, alpha = rgba[..., :3], rgba[..., 3]
    else:
        pixels, alpha = np.array(image.convert("RGB")), None
    return _upright(path, pixels, alpha, metadata, orientation, image.mode in _GREY_MODES)


def _read_tiff(path: Path, stream: BinaryIO) -> Photo:
    page = tiff.read_page(path, stream)
    tiff.check_page(path, page, partial(_check_size, path), partial(_check_depth, path))
    stored = exif.orientation_of(page.fields, page.layout)
    metadata, orientation = read_metadata(tiff.tiff_info(page, stream), stored)
    pixels, alpha = tiff.decode_page(page, stream)
    return _upright(path, pixels, alpha, metadata, orientation, tiff.is_grey(page))


def _upright(
    path: Path, pixels: Pixels, alpha: Pixels | None, metadata: Metadata, orientation: int, grey: bool
) -> Photo:
    turn = _TURNS[orientation]
    return Photo(
        np.ascontiguousarray(turn(pixels)),
        None if alpha is None else np.ascontiguousarray(turn(alpha)),
        metadata,
        name=path.name,
        grey=grey,
        path=path,
    )


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


def _check_depth(path: Path, bits: int, kind: str) -> None:
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
    _check_depth(path, bits, "")
