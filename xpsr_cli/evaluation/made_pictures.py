"""Pictures that an evaluation makes itself, each made once and known by what it was made from."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpsr_cli import __version__
from xpsr_cli.errors import UsageError
from xpsr_cli.photos.photo import Photo, Pixels
from xpsr_cli.photos.sink import write_photo
from xpsr_cli.upscaling.journal import Journal, State


class MadePictures:
    """PNG files in one folder, with the journal that tells which of them need not be made again."""

    def __init__(self, folder: Path, journal: Journal, *, overwrite: bool) -> None:
        self.folder = folder
        self._journal = journal
        self._overwrite = overwrite

    def make(self, source: Path, name: str, making: Mapping[str, Any], draw: Callable[[], Pixels]) -> Path:
        """The file ``name.png``, drawn from ``source`` in the way that ``making`` describes.

        :class:`UsageError` if there is another picture in its place that must not be replaced, and
        :class:`~xpsr_cli.errors.PhotoError` if it cannot be made.
        """
        target = self.folder / f"{name}.png"
        how = {**making, "xpsr": __version__}
        if self._journal.status(source, target, how).state is State.DONE:
            return target
        with self._journal.claim(source, target, how) as claim:
            if claim.status.state is State.DONE:  # by another process, meanwhile
                return target
            if claim.status.state is not State.NEW and not self._overwrite:
                raise UsageError(f"{target} {claim.status.words}.", "Name another output folder, or add --overwrite.")
            write_photo(Photo(pixels=draw()), claim.complete)
            claim.commit()
        return target


@contextmanager
def made_pictures(folder: Path, *, overwrite: bool = False) -> Iterator[MadePictures]:
    """The pictures of a folder, which is made; what a killed run left is put in its place or cleared away."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    journal.recover(overwrite=overwrite)
    try:
        yield MadePictures(folder, journal, overwrite=overwrite)
    finally:
        journal.close()
