"""Folders that are whole or absent: written under another name, brought to the disk, and only then put in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from xpsr_cli.errors import WeightsError


@contextmanager
def written_beside(place: Path) -> Iterator[Path]:
    """A folder that replaces ``place`` when the block is done, and of which nothing is left when it fails.

    Raises:
        WeightsError: it could not be written, for example on a full disk; what was at ``place`` is untouched.
    """
    recover_folder(place)
    temporary = _beside(place, "part")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        replace_folder(temporary, place)
        _sync(place.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        raise WeightsError(
            f"{place} could not be saved: {_reason(error)}.",
            "What was saved before is untouched: make room on the disk and go on with --resume latest.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(place: Path) -> None:
    """Undo a :func:`replace_folder` that was killed between its two renames, and remove what was not finished."""
    old = _beside(place, "old")
    if old.exists() and not place.exists():
        old.rename(place)
    for left in (old, _beside(place, "part")):
        shutil.rmtree(left, ignore_errors=True)


def replace_folder(new: Path, place: Path) -> None:
    """Put ``new`` where ``place`` is; the old folder is removed only after the new one stands."""
    old = _beside(place, "old")
    if place.exists():
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(place: Path) -> None:
    """Remove a folder; a kill half-way leaves something that is known to be unfinished, not a part of the folder."""
    unfinished = _beside(place, "part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        place.rename(unfinished)
    except OSError:  # in use, where the system forbids that
        unfinished = place
    shutil.rmtree(unfinished, ignore_errors=True)


def link_tree(source: Path, target: Path) -> None:
    """The same files under another name, without their bytes where the disk can link."""
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(f"{place.name}.{ending}")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, where the system lets it be opened for that."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    """What the system says, without how the libraries wrap it."""
    said = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
    return said.rpartition("I/O error: ")[2].partition(" (os error")[0].rstrip(".")
