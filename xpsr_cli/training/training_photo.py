"""A photo to train on and what is known about it, and the photos that are left out and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from xpsr_cli.photos.photo import Pixels
from xpsr_cli.training.pictures import Picture
from xpsr_cli.training.words import CATEGORIES

UNKNOWN_CATEGORY = "object"


@dataclass(frozen=True)
class SmallPhoto:
    """The small photo of a prepared pair: degraded by somebody else before the training."""

    picture: Picture
    scale: int  # how much smaller it is than the large photo; 1 when it was enlarged already
    low: str = ""  # how it is degraded


@dataclass(frozen=True)
class TrainingPhoto:
    """A large photo with what is known about it."""

    file: str  # its name below the folder, or in the shard
    picture: Picture
    photo_id: str  # crops of one photograph share it
    category: str = ""  # empty: nothing is known of the content
    name: str = ""  # words of the file name
    high: str = ""  # what is in it, where a text came with it
    low: str = ""  # how good the large photo itself is, where a text came with it
    small: SmallPhoto | None = None  # of a prepared pair; without it the photo is degraded on the fly

    @property
    def pixels(self) -> Pixels:
        """(H, W, 3) uint8; read anew each time unless the photo is kept in memory."""
        return self.picture.pixels()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The large one, and the small one of a pair."""
        return (self.picture,) if self.small is None else (self.picture, self.small.picture)

    @property
    def size_bytes(self) -> int:
        """Memory that the pixels take."""
        return sum(picture.size_bytes for picture in self.pictures)

    @property
    def is_kept(self) -> bool:
        """Whether the pixels are in memory."""
        return all(picture.kept is not None for picture in self.pictures)

    def in_memory(self) -> TrainingPhoto:
        """The same photo with its pixels kept; :class:`~xpsr_cli.errors.PhotoError` if they are damaged."""
        small = self.small and replace(self.small, picture=self.small.picture.in_memory())
        return replace(self, picture=self.picture.in_memory(), small=small)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not trained on."""

    file: str
    reason: str
    too_small: bool = False


def one_line(text: str) -> str:
    """The text without line breaks, and without halves of characters, which JSON can hold."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def known_category(category: str) -> str:
    """The category, if it is one that training has a word for, or none."""
    return category if category in ("", *CATEGORIES) else UNKNOWN_CATEGORY


def from_manifest(file: str, picture: Picture, row: Mapping[str, str | None], photo_id: str) -> TrainingPhoto:
    """A photo with what its row of ``MANIFEST.csv`` says; ``photo_id`` stands in where the row has none."""
    words = re.sub(r"[^a-z ]+", " ", (row.get("caption_from_filename") or "").lower())
    return TrainingPhoto(
        file=file,
        picture=picture,
        photo_id=row.get("photo_id") or photo_id,
        category=known_category(row.get("category") or ""),
        name=" ".join(word for word in words.split() if len(word) > 2)[:60],
    )
