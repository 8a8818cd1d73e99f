"""The latents of a whole picture, the only thing of its size: in memory, or in files that outlive an interruption."""

# shapes: c latent channels, H W canvas and h w window latent cells

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.errors import PhotoError
from xpsr_cli.sampling.tiled import Band
from xpsr_cli.sampling.tiles import Window

History = dict[str, Any]
"""What a scheduler remembers from step to step, as plain values and tensors."""

_DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, UnpicklingError)


class LatentCanvas:
    """Latents (1, c, H, W) float32 before and after the step that is being made, written band by band.

    ``step`` counts the steps done, from ``first`` on where the earlier ones are left out; before the start latents are
    there it is one less. ``band`` counts the bands done of the
    next one and ``unfinished`` is what the last of them left (see :class:`xpsr_cli.sampling.tiled.Band`).

    With a ``folder`` everything lies in files there, and a canvas made anew in the same folder goes on where the last
    one was stopped, however it was: the file that says how far the work has come is replaced in one move, and only
    once everything it speaks of is written.
    """

    def __init__(self, channels: int, height: int, width: int, folder: Path | None = None, first: int = 0) -> None:
        self.shape = channels, height, width
        self.folder = folder
        self.first = first
        self.step, self.band = first - 1, 0
        self.unfinished: Tensor | None = None
        self._generations: list[_Rows]
        self._histories: dict[str, History] = {}
        if folder is None:
            self._generations = [_MemoryRows(self.shape) for _ in range(2)]
        else:
            with _disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            files = [_FileRows(self.shape, folder / f"latents-{i}") for i in range(2)]
            self._generations = [*files]
            if all(file.there for file in files):
                self._go_on(folder)

    @property
    def begun(self) -> bool:
        """Whether the start latents are there."""
        return self.step >= self.first

    def read(self, window: Window) -> Tensor:
        """The latents under a window as the last finished step left them, (1, c, h, w)."""
        return self._generations[self.step % 2].read(window)

    def write(self, place: Window, latents: Tensor) -> None:
        """Rows of the canvas, (1, c, h, W), as the step being made leaves them."""
        self._generations[(self.step + 1) % 2].write(place, latents)

    def history(self, place: Window) -> History | None:
        """What the scheduler remembered of a part of the canvas after the last finished step, if there was one.

        :class:`PhotoError` if that is no longer in the folder.
        """
        name = self._history_name(place, self.step - 1)
        if self.folder is None:
            return self._histories.get(name)
        return self._load(name) if self.step > self.first else None

    def remember(self, place: Window, history: History) -> None:
        """What the scheduler remembers of a part of the canvas after the step being made."""
        self._save(self._history_name(place, self.step), history)

    def begin(self, latents: Tensor, step: int = 0) -> None:
        """Take ``latents`` (1, c, H, W) for what ``step`` steps made; what a scheduler remembers begins anew."""
        self.step, self.band, self.unfinished = step - 1, 0, None
        self._histories.clear()
        self.write(Window(0, 0, *self.shape[1:]), latents)
        self.turn()

    def keep(self, band: Band) -> None:
        """``band`` is written; after an interruption the work goes on behind it."""
        self.band, self.unfinished = band.number + 1, band.unfinished
        self._save(self._unfinished_name(), {"rows": self.unfinished})
        self._mark()

    def turn(self) -> None:
        """The step is made (or the start latents are there): they are what is read from now on."""
        self.step, self.band, self.unfinished = self.step + 1, 0, None
        self._mark()

    def _history_name(self, place: Window, step: int) -> str:
        return f"history-{place.y}-{place.x}-{step % 2}"

    def _unfinished_name(self) -> str:
        return f"unfinished-{self.band % 2}"  # the one before is good until the mark has moved on

    def _save(self, name: str, values: dict[str, Any]) -> None:
        if self.folder is None:
            if not name.startswith("unfinished"):
                self._histories[name] = values
            return
        with _disk_errors(self.folder), (self.folder / f"{name}.pt").open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())

    def _load(self, name: str) -> dict[str, Any]:
        assert self.folder is not None
        try:
            return dict(torch.load(self.folder / f"{name}.pt", weights_only=True))
        except _DAMAGED as error:
            message = f"The work in {self.folder} cannot be taken up: {name}.pt is damaged or gone."
            raise PhotoError(message, "Remove the folder and start again.") from error

    def _mark(self) -> None:
        if self.folder is None:
            return
        with _disk_errors(self.folder):
            for rows in self._generations:
                rows.sync()
            temporary = self.folder / "position.new"
            with temporary.open("w", encoding="ascii") as file:
                json.dump({"step": self.step, "band": self.band, "shape": self.shape}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / "position.json")

    def _go_on(self, folder: Path) -> None:
        """Take up the position that the folder tells; without one that makes sense, this is the beginning."""
        try:
            position = json.loads((folder / "position.json").read_text(encoding="ascii"))
            if tuple(position["shape"]) != self.shape:
                return
            self.step, self.band = int(position["step"]), int(position["band"])
            if self.band:
                self.unfinished = torch.load(folder / f"{self._unfinished_name()}.pt", weights_only=True)["rows"]
        except _DAMAGED:
            self.step, self.band, self.unfinished = self.first - 1, 0, None


class _MemoryRows:
    """A canvas as a tensor."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._values = torch.zeros(1, *shape)

    def read(self, window: Window) -> Tensor:
        return window.crop(self._values)

    def write(self, place: Window, latents: Tensor) -> None:
        place.crop(self._values).copy_(latents)

    def sync(self) -> None:
        """Nothing is written."""


class _FileRows:
    """A canvas as a file of rows, each (c, W).

    It is read through a map that lasts for one window, so that it does not count as memory in use, and written
    without one, so that a full disk is an error and not the end of the process. In between it is closed: the folder
    can be removed whoever still has the canvas. ``there`` says that it was in the folder already, whole.
    """

    def __init__(self, shape: tuple[int, int, int], path: Path) -> None:
        self._channels, self._height, self._width = shape
        self._row_bytes = self._channels * self._width * 4
        size = self._height * self._row_bytes
        with _disk_errors(path.parent), path.open("ab") as file:
            self.there = file.seek(0, os.SEEK_END) == size
            file.truncate(size)
        self._path = path

    def read(self, window: Window) -> Tensor:
        shape = (self._height, self._channels, self._width)
        rows = np.memmap(self._path, np.float32, "r", shape=shape)
        there = rows[window.y : window.y + window.h, :, window.x : window.x + window.w]
        return torch.from_numpy(np.array(there.transpose(1, 0, 2), order="C"))[None]

    def write(self, place: Window, latents: Tensor) -> None:
        data = memoryview(latents[0].transpose(0, 1).contiguous().numpy().data).cast("B")
        with _disk_errors(self._path.parent), self._path.open("r+b", buffering=0) as file:
            file.seek(place.y * self._row_bytes)
            while data:
                data = data[os.write(file.fileno(), data) :]

    def sync(self) -> None:
        with self._path.open("r+b") as file:
            os.fsync(file.fileno())


_Rows = _MemoryRows | _FileRows


class _disk_errors:  # noqa: N801 - reads as a statement
    """Turns what the disk refuses inside the block into a :class:`PhotoError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, OSError | RuntimeError):
            return
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
        hint = "Make room on the disk, or name another folder with --work-dir." if full else "Check the folder."
        raise PhotoError(f"The work in {self.folder} could not be kept: {reason.rstrip('.')}.", hint) from error
