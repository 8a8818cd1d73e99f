"""Raw pixels laid by: those of a file that can only be decoded from top to bottom, for windows of it to be read.

Small pictures stay in memory, larger ones lie in a temporary file without a name, which the system takes back however
the program ends. Windows are read from it row by row, so that memory stays as small as they are.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.photo import Samples

MEMORY_BYTES = 2**24
"""Largest picture that is kept in memory."""


class Spool:
    """Room for a picture of (``height``, ``width``, ``channels``) samples of ``dtype``, written and read by windows.

    ``folder`` is where a temporary file goes; that of the system (``TMPDIR``) when ``None``. What has not been written
    holds anything.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        folder: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        height, width, channels = shape
        self._pixel_bytes = channels * dtype.itemsize
        self._size = height * width * self._pixel_bytes
        self._samples: Samples | None = np.empty(shape, dtype) if self._size <= memory_bytes else None
        self._file: Any = None
        if self._samples is None:
            self._folder = str(folder or tempfile.gettempdir())
            try:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - see close
                if shutil.disk_usage(self._folder).free < self._size:
                    raise OSError(errno.ENOSPC, "no room")
                self._file.truncate(self._size)
            except OSError as error:
                self.close()
                raise self._no_room(error) from error

    @property
    def in_memory(self) -> bool:
        """Whether no file is needed."""
        return self._samples is not None

    def write(self, top: int, left: int, samples: Samples) -> None:
        """Put (h, w, channels) samples where they belong."""
        if self._samples is not None:
            self._samples[top : top + samples.shape[0], left : left + samples.shape[1]] = samples
            return
        samples = np.ascontiguousarray(samples, self.dtype)
        # Rows of the full width lie one after the other.
        blocks = (samples,) if samples.shape[1] == self.shape[1] else samples
        try:
            for row, block in enumerate(blocks):
                self._seek(top + row, left)
                self._write_all(memoryview(block.reshape(-1).view(np.uint8)))
        except OSError as error:
            raise self._no_room(error) from error

    def read(self, top: int, left: int, height: int, width: int) -> Samples:
        """The samples of a window, (height, width, channels), as a copy."""
        there = slice(top, top + height), slice(left, left + width)
        if self._samples is not None:
            return self._samples[there].copy()
        samples = np.empty((height, width, self.shape[2]), self.dtype)
        blocks = (samples,) if width == self.shape[1] else samples
        for row, block in enumerate(blocks):
            self._seek(top + row, left)
            self._read_all(memoryview(block.reshape(-1).view(np.uint8)))
        return samples

    def close(self) -> None:
        """Give memory and disk back."""
        self._samples = None
        if self._file is not None:
            self._file.close()

    def _seek(self, row: int, column: int) -> None:
        self._file.seek((row * self.shape[1] + column) * self._pixel_bytes)

    def _write_all(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]

    def _read_all(self, data: memoryview) -> None:
        while data:
            count = self._file.readinto(data)
            if not count:
                raise ValueError("pixels are missing")
            data = data[count:]

    def _no_room(self, error: OSError) -> PhotoError:
        gigabytes = self._size / 1e9
        why = "has too little room" if error.errno == errno.ENOSPC else f"cannot be used ({reason(error)})"
        return PhotoError(
            f"{self._folder} {why}: {gigabytes:.1f} GB are needed there for the pixels of the photo.",
            "Make room, or set TMPDIR to a folder on a larger disk.",
        )
