"""Writing photos: what a format cannot hold is said before the work, and a file is whole or absent."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, PngImagePlugin

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos import formats
from xpsr_cli.photos.formats import PhotoFormat, format_of_output, reason
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.tiff import write_tiff

JPEG_QUALITY = 95
"""Quality of a JPEG when none is named; colour is never subsampled (4:4:4)."""
_LOSSY = (formats.JPEG, formats.WEBP)


def check_output(
    path: str | Path,
    size: tuple[int, int],
    photo: Photo,
    *,
    quality: int | None = None,
    allow_input: bool = False,
) -> None:
    """Raise, before any work, what would keep :func:`write_photo` from writing ``photo`` at ``size`` to ``path``.

    ``size`` is ``(width, height)`` of the result in pixels; ``photo`` is the input (its transparency, metadata and
    ``path`` count). A result over the input file is refused unless ``allow_input``. :class:`PhotoError` names the
    formats that can hold what this one cannot; :class:`UsageError` is for ``quality`` and for the input itself.
    """
    path = Path(path)
    photo_format = format_of_output(path)
    _check_quality(photo_format, quality)
    _check_holds(photo_format, path, size, photo)
    _check_place(path, photo, allow_input)


def write_photo(photo: Photo, path: str | Path, *, quality: int | None = None) -> None:
    """Write the photo in the format that the extension of ``path`` names, whole or not at all.

    PNG and TIFF (deflate) are lossless. WebP is lossless too unless a ``quality`` (1 to 100) is named, which makes it
    lossy. JPEG takes ``quality`` 95 by default and is never subsampled. The colour profile goes in byte for byte;
    EXIF, XMP and resolution with the size tags corrected. Grey photos are written grey where the format can.

    An existing file is replaced in one step. Raises :class:`PhotoError`, and :class:`UsageError` for ``quality``.
    """
    path = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
    photo_format = format_of_output(path)
    _check_quality(photo_format, quality)
    _check_holds(photo_format, path, photo.size, photo)
    metadata = photo.metadata.for_size(*photo.size)
    with _whole_or_absent(path) as stream:
        if photo_format is formats.TIFF:
            write_tiff(_channels(photo, photo_format), metadata, stream)
        else:
            _write_with_pillow(photo, metadata, photo_format, quality, stream)


def _check_quality(photo_format: PhotoFormat, quality: int | None) -> None:
    if quality is None:
        return
    if photo_format not in _LOSSY:
        raise UsageError(f"quality is {quality}, but {photo_format.name} is lossless.", "Leave it out, or write .jpg.")
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is {quality}, allowed is 1 to 100.", f"Try {JPEG_QUALITY}.")


def _check_holds(photo_format: PhotoFormat, path: Path, size: tuple[int, int], photo: Photo) -> None:
    metadata = photo.metadata
    limits = (
        (
            max(size) > photo_format.max_side_px,
            f"sides above {photo_format.max_side_px} pixels, and this would be {size[0]} x {size[1]}",
            [f for f in formats.FORMATS if max(size) <= f.max_side_px],
        ),
        (
            not photo_format.holds_alpha and photo.transparent(),
            "the transparency of this photo",
            [f for f in formats.FORMATS if f.holds_alpha],
        ),
        (
            not photo_format.holds_grey and photo.grey and metadata.grey_profile,
            "a grey photo with its grey colour profile",
            [f for f in formats.FORMATS if f.holds_grey],
        ),
        (
            _exceeds(metadata.exif, photo_format.max_exif_bytes) or _exceeds(metadata.xmp, photo_format.max_xmp_bytes),
            "as much EXIF or XMP as this photo has",
            [f for f in formats.FORMATS if f.max_exif_bytes is None],
        ),
    )
    for beyond, what, others in limits:
        if beyond:
            names = " or ".join(f"{f.name} ({f.extensions[0]})" for f in others)
            raise PhotoError(f"{path} cannot be written: {photo_format.name} cannot hold {what}.", f"Use {names}.")


def _exceeds(data: bytes | None, limit: int | None) -> bool:
    return data is not None and limit is not None and len(data) > limit


def _check_place(path: Path, photo: Photo, allow_input: bool) -> None:
    try:
        folder = Path(os.path.realpath(path)).parent
        if path.is_dir():
            raise PhotoError(f"{path} is a folder, so no photo can be written to it.", "Name a file in it.")
        if path.exists() and not path.is_file():
            raise PhotoError(f"{path} is no regular file, so no photo can be written to it.", "Name a file.")
        if not allow_input and photo.path is not None and path.exists() and path.samefile(photo.path):
            raise UsageError(f"{path} is the input itself and would be overwritten.", "Name another output.")
        if not folder.is_dir():
            raise PhotoError(f"{path} cannot be written: there is no folder {folder}.", "Make the folder first.")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be written: {reason(error)}.", "Choose a folder you may write to.") from error


@contextmanager
def _whole_or_absent(path: Path) -> Iterator[BinaryIO]:
    """A file that stands at ``path`` once the block is done, and of which nothing is left when it fails."""
    temporary = path.parent / f".xpsr-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("x+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (PhotoError, MemoryError):
        raise
    except Exception as error:  # encoders raise anything
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "Make room on the disk." if full else "Check the folder, or write another format."
        raise PhotoError(f"{path} could not be written: {reason(error)}.", hint) from error
    finally:
        with suppress(OSError):  # already gone after the replacement
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_with_pillow(
    photo: Photo, metadata: Metadata, photo_format: PhotoFormat, quality: int | None, stream: BinaryIO
) -> None:
    options: dict[str, Any] = {
        "icc_profile": metadata.icc,
        "exif": metadata.exif and b"Exif\0\0" + metadata.exif,
        "dpi": metadata.dpi,
    }
    if photo_format is formats.PNG:
        if metadata.xmp is not None:
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    elif photo_format is formats.JPEG:
        options |= {"xmp": metadata.xmp, "quality": quality or JPEG_QUALITY, "subsampling": 0}
        options["dpi"] = metadata.dpi and tuple(min(max(round(value), 1), 65535) for value in metadata.dpi)
    else:
        options |= {"xmp": metadata.xmp, "lossless": quality is None, "exact": True}
        options |= {"quality": quality} if quality is not None else {}
    given = {name: value for name, value in options.items() if value is not None}
    image = Image.fromarray(_channels(photo, photo_format))
    image.save(cast("BinaryIO", _WithoutDescriptor(stream)), photo_format.name, **given)


class _WithoutDescriptor:
    """A file that hides its descriptor, to which Pillow would write without noticing that a full disk took a part."""

    def __init__(self, stream: BinaryIO) -> None:
        self.write = stream.write
        self.flush = stream.flush


def _channels(photo: Photo, photo_format: PhotoFormat) -> np.ndarray:
    """The pixels as the file holds them: (H, W) grey, (H, W, 2) with alpha, (H, W, 3) or (H, W, 4) in colour."""
    grey = photo.grey and photo_format.holds_grey
    alpha = photo.alpha if photo_format.holds_alpha else None  # only an opaque one ever gets lost here
    # Pillow's weights add up to one exactly, so three equal channels give that same value.
    colour = np.asarray(Image.fromarray(photo.pixels).convert("L")) if grey else photo.pixels
    return colour if alpha is None else np.dstack([colour, alpha])
