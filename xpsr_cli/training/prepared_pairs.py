"""Pairs of large and small photos that were prepared before, with their texts, in the folders of the released code.

    dataset_0/HR/SOURCE/NAME.png                     the large photo (sharpened already, where that was wanted)
    dataset_0/LR/SOURCE/NAME.png                     the small one, enlarged to the size of the large one or not
    dataset_0/highlevel_prompt_GT/SOURCE/NAME.txt    what is in the large photo; highlevel_prompt: in the small one
    dataset_0/lowlevel_prompt_q/SOURCE/NAME.txt      how good the small photo is; lowlevel_prompt_q_GT: the large one

Folders for sources are optional, and so are the texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import EXTENSIONS, reason
from xpsr_cli.training.pictures import PhotoFile, Picture
from xpsr_cli.training.training_photo import LeftOut, SmallPhoto, TrainingPhoto, one_line

LARGE, SMALL = "HR", "LR"
HIGH, HIGH_OF_SMALL = "highlevel_prompt_GT", "highlevel_prompt"
LOW, LOW_OF_SMALL = "lowlevel_prompt_q_GT", "lowlevel_prompt_q"
FOLDERS = frozenset({LARGE, SMALL, HIGH, HIGH_OF_SMALL, LOW, LOW_OF_SMALL})


def prepared_pairs(folder: Path, top: Path) -> Iterator[TrainingPhoto | LeftOut]:
    """The pairs in a folder with the folders ``HR`` and ``LR``; what is no pair, or cannot be read, is left out."""
    large, small = _Side.of(folder / LARGE), _Side.of(folder / SMALL)
    for path in (*large.doubles, *small.doubles):
        yield LeftOut(path.relative_to(top).as_posix(), "Another photo has the same name but for its extension.")
    for name in sorted(large.photos.keys() | small.photos.keys()):
        path = large.photos.get(name) or small.photos[name]
        file = path.relative_to(top).as_posix()
        if name not in large.photos or name not in small.photos:
            missing = LARGE if name not in large.photos else SMALL
            yield LeftOut(file, f"{folder / missing} has no photo of this name.")
            continue
        try:
            yield _pair(folder, name, file, large.photos[name], small.photos[name])
        except PhotoError as error:
            yield LeftOut(file, error.message)


@dataclass
class _Side:
    """The photos of one side by their names without extension, and those whose name was taken."""

    photos: dict[str, Path] = field(default_factory=dict)
    doubles: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> _Side:
        side = cls()
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder)
            if path.suffix.lower() not in EXTENSIONS or any(part.startswith(".") for part in place.parts):
                continue
            if side.photos.setdefault(place.with_suffix("").as_posix(), path) != path:
                side.doubles.append(path)
        return side


def _pair(folder: Path, name: str, file: str, large_file: Path, small_file: Path) -> TrainingPhoto:
    large, small = Picture.at(PhotoFile(large_file)), Picture.at(PhotoFile(small_file))
    scale = large.width // small.width
    if scale < 1 or (scale * small.width, scale * small.height) != (large.width, large.height):
        raise PhotoError(
            f"{large_file} is {large.width} x {large.height} pixels, which is no multiple of the"
            f" {small.width} x {small.height} of {small_file}."
        )

    def text(kind: str) -> str:
        return _text(folder / kind / f"{name}.txt")

    return TrainingPhoto(
        file=file,
        picture=large,
        photo_id=large_file.stem,
        category="",
        high=text(HIGH) or text(HIGH_OF_SMALL),
        low=text(LOW),
        small=SmallPhoto(small, scale, text(LOW_OF_SMALL)),
    )


def _text(path: Path) -> str:
    """The text of a file as one line, empty where there is no file."""
    try:
        return one_line(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise PhotoError(f"{path} cannot be read: {why}.") from None
