"""Where the pixels of a training photo lie, in a file or in a tar shard, and how windows of them are read."""

# shapes: pixels are (H, W, 3) uint8, red-green-blue, upright

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpsr_cli.errors import PhotoError
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.photo import PhotoSource, Pixels, Region
from xpsr_cli.photos.source import open_photo

_BAND_PIXELS = 2**22


class Window(NamedTuple):
    """A part of an upright picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class PhotoFile:
    """A photo that is a file of its own."""

    path: Path

    @contextmanager
    def open(self) -> Iterator[PhotoSource]:
        """The photo, to read windows of; :class:`PhotoError` if it cannot be read."""
        with open_photo(self.path) as source:
            yield source

    def length(self) -> int:
        """Bytes of the file."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise self._refused(error) from error

    def sha256(self) -> str:
        """SHA-256 of the file, as hexadecimal digits."""
        try:
            return hash_file(self.path)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> PhotoError:
        return PhotoError(f"{self.path} cannot be read: {reason(error)}.", "Check its permissions.")


@dataclass(frozen=True)
class TarMember:
    """A photo in a tar shard that is not unpacked: its bytes lie at an offset of the shard."""

    shard: Path
    name: str
    offset: int
    size: int

    @contextmanager
    def open(self) -> Iterator[PhotoSource]:
        """The photo, to read windows of; :class:`PhotoError` that names shard and member if it cannot be read."""
        with tempfile.TemporaryDirectory(prefix="xpsr-") as folder:  # readers of photos take files
            path = Path(folder) / Path(self.name).name
            try:
                path.write_bytes(self.read_bytes())
                with open_photo(path) as source:
                    yield source
            except PhotoError as error:
                named = error.message.replace(str(path), f"{self.shard}: {self.name}")
                raise PhotoError(named, error.hint) from error

    def length(self) -> int:
        """Bytes of what would be the file."""
        return self.size

    def sha256(self) -> str:
        """SHA-256 of what would be the file, as hexadecimal digits."""
        return hashlib.sha256(self.read_bytes()).hexdigest()

    def read_bytes(self) -> bytes:
        """What would be the file."""
        try:
            with self.shard.open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read(self.size)
        except OSError as error:
            raise PhotoError(f"{self.shard} cannot be read: {reason(error)}.", "Check its permissions.") from error
        if len(content) != self.size:
            raise PhotoError(f"{self.shard} became shorter after the work on it began.", "Start again.")
        return content


@dataclass(frozen=True)
class Picture:
    """Pixels that can be read, window by window, of a picture of ``width`` x ``height``; or ``kept`` in memory.

    They are 8-bit red, green and blue whatever the file holds: deeper samples are rounded, inks are converted, and
    what is transparent is laid over white.
    """

    place: PhotoFile | TarMember
    width: int
    height: int
    kept: Pixels | None = field(default=None, repr=False, compare=False)

    @classmethod
    def at(cls, place: PhotoFile | TarMember) -> Picture:
        """The picture that lies there. Only its header is read; :class:`PhotoError` if that cannot be."""
        with place.open() as source:
            return cls(place, source.info.width, source.info.height)

    @property
    def size_bytes(self) -> int:
        """Memory that all pixels take."""
        return 3 * self.width * self.height

    def pixels(self) -> Pixels:
        """All of it, (height, width, 3)."""
        if self.kept is not None:
            return self.kept
        rows = max(1, _BAND_PIXELS // self.width)
        bands = [Window(top, 0, min(rows, self.height - top), self.width) for top in range(0, self.height, rows)]
        return np.concatenate(self.windows(bands))

    def in_memory(self) -> Picture:
        """The same picture with its pixels kept; :class:`PhotoError` if they are damaged."""
        return replace(self, kept=self.pixels())

    def windows(self, windows: Sequence[Window]) -> list[Pixels]:
        """Pixels of parts of it, for which the file is opened and decoded once; not to be written to.

        Raises :class:`PhotoError` if they cannot be read, or the file holds another picture by now.
        """
        if self.kept is not None:
            return [self.kept[top : top + height, left : left + width] for top, left, height, width in windows]
        with self.place.open() as source:
            if source.info.size != (self.width, self.height):
                raise PhotoError(f"{source.info.path} was changed after the work on it began.", "Start again.")
            return [_to_u8(source.read(*window)) for window in windows]


def _to_u8(region: Region) -> Pixels:
    colour = region.colour
    if region.alpha is not None:
        colour = 1 + (colour - 1) * region.alpha[..., None]
    return (colour * np.float32(255) + np.float32(0.5)).astype(np.uint8)
