"""What a training run is given: folders of large photos, of prepared pairs, or of tar shards, told apart by looking.

Photos stay where they lie. A set whose pixels fit in memory is decoded at once; of a larger one only headers are read,
and crops are when they are wanted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.formats import EXTENSIONS, FORMAT_NAMES, reason
from xpsr_cli.training import prepared_pairs
from xpsr_cli.training.photo_folders import folder_photos
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.tar_shards import SHARD_ENDINGS, shard_photos
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto

log = logging.getLogger(__name__)

MEMORY_BYTES = 2 * 2**30
"""Sets of photos whose pixels together take no more are kept in memory."""


@dataclass(frozen=True)
class PhotoSet:
    """The photos of a source that can be trained on, and those that cannot."""

    photos: list[TrainingPhoto]
    left_out: list[LeftOut]


def read_source(
    source: Path | Sequence[Path],
    recipe: Recipe,
    *,
    leave_out: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> PhotoSet:
    """Find the photos to train on, all of them at least as large as the recipe's crops.

    Args:
        source: a folder of photos, a folder with prepared pairs in it (``HR`` and ``LR``, as in
            :mod:`~xpsr_cli.training.prepared_pairs`), a folder of tar shards, one shard or one photo; or several of
            these. Folders in it are searched too; hidden ones are not, links to folders are named and left out.
        recipe: says how large the crops are.
        leave_out: a folder below a source that is not searched, such as the run's own.
        memory_bytes: photos are kept in memory if all of them together take no more.

    Returns:
        the photos in the order of their names, and every file that is left out, which the log names too.

    Raises:
        PhotoError: nothing is there, no photo in it can be read, or a shard is damaged.
        UsageError: a folder holds photos of several kinds, or there are only photos that are smaller than a crop.
    """
    return _read(source, recipe.photo_px, leave_out, memory_bytes)


def read_photos(folder: Path) -> list[TrainingPhoto]:
    """All photos of a source, whatever their size, as :func:`read_source` finds them."""
    return _read(folder, 1, None, MEMORY_BYTES).photos


def _read(source: Path | Sequence[Path], crop_px: int, leave_out: Path | None, memory_bytes: int) -> PhotoSet:
    paths = [source] if isinstance(source, Path) else list(source)
    photos: list[TrainingPhoto] = []
    left_out: list[LeftOut] = []
    for found in (found for path in paths for found in _found(path, leave_out)):
        unfit = found if isinstance(found, LeftOut) else _unfit(found, crop_px)
        if unfit is not None:
            left_out.append(unfit)
        elif isinstance(found, TrainingPhoto):
            photos.append(found)
    if sum(photo.size_bytes for photo in photos) <= memory_bytes:
        photos = list(_decoded(photos, left_out))
    for file in left_out:
        log.warning("left out %s: %s", file.file, file.reason)
    if not photos:
        raise _nothing(", ".join(map(str, paths)), crop_px, left_out)
    return PhotoSet(photos, left_out)


def _unfit(photo: TrainingPhoto, crop_px: int) -> LeftOut | None:
    """Why a photo gives no crops, if it does not."""
    width, height = photo.picture.width, photo.picture.height
    if min(width, height) < crop_px:
        return LeftOut(photo.file, f"It is {width} x {height} pixels, and crops are {crop_px}.", too_small=True)
    if photo.small is not None and crop_px > 1 and crop_px % photo.small.scale:
        return LeftOut(photo.file, f"Its small photo is {photo.small.scale} times smaller, and crops are {crop_px}.")
    return None


def _decoded(photos: Sequence[TrainingPhoto], left_out: list[LeftOut]) -> Iterator[TrainingPhoto]:
    for photo in photos:
        try:
            yield photo.in_memory()
        except PhotoError as error:
            left_out.append(LeftOut(photo.file, error.message))


def _nothing(named: str, crop_px: int, left_out: Sequence[LeftOut]) -> PhotoError | UsageError:
    if any(file.too_small for file in left_out):
        return UsageError(
            f"No photo in {named} is at least {crop_px} pixels on each side.",
            "Train on larger photos, or on smaller crops (data.crop_px).",
        )
    if left_out:
        return PhotoError(
            f"No photo could be read in {named}.", f"The first one, {left_out[0].file}: {left_out[0].reason}"
        )
    return PhotoError(f"No photo could be read in {named}.", f"Training reads {FORMAT_NAMES} files, and .tar shards.")


@dataclass
class _Found:
    """What lies below a folder, by kind."""

    photos: list[Path] = field(default_factory=list)
    pairs: list[Path] = field(default_factory=list)  # folders
    shards: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)  # to folders, which may lead in circles

    def kinds(self) -> list[str]:
        """One example of each kind."""
        named = (("the photo", self.photos), ("prepared pairs in", self.pairs), ("the shard", self.shards))
        return [f"{kind} {paths[0]}" for kind, paths in named if paths]


def _found(path: Path, leave_out: Path | None) -> Iterator[TrainingPhoto | LeftOut]:
    found = _Found()
    top = path
    if path.is_dir():
        for file in _walk(path, found, leave_out):
            _sort(file, found)
    elif path.exists():
        top = path.parent
        _sort(path, found)
    else:
        raise PhotoError(f"{path} does not exist.", "Check the name and the folder.")
    if len(kinds := found.kinds()) > 1:
        raise UsageError(
            f"{path} holds {' and '.join(kinds)}.", "Keep them in folders of their own, and train on one of them."
        )
    for link in found.links:
        yield LeftOut(link.relative_to(top).as_posix(), "It is a link to a folder: name that folder as well.")
    yield from folder_photos(found.photos, top)
    for folder in found.pairs:
        yield from prepared_pairs.prepared_pairs(folder, top)
    for shard in found.shards:
        yield from shard_photos(shard, top)


def _walk(top: Path, found: _Found, leave_out: Path | None) -> Iterator[Path]:
    """The files below a folder, sorted; folders with pairs are noted and not entered, hidden names are left out."""

    def refuse(error: OSError) -> None:
        raise PhotoError(f"{error.filename} cannot be opened: {reason(error)}.", "Check its permissions.") from error

    files: list[Path] = []
    for folder, names, file_names in os.walk(top, onerror=refuse):
        here = Path(folder)
        if leave_out is not None and here != top and os.path.realpath(here) == os.path.realpath(leave_out):
            names.clear()
            continue
        if {prepared_pairs.LARGE, prepared_pairs.SMALL} <= set(names):
            found.pairs.append(here)
            names[:] = [name for name in names if name not in prepared_pairs.FOLDERS]
        names[:] = [name for name in names if not name.startswith(".")]
        found.links += [here / name for name in names if (here / name).is_symlink()]
        files += [here / name for name in file_names if not name.startswith(".")]
    found.pairs.sort()
    found.links.sort()
    return iter(sorted(files))


def _sort(file: Path, found: _Found) -> None:
    if file.name.lower().endswith(SHARD_ENDINGS):
        found.shards.append(file)
    elif file.suffix.lower() in EXTENSIONS:
        found.photos.append(file)
