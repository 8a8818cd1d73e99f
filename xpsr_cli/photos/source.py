"""Reading photos: what a file is, whether it can be taken as it is, and any window of its upright pixels."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import formats, png_chunks
from xpsr_cli.photos.cmyk import CmykProfile
from xpsr_cli.photos.formats import PhotoFormat, reason
from xpsr_cli.photos.metadata import Metadata, read_metadata
from xpsr_cli.photos.photo import Depth, Photo, PhotoInfo, PhotoSource, Region, Samples, to_01
from xpsr_cli.photos.png_chunks import PngHeader
from xpsr_cli.photos.png_rows import MAX_WIDTH, colours_and_alpha, decode_png
from xpsr_cli.photos.stored import MAX_STREAMED_PIXELS, SpooledPicture, StoredHeader, StoredPicture, check_size
from xpsr_cli.photos.tiff_picture import open_tiff
from xpsr_cli.photos.whole_picture import open_whole
from xpsr_cli.settings import MIN_SIDE_PX

_BAND_SAMPLES = 2**22

# What brings a picture that is stored with an EXIF orientation upright, as (H, W) or (H, W, C).
_TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
_SIDEWAYS = frozenset({5, 6, 7, 8})  # rows of the file are columns of the upright picture
_ROWS_REVERSED, _COLUMNS_REVERSED = frozenset({3, 4, 6, 7}), frozenset({2, 3, 7, 8})


def open_photo(path: str | Path, *, spool_folder: Path | None = None, least_side_px: int = MIN_SIDE_PX) -> PhotoSource:
    """The photo in a PNG, JPEG, WebP, AVIF or TIFF file, told by its content whatever its name.

    Only the header is read now; windows of the upright picture are decoded when they are asked for. What cannot be
    read without loss (several pictures, HDR, inks without a profile) and what is no photo is one :class:`PhotoError`
    that names the file. Pixels of large files that must be decoded from their beginning (PNG, JPEG, WebP, AVIF) are
    laid by in ``spool_folder``, the system's folder for temporary files (``TMPDIR``) when ``None``, until the source
    is closed. Pictures with a side below ``least_side_px`` are refused. Windows may be read from several threads.
    """
    path = Path(path)
    photo_format = _identify(path)
    stream: BinaryIO | None = None
    try:
        with _named(path):
            stream = path.open("rb")
            photo = _FilePhoto(path, stream, _OPEN[photo_format](path, stream, spool_folder))
            _check_sides(photo.info, path, least_side_px)
            return photo
    except BaseException:
        if stream is not None:
            stream.close()
        raise


def read_photo(path: str | Path) -> Photo:
    """The whole of a photo in memory; see :func:`open_photo`."""
    with open_photo(path) as source:
        return Photo.from_source(source)


class _FilePhoto:
    """See :class:`PhotoSource`."""

    def __init__(self, path: Path, stream: BinaryIO, stored: StoredPicture) -> None:
        header = stored.header
        metadata, self._orientation = read_metadata(header.metadata, header.orientation)
        self._path, self._stream, self._stored = path, stream, stored
        self._version = _version(os.fstat(stream.fileno()))
        self._lock = threading.RLock()
        self._profile = _ink_profile(path, header, metadata)
        sideways = self._orientation in _SIDEWAYS
        self.info = PhotoInfo(
            width=header.height if sideways else header.width,
            height=header.width if sideways else header.height,
            depth=header.depth,
            grey=header.colours == 1,
            alpha=header.alpha,
            cmyk=header.colours == 4,
            metadata=metadata,
            name=path.name,
            path=path,
        )

    def read(self, top: int, left: int, height: int, width: int) -> Region:
        """See :class:`PhotoSource`."""
        if top < 0 or left < 0 or height < 1 or width < 1 or top + height > self.info.height:
            raise ValueError(f"no window at {top}, {left} of {height} x {width}")
        if left + width > self.info.width:
            raise ValueError(f"no window at {top}, {left} of {height} x {width}")
        samples = self._samples(*self._stored_window(top, left, height, width))
        region = self._region(samples)
        turn = _TURNS[self._orientation]
        alpha = None if region.alpha is None else np.ascontiguousarray(turn(region.alpha))
        return Region(np.ascontiguousarray(turn(region.colour)), alpha)

    def transparent(self) -> bool:
        """See :class:`PhotoSource`."""
        return self._transparent

    def close(self) -> None:
        """See :class:`PhotoSource`."""
        with self._lock:
            self._stored.close()
            self._stream.close()

    def __enter__(self) -> _FilePhoto:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _transparent(self) -> bool:
        header = self._stored.header
        if not header.alpha:
            return False
        band = max(1, _BAND_SAMPLES // header.width)
        for top in range(0, header.height, band):
            samples = self._samples(top, 0, min(band, header.height - top), header.width)
            if (samples[..., -1] < header.depth.white).any():
                return True
        return False

    def _samples(self, top: int, left: int, height: int, width: int) -> Samples:
        """Samples of a window of the stored picture."""
        with self._lock, _named(self._path):
            if self._stored.needs_file:
                self._check_unchanged()
            return self._stored.read(top, left, height, width)

    def _check_unchanged(self) -> None:
        try:
            version = _version(self._path.stat())
        except OSError as error:
            raise PhotoError(
                f"{self._path} is gone or cannot be read any more: {reason(error)}.",
                "Bring it back, and leave it there until the work is done.",
            ) from error
        if version != self._version:
            raise PhotoError(f"{self._path} was changed after the work on it began.", "Start again.")

    def _stored_window(self, top: int, left: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Where a window of the upright picture lies in the stored one."""
        header = self._stored.header
        if self._orientation in _SIDEWAYS:
            top, left, height, width = left, top, width, height
        if self._orientation in _ROWS_REVERSED:
            top = header.height - top - height
        if self._orientation in _COLUMNS_REVERSED:
            left = header.width - left - width
        return top, left, height, width

    def _region(self, samples: Samples) -> Region:
        """Red, green and blue of stored samples, not turned."""
        header = self._stored.header
        values = to_01(samples)
        colour = values[..., : header.colours]
        alpha = values[..., header.colours] if header.alpha else None
        if alpha is not None and header.premultiplied:
            visible = alpha[..., None]
            straight = np.divide(colour, visible, out=np.zeros_like(colour), where=visible > 0)
            colour = np.minimum(straight, np.float32(1))
        if self._profile is not None:
            colour = self._profile.to_rgb(colour)
        elif header.colours == 1:
            colour = np.repeat(colour, 3, axis=2)
        return Region(colour, alpha)


def _open_png(path: Path, stream: BinaryIO, folder: Path | None) -> StoredPicture:
    png = png_chunks.read_header(stream, partial(_check_png, path))
    if png.pictures > 1:
        raise PhotoError(f"{path} is an animation of {png.pictures} pictures.", "Save the picture you want alone.")
    colours, alpha = colours_and_alpha(png)
    depth = Depth.U16 if png.bits == 16 else Depth.U8
    header = StoredHeader(png.width, png.height, depth, colours, alpha, metadata=png.metadata)
    return SpooledPicture(header, partial(decode_png, stream, png), folder)


def _check_png(path: Path, png: PngHeader) -> None:
    check_size(path, png.width, png.height, MAX_STREAMED_PIXELS)
    if png.width > MAX_WIDTH:
        raise PhotoError(
            f"{path} is {png.width} pixels wide, and {MAX_WIDTH} is the limit for PNG.", "Save it as a TIFF first."
        )


_OPEN: dict[PhotoFormat, Callable[[Path, BinaryIO, Path | None], StoredPicture]] = {
    formats.PNG: _open_png,
    formats.TIFF: open_tiff,
    **{kind: partial(open_whole, kind) for kind in (formats.JPEG, formats.WEBP, formats.AVIF)},
}


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


def _check_sides(info: PhotoInfo, path: Path, least_px: int) -> None:
    if min(info.size) < least_px:
        raise PhotoError(
            f"{path} is {info.width} x {info.height} pixels, and no side may be below {least_px}.",
            "Use a larger photo.",
        )


def _ink_profile(path: Path, header: StoredHeader, metadata: Metadata) -> CmykProfile | None:
    """What turns inks into colours, ``None`` for pictures without inks."""
    if header.colours != 4:
        return None
    if metadata.icc is None:
        raise PhotoError(
            f"{path} is in CMYK, the colours of print, and has no profile that says what they are.",
            "Convert it to RGB first, or embed the profile of its print.",
        )
    try:
        return CmykProfile(metadata.icc)
    except PhotoError as error:
        raise PhotoError(f"{path} cannot be read: {error.message}", error.hint) from error


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What decoders raise, and they raise anything on damaged files, as an error that names the file."""
    try:
        yield
    except (PhotoError, MemoryError):
        raise
    except Exception as error:
        raise PhotoError(
            f"{path} is damaged or cut short: {reason(error)}.", "Copy or download it again, or open and save it anew."
        ) from error
