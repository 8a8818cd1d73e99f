"""Folders of large photos, nested ones too, with a ``MANIFEST.csv`` where there is one."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.formats import reason
from xpsr_cli.training.pictures import PhotoFile, Picture
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto, from_manifest

MANIFEST = "MANIFEST.csv"
"""Beside photos: their ``file``, and what is known of ``photo_id``, ``category`` and ``caption_from_filename``."""

Row = dict[str, str | None]


def folder_photos(files: Sequence[Path], top: Path) -> Iterator[TrainingPhoto | LeftOut]:
    """Photos among the files below the folder ``top``; a file whose header cannot be read is left out.

    :class:`UsageError` for a manifest that cannot be read.
    """
    folders = sorted({parent for file in files for parent in file.parents if parent.is_relative_to(top)})
    rows = {path: row for folder in folders for path, row in _manifest(folder / MANIFEST)}
    for file in files:
        name = file.relative_to(top).as_posix()
        try:
            picture = Picture.at(PhotoFile(file))
        except PhotoError as error:
            yield LeftOut(name, error.message)
            continue
        yield from_manifest(name, picture, rows.get(file, {}), file.stem)


def _manifest(path: Path) -> Iterator[tuple[Path, Row]]:
    """Rows of a manifest by the photo, nothing where there is no manifest."""
    if not path.is_file():
        return
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if "file" not in (reader.fieldnames or ()):
                raise UsageError(f"{path} has no column called file.", "Name the photos in it, or take it away.")
            for row in reader:
                yield path.parent / (row["file"] or ""), row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise UsageError(f"{path} cannot be read: {why}.", "Mend it, or take it away.") from None
