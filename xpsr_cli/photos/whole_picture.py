"""Photos in formats that decoders only read as a whole: JPEG, WebP and AVIF.

The decoder's own memory holds the picture for a moment; it is copied into a spool band by band and given back.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import AvifImagePlugin, Image, JpegImagePlugin, WebPImagePlugin

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import formats
from xpsr_cli.photos.avif_boxes import AvifBoxes, read_boxes
from xpsr_cli.photos.formats import PhotoFormat
from xpsr_cli.photos.photo import Depth, Samples
from xpsr_cli.photos.spool import Spool
from xpsr_cli.photos.stored import MAX_WHOLE_PIXELS, SpooledPicture, StoredHeader, check_size

# Opened by class and not by ``Image.open``: the picture of a JPEG that carries further ones (camera previews, gain
# maps) is then a plain JPEG, and the size is judged here, before anything is decoded.
_OPEN: dict[str, Callable[[BinaryIO], Any]] = {
    formats.JPEG.name: JpegImagePlugin.JpegImageFile,
    formats.WEBP.name: WebPImagePlugin.WebPImageFile,
    formats.AVIF.name: AvifImagePlugin.AvifImageFile,
}
# Inks are what Pillow makes of them: every CMYK JPEG is taken to be inverted, as browsers take it too.
_COLOURS = {"L": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}
_BAND_ROWS = 64
_PILLOW = threading.RLock()


def open_whole(photo_format: PhotoFormat, path: Path, stream: BinaryIO, folder: Path | None) -> SpooledPicture:
    """The picture in a JPEG, WebP or AVIF file; refuses animations, HDR and what has too many pixels."""
    boxes = AvifBoxes()
    if photo_format is formats.AVIF:
        boxes = read_boxes(stream)
        if boxes.hdr:
            raise PhotoError(f"{path} is in HDR ({boxes.hdr}).", "Save it in standard dynamic range (SDR) first.")
    with pillow_as_decoder():
        image = _opened(photo_format, stream, path)
        width, height = image.size
        check_size(path, width, height, MAX_WHOLE_PIXELS)
        if (pictures := getattr(image, "n_frames", 1)) > 1:
            raise PhotoError(f"{path} is an animation of {pictures} pictures.", "Save the picture you want alone.")
        if image.mode not in _COLOURS:
            raise PhotoError(f"{path} has pixels of the kind {image.mode}.", "Save it as 8-bit RGB first.")
        header = StoredHeader(
            width,
            height,
            depth=Depth.U16 if boxes.bits > 8 else Depth.U8,
            colours=1 if boxes.grey else _COLOURS[image.mode],
            alpha=image.mode == "RGBA",
            metadata=_metadata(image, boxes),
        )
    if boxes.bits > 8:
        return SpooledPicture(header, partial(_decode_deep, stream, boxes.bits), folder)
    return SpooledPicture(header, partial(_decode, photo_format, stream, path), folder)


def _metadata(image: Any, boxes: AvifBoxes) -> dict[Any, Any]:
    info = dict(image.info)
    if comments := [data for marker, data in getattr(image, "applist", ()) if marker == "COM"]:
        info["comment"] = comments  # all of them; Pillow's own is the last one
    if boxes.cicp is not None and not info.get("icc_profile"):  # a profile says more
        info["png_colour"] = [(b"cICP", boxes.cicp)]
    return info


@contextmanager
def pillow_as_decoder() -> Iterator[None]:
    """Pillow without its own limit and without its warnings, which would reach the terminal."""
    with _PILLOW, warnings.catch_warnings():
        pixels, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pixels


def _opened(photo_format: PhotoFormat, stream: BinaryIO, path: Path) -> Any:
    stream.seek(0)
    try:
        return _OPEN[photo_format.name](stream)
    except SyntaxError as error:
        if "-bit layers" not in str(error):
            raise
        raise PhotoError(f"{path} is a JPEG of more than 8 bits.", "Save it as TIFF first.") from error


def _decode(photo_format: PhotoFormat, stream: BinaryIO, path: Path, spool: Spool) -> None:
    with pillow_as_decoder():
        image = _opened(photo_format, stream, path)
        image.load()
    height, width, channels = spool.shape
    if image.size != (width, height):
        raise ValueError(f"a picture of {image.size[0]} x {image.size[1]} pixels")
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        band = np.asarray(image.crop((0, top, width, bottom))).reshape(bottom - top, width, -1)
        spool.write(top, 0, _with_channels(band, channels))


def _decode_deep(stream: BinaryIO, bits: int, spool: Spool) -> None:
    """An AVIF of 10 or 12 bits, which Pillow would cut to 8, spread to 16 bits."""
    stream.seek(0)
    pixels: Samples = np.asarray(imagecodecs.avif_decode(stream.read()))
    height, width, channels = spool.shape
    if pixels.dtype != np.uint16 or pixels.shape[:2] != (height, width):
        raise ValueError(f"pixels of {pixels.dtype} {pixels.shape}")
    pixels = pixels.reshape(height, width, -1)
    for top in range(0, height, _BAND_ROWS):
        band = pixels[top : top + _BAND_ROWS] * np.float32(65535 / (2**bits - 1))
        spool.write(top, 0, _with_channels(np.rint(band).astype(np.uint16), channels))


def _with_channels(band: Samples, channels: int) -> Samples:
    """A grey picture that a decoder gives as red, green and blue, as the one channel it is, or with its alpha."""
    if channels <= 2 < band.shape[2]:
        band = band[..., :: 3 if channels == 2 else band.shape[2]]
    if band.shape[2] != channels:
        raise ValueError(f"{band.shape[2]} channels")
    return band
