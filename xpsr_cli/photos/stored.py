"""A picture as its file stores it: before it is turned upright, and before grey, inks and depth become red-green-blue.

Every format is read through a :class:`StoredPicture`; :mod:`xpsr_cli.photos.source` makes photos of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.photo import Depth, Samples
from xpsr_cli.photos.spool import Spool

MAX_STREAMED_PIXELS = 2**32
"""Most pixels of a file that is read piece by piece (TIFF, PNG)."""
MAX_WHOLE_PIXELS = 2**28
"""Most pixels of a file, or of a piece of it, that must be decoded as a whole: 1 GiB as decoders hold it."""


@dataclass(frozen=True)
class StoredHeader:
    """What a file says before a pixel is read.

    ``width`` and ``height`` are those of the stored picture. ``colours`` is 1 for grey, 3 for red-green-blue, 4 for
    inks (255 or 1.0: all ink). ``metadata`` holds what :func:`xpsr_cli.photos.metadata.read_metadata` reads, and
    ``orientation`` is set by formats that keep it outside of EXIF.
    """

    width: int
    height: int
    depth: Depth
    colours: int
    alpha: bool = False
    premultiplied: bool = False
    metadata: Mapping[Any, Any] = field(default_factory=dict)
    orientation: int | None = None

    @property
    def channels(self) -> int:
        """Samples of a pixel: its colours and its transparency."""
        return self.colours + self.alpha


class StoredPicture(Protocol):
    """The pixels of a file by windows, in the type and order in which it stores them."""

    header: StoredHeader

    @property
    def needs_file(self) -> bool:
        """Whether the next window will be read from the file, and not from what is kept of it."""

    def read(self, top: int, left: int, height: int, width: int) -> Samples:
        """(height, width, channels) samples: colours, then alpha. Raises anything when the file is damaged."""

    def close(self) -> None:
        """Let go of what is kept."""


class SpooledPicture:
    """A picture that can only be decoded from its beginning: that is done once, when the first window is wanted.

    ``decode`` writes all of it into a spool.
    """

    def __init__(self, header: StoredHeader, decode: Callable[[Spool], None], folder: Path | None) -> None:
        self.header = header
        self._decode, self._folder = decode, folder
        self._spool: Spool | None = None

    @property
    def needs_file(self) -> bool:
        """See :class:`StoredPicture`."""
        return self._spool is None

    def read(self, top: int, left: int, height: int, width: int) -> Samples:
        """See :class:`StoredPicture`."""
        if self._spool is None:
            header = self.header
            shape = (header.height, header.width, header.channels)
            spool = Spool(shape, header.depth.dtype, folder=self._folder)
            try:
                self._decode(spool)
            except BaseException:
                spool.close()
                raise
            self._spool = spool
        return self._spool.read(top, left, height, width)

    def close(self) -> None:
        """See :class:`StoredPicture`."""
        if self._spool is not None:
            self._spool.close()


def check_size(path: Path, width: int, height: int, limit: int) -> None:
    """Refuse pictures of more than ``limit`` pixels, and those that have none."""
    if width * height > limit:
        raise PhotoError(
            f"{path} has {width} x {height} = {width * height} pixels, and {limit} is the limit.",
            "Cut it into parts first.",
        )
    if min(width, height) < 1:
        raise PhotoError(f"{path} is {width} x {height} pixels: there is nothing in it.", "Copy or download it again.")
