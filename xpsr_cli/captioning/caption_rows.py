"""Captions that were written down, and which of them is that of a photo. Standard library only."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from xpsr_cli.captioning.captions import Caption
from xpsr_cli.errors import UsageError
from xpsr_cli.photos.formats import EXTENSIONS

_PHOTO_EXTENSIONS = {*EXTENSIONS, ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl"}


@dataclass(frozen=True)
class CaptionRow:
    """The caption of one photo: its path as it was given, and the SHA-256 of its file in hexadecimal digits.

    Either may be empty in a file that another program wrote.
    """

    photo: str
    sha256: str
    caption: Caption

    def to_dict(self) -> dict[str, Any]:
        """JSON-like values."""
        return {"photo": self.photo, "sha256": self.sha256} | self.caption.to_dict()


class CaptionFile:
    """Captions that were written down, found by the photo they are of.

    ``path`` is the file or folder; every row comes with its place in it, as in ``line 3``.
    """

    def __init__(self, path: Path, rows: Sequence[tuple[CaptionRow, str]]) -> None:
        self.path = path
        self.rows = [row for row, _ in rows]
        self._by: list[dict[str, list[tuple[CaptionRow, str]]]] = [defaultdict(list) for _ in range(4)]
        for row, place in rows:
            for index, names in zip(self._by, self._names(row), strict=True):
                for name in names:
                    index[name].append((row, place))

    def of(self, photo: Path, sha256: str) -> Caption | None:
        """The caption of a photo: by the hash of its file, else by its path, its name, its name without extension.

        ``None`` if there is none. Raises :class:`UsageError` where several rows say different things of it.
        """
        names = sha256.lower(), os.path.abspath(photo), photo.name, photo.stem
        found: list[tuple[CaptionRow, str]] = []
        for index, name in zip(self._by, names, strict=True):
            further = index.get(name, [])
            found = [one for one in found if one in further] or found or further
            if len({_texts(row) for row, _ in found}) == 1:
                return found[0][0].caption
        if found:
            places = " and ".join(place for _, place in found[:3])
            raise UsageError(
                f"{self.path} says different things of {photo} in {places}.",
                "Leave one of them, or give each row the path or sha256 of its photo.",
            )
        return None

    def _names(self, row: CaptionRow) -> tuple[set[str], set[str], set[str], set[str]]:
        """What a row is found by: hashes, paths, names, names without extension."""
        if not row.photo:
            return {row.sha256}, set(), set(), set()
        name = row.photo.replace("\\", "/").rstrip("/").rpartition("/")[2]
        paths = {os.path.abspath(row.photo), os.path.abspath(self.path.parent / row.photo)}
        hashes = {row.sha256} - {""}
        return hashes, paths, {name}, {PurePosixPath(name).stem if is_photo_name(name) else name}


def is_photo_name(name: str) -> bool:
    """Whether a name ends in what some photos' names end in."""
    return PurePosixPath(name).suffix.lower() in _PHOTO_EXTENSIONS


def _texts(row: CaptionRow) -> tuple[Any, ...]:
    return row.caption.high, row.caption.low, row.caption.regions
