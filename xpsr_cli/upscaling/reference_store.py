"""References that were made before, in one place of the user's cache: another second stage needs no other first one.

A file ``references/ab/abcd....rgb`` holds one, (H, W, 3) of 16 bits and their SHA-256, by the digest of the photo's
content and of all that made it. Files are whole or absent, so any number of processes may share the folder, whose size
is bounded: those that were used longest ago go first.
"""

# shapes: H W pixels of a reference, h w of a window

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.photo import Floats, PhotoSource
from xpsr_cli.user_cache import cache_folder

MOST_BYTES = 2**31
"""What all references in the cache may take; one alone that is larger lies in the folder of the work."""
_HALF_DONE = ".reference-"
_ABANDONED_SECONDS = 24 * 3600
"""After that long without a byte, who was writing a file has been killed."""
_WHITE = 65535
_ROWS = 256
_PART_BYTES = 2**20
_DIGEST_BYTES = hashlib.sha256().digest_size


class Reference:
    """A picture of 16 bits per channel, in memory or in a file: see :class:`xpsr_cli.upscaling.resample.Picture`.

    Of a file nothing is held between two windows but the open file, so that whoever removes it harms nobody.
    """

    def __init__(self, pixels: np.ndarray | BinaryIO, size: tuple[int, int]) -> None:
        self.width, self.height = size
        self._pixels = pixels

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """(3, h, w) float32 in [0, 1] of a window within the picture."""
        rows = self._pixels
        if not isinstance(rows, np.ndarray):
            rows = np.memmap(rows, "<u2", "r", shape=(self.height, self.width, 3))
        window = rows[top : top + height, left : left + width].transpose(2, 0, 1)
        return torch.from_numpy(np.divide(window, np.float32(_WHITE), dtype=np.float32))


class ReferenceStore:
    """The references of one cache."""

    def __init__(self, folder: Path | None = None, most_bytes: int = MOST_BYTES) -> None:
        """The store in ``folder``, which is ``references`` in the user's cache unless it is named."""
        self.folder = cache_folder() / "references" if folder is None else folder
        self.most_bytes = most_bytes

    def find(self, key: str, size: tuple[int, int]) -> Reference | None:
        """The reference of that key and size (width, height), which counts as used now; ``None`` if it is not here."""
        path = self._path(key)
        found = open_reference(path, size)
        if found is not None:
            with suppress(OSError):
                os.utime(path)
        return found

    def place(self, key: str, size: tuple[int, int]) -> Path | None:
        """Where the reference of that key and size (width, height) is to be kept; ``None`` if there is no room."""
        path, needed = self._path(key), _bytes(size)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            room = os.access(path.parent, os.W_OK) and shutil.disk_usage(path.parent).free > needed
        except OSError:
            room = False
        return path if room and needed <= self.most_bytes else None

    def tidy(self, kept: Path) -> None:
        """Remove what was used longest ago until the rest fits; ``kept`` is in use now, and stays.

        What runs left that were killed while they wrote goes too.
        """
        files = []
        for path in self.folder.glob("*/*.rgb"):
            with suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, path, stat.st_size))
        total = sum(size for *_, size in files)
        for _, path, size in sorted(files):
            if total <= self.most_bytes:
                break
            if path != kept:
                with suppress(OSError):
                    path.unlink()
                    total -= size
        abandoned = time.time() - _ABANDONED_SECONDS
        for path in self.folder.glob(f"*/{_HALF_DONE}*"):
            with suppress(OSError):
                if path.stat().st_mtime < abandoned:
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.rgb"


def open_reference(path: Path, size: tuple[int, int]) -> Reference | None:
    """The reference (width, height) in a file; ``None`` if there is none, or one that is not as it was written."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    if not _is_whole(file, size):
        file.close()
        return None
    return Reference(file, size)


def keep_reference(bands: Iterator[Floats], size: tuple[int, int], path: Path | None) -> Reference:
    """The picture that ``bands`` (h, W, 3) in [0, 1] make up, in a file that is whole or absent, or in memory.

    :class:`PhotoError` if the disk refuses it.
    """
    if path is None:
        pixels = np.concatenate([_quantized(band) for band in bands])
        return Reference(pixels, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_HALF_DONE)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            digest = hashlib.sha256()
            for band in bands:
                values = _quantized(band).tobytes()
                digest.update(values)
                _write(file, values, path)
            _write(file, digest.digest(), path)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    reference = open_reference(path, size)
    if reference is None:
        raise PhotoError(f"The reference in {path.parent} is gone.", "Start again.")
    return reference


def content_digest(source: PhotoSource) -> str:
    """SHA-256 of a photo's pixels, whatever file they come from."""
    info = source.info
    digest = hashlib.sha256(f"{info.width} {info.height} {info.grey} {info.alpha}".encode())
    for top in range(0, info.height, _ROWS):
        region = source.read(top, 0, min(_ROWS, info.height - top), info.width)
        for values in (region.colour, region.alpha):
            if values is not None:
                digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _quantized(band: Floats) -> np.ndarray:
    return np.rint(np.clip(band, 0, 1) * _WHITE).astype("<u2")


def _write(file: FileIO, values: bytes, path: Path) -> None:
    """Write all at once, so that a full disk is told here and not again when the file is closed."""
    left = memoryview(values)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise _refused(path, error) from error


def _is_whole(file: BinaryIO, size: tuple[int, int]) -> bool:
    """Whether all of it is there as it was written: after a power cut, files may hold zeros for what they held."""
    try:
        if file.seek(0, os.SEEK_END) != _bytes(size):
            return False
        file.seek(0)
        digest, left = hashlib.sha256(), _bytes(size) - _DIGEST_BYTES
        while left:
            part = file.read(min(left, _PART_BYTES))
            if not part:  # it is being cut short
                return False
            digest.update(part)
            left -= len(part)
        return file.read() == digest.digest()
    except OSError:
        return False


def _bytes(size: tuple[int, int]) -> int:
    return 6 * size[0] * size[1] + _DIGEST_BYTES


def _refused(path: Path, error: OSError) -> PhotoError:
    return PhotoError(
        f"The reference could not be kept in {path.parent}: {reason(error)}.",
        "Make room on the disk, or name another folder with XPSR_CACHE or --work-dir.",
    )
