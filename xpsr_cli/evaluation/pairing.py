"""Which files of two folders belong together, by their names and the endings that small, large and made ones carry."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from xpsr_cli.errors import UsageError
from xpsr_cli.photos.inputs import find_photos

_ENDING = re.compile(
    r"(?ix) (?: _SRF_?\d (?: _(?:HR|LR) )? | _(?:HR|LR|GT|LQ|HQ|SR) (?: _?x?\d )? | _?bicLRx\d | _x\d ) $"
)
_PLAIN_ENDING = re.compile(r"(?i)x[2-8]$")  # babyx4, which may just as well be a name
_SIDE = re.compile(r"(?i)_(HR|LR)\d?$")
_SEPARATORS = "_-. "


def short_name(stem: str) -> str:
    """What a picture is called without the ending that says which one of a pair it is: ``Canon_001_LR4``, ``0801_x4``.

    A stem that is nothing but an ending stays as it is.
    """
    return _ENDING.sub("", stem) or stem


def photos_in(folder: Path, what: str) -> list[Path]:
    """The photos of a folder, sorted; :class:`UsageError` for what is no folder. ``what`` is what it is called."""
    if not folder.is_dir():
        state = "is no folder" if folder.exists() else "does not exist"
        raise UsageError(f"{folder}, the {what}, {state}.", "Check the name.")
    return find_photos([folder])


def sides_of(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The small and the large ones of a folder that holds both, told by ``_LR`` (``_LR4``) and ``_HR``."""
    sides: dict[str, list[Path]] = {"LR": [], "HR": []}
    for file in files:
        if found := _SIDE.search(file.stem):
            sides[found[1].upper()].append(file)
    return sides["LR"], sides["HR"]


def fitting(names: Mapping[str, Sequence[str]], files: Sequence[Path]) -> dict[str, Path]:
    """The file of each picture: the one with its stem, else with its short name, else whose stem begins with it.

    ``names`` are the stems that each picture goes by. Pictures without a file are left out, and so are files that
    could be those of several pictures. :class:`UsageError` where two files could be that of one.
    """
    found: dict[str, Path] = {}
    left = list(files)
    for names_of_file in (_whole, _short, _plain, _beginnings):
        owners: dict[str, set[str]] = defaultdict(set)
        for picture, stems in names.items():
            for stem in stems if picture not in found else ():
                owners[stem if names_of_file is _whole else short_name(stem)].add(picture)
        taken: dict[str, list[Path]] = defaultdict(list)
        for file in left:
            wanted = next((owners[name] for name in names_of_file(file.stem) if name in owners), set())
            if len(wanted) == 1:
                taken[next(iter(wanted))].append(file)
        for picture, candidates in taken.items():
            if len(candidates) > 1:
                shown = " and ".join(file.name for file in candidates[:2])
                raise UsageError(f"{candidates[0].parent} has {shown} for the picture {picture}.", "Keep one of them.")
            found[picture] = candidates[0]
            left.remove(candidates[0])
    return found


def _whole(stem: str) -> list[str]:
    return [stem]


def _short(stem: str) -> list[str]:
    return [short_name(stem)]


def _plain(stem: str) -> list[str]:
    return [_PLAIN_ENDING.sub("", stem)]


def _beginnings(stem: str) -> list[str]:
    """What stands in front of each separator, the longest first: ``baby_x4_mine`` gives ``baby_x4`` and ``baby``."""
    cuts = [place for place, letter in enumerate(stem) if letter in _SEPARATORS and place]
    return [name for cut in reversed(cuts) for name in (stem[:cut], _PLAIN_ENDING.sub("", stem[:cut]))]
