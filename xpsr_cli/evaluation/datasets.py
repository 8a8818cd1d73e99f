"""From a name or folders to the pictures that are evaluated: pairs that fit, and a word on all that do not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.known_sets import HR_FOLDERS, KNOWN_SETS, LR_FOLDERS, KnownSet, places_of, side_folder
from xpsr_cli.evaluation.pairing import fitting, photos_in, short_name, sides_of
from xpsr_cli.evaluation.scores import Pair
from xpsr_cli.photos.formats import EXTENSIONS
from xpsr_cli.photos.source import open_photo

ENVIRONMENT = "XPSR_DATASETS"
"""Folders that hold named sets, separated as in ``PATH``."""
USUAL_SCALE = 4


@dataclass(frozen=True)
class SetFolders:
    """Where the small and the large pictures of a set lie; one of them may be absent, and both may be one folder."""

    name: str
    lr: Path | None
    hr: Path | None
    known: KnownSet | None = None


@dataclass(frozen=True)
class Selection:
    """Which pictures of a set are looked at: every n-th, and at most so many of those."""

    every: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("limit", self.limit)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, and 1 is the least.", "Leave it out to take all pictures.")

    def of(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pictures that are looked at."""
        return list(pairs[:: self.every][: self.limit])

    def words(self, count: int) -> str:
        """What it takes of ``count`` pictures; empty if that is all of them."""
        taken = len(range(count)[:: self.every][: self.limit])
        if taken == count:
            return ""
        return f"{taken} of {count} pictures, " + (
            f"every {_ordinal(self.every)}" if self.every > 1 else "the first ones"
        )


@dataclass(frozen=True)
class Rejected:
    """A picture of a set that cannot be used, and why."""

    picture: str
    reason: str


@dataclass(frozen=True)
class FoundPairs:
    """What lies in a set's folders.

    ``pairs`` have sizes that fit. ``to_crop`` names those whose large photo is a few pixels larger than the small one
    times the scale, as in Set14 or BSD100. ``notes`` are sentences on counts and on files without a partner.
    ``other_version`` says that they are not the pictures that papers mean by the name of the set.
    """

    pairs: tuple[Pair, ...]
    scale: float | None
    to_crop: frozenset[str] = frozenset()
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    selection: str = ""
    other_version: bool = False


def find_set(
    name: str, roots: Sequence[Path] = (), scale: int | None = None, environment: Mapping[str, str] = os.environ
) -> SetFolders:
    """The folders of a named set, found under ``roots`` and under those of ``XPSR_DATASETS``.

    ``scale`` chooses among small pictures of several sizes (4). :class:`UsageError` for a name that is not known, and
    for a set that is not here: it says where to get it, and on which terms.
    """
    if name not in KNOWN_SETS:
        raise UsageError(
            f"There is no data set named {name!r}.",
            f"Known: {', '.join(KNOWN_SETS)}; for your own folders give --lr and --hr.",
        )
    known = KNOWN_SETS[name]
    listed = [Path(folder).expanduser() for folder in environment.get(ENVIRONMENT, "").split(os.pathsep) if folder]
    for root in (*roots, *listed):
        if not root.is_dir():
            raise UsageError(f"{root}, where data sets are to be, is no folder.", f"Check --root and {ENVIRONMENT}.")
        for place in places_of(known, root):
            hr, lr = (side_folder(place, names, scale or USUAL_SCALE) for names in (HR_FOLDERS, LR_FOLDERS))
            if hr is not None:
                return SetFolders(name, lr, hr, known)
            if place != root and any(file.suffix.lower() in EXTENSIONS for file in place.iterdir()):
                return SetFolders(name, None, place, known)  # large photos, and nothing else
    where = f" under {', '.join(map(str, (*roots, *listed)))}" if roots or listed else " on this machine"
    raise UsageError(f"The data set {name} is not{where}.", known.how_to_get)


def find_pairs(folders: SetFolders, selection: Selection | None = None) -> FoundPairs:
    """The pictures of a set, their sizes checked by their headers.

    :class:`UsageError` for folders in which nothing belongs together, :class:`PhotoError` where no picture has the
    right size.
    """
    selection = selection or Selection()
    pairs, notes = _named_pairs(folders)
    words = selection.words(len(pairs))
    known = folders.known
    if known is not None and len(pairs) not in known.counts:
        notes.append(f"{known.name} has {' or '.join(map(str, known.counts))} pictures, and here are {len(pairs)}.")
    chosen = selection.of(pairs)
    found = _checked(chosen, notes, words)
    if chosen and not found.pairs:
        more = f" (and {len(found.rejected) - 1} more)" if len(found.rejected) > 1 else ""
        raise PhotoError(f"No picture can be used: {found.rejected[0].reason}{more}", "Check the two folders.")
    if known is None:
        return found
    found = replace(found, other_version=known.reported not in (None, len(pairs)))
    return found if known.side_px is None else _told_version(found, known)


def _told_version(found: FoundPairs, known: KnownSet) -> FoundPairs:
    """With a note where large photos have not the size that those of the set have."""
    first = next((pair.hr for pair in found.pairs if pair.hr is not None), None)
    if first is None or (size := _size(first)) == (known.side_px, known.side_px):
        return found
    note = (
        f"{known.name} has large photos of {known.side_px} x {known.side_px} pixels, and {first} is"
        f" {size[0]} x {size[1]}: this is another version of it."
    )
    return replace(found, notes=(*found.notes, note), other_version=True)


def _named_pairs(folders: SetFolders) -> tuple[list[Pair], list[str]]:
    """Every picture with a name of its own, sorted, and sentences on those without a partner."""
    if folders.lr is None or folders.hr is None:
        side = folders.hr if folders.lr is None else folders.lr
        if side is None:
            raise UsageError("No pictures are named to evaluate on.", "Give --dataset, or --lr and --hr.")
        files = photos_in(side, "folder of pictures")
        named = _names(files)
        sides = [(None, file) if folders.lr is None else (file, None) for file in files]
        return sorted(map(Pair, named, *zip(*sides, strict=True)), key=lambda pair: pair.name), []
    large = photos_in(folders.hr, "folder of large photos")
    small = photos_in(folders.lr, "folder of small photos")
    if folders.lr.resolve() == folders.hr.resolve():
        small, large = sides_of(large)
    by_stem = {file.stem: file for file in large}
    if len(by_stem) < len(large):
        double = next(file for file in large if by_stem[file.stem] is not file)
        raise UsageError(f"{folders.hr} has {double.name} and {by_stem[double.stem].name}.", "Keep one of them.")
    partners = fitting({stem: [stem] for stem in by_stem}, small)
    if not partners:
        raise UsageError(
            f"No picture of {folders.lr} has a partner in {folders.hr}.",
            "Partners have one name, but for endings such as _LR4, _HR or x4.",
        )
    stems = sorted(partners)
    names = _names([by_stem[stem] for stem in stems])
    pairs = [Pair(name, partners[stem], by_stem[stem]) for name, stem in zip(names, stems, strict=True)]
    alone = [by_stem[stem].name for stem in sorted(by_stem.keys() - partners.keys())]
    unused = [file.name for file in small if file not in set(partners.values())]
    notes = [
        f"{_shown(files)} of {folder} {'has' if len(files) == 1 else 'have'} no partner in {other}."
        for files, folder, other in ((alone, folders.hr, folders.lr), (unused, folders.lr, folders.hr))
        if files
    ]
    return sorted(pairs, key=lambda pair: pair.name), notes


def _names(files: Sequence[Path]) -> list[str]:
    """What pictures are called: without their endings, if they can be told apart then, and in full if they must be."""
    stems = [file.stem for file in files]
    ways = ([short_name(stem) for stem in stems], stems, [file.name for file in files])
    return next(names for names in ways if len(set(names)) == len(names))


def _checked(pairs: Sequence[Pair], notes: list[str], words: str) -> FoundPairs:
    """Those that can be read and have the scale of most."""
    rejected: list[Rejected] = []
    scales: dict[str, tuple[int, bool]] = {}
    usable: list[Pair] = []
    for pair in pairs:
        try:
            sizes = [_size(path) for path in (pair.lr, pair.hr) if path is not None]
            if len(sizes) == 2:
                scales[pair.name] = _scale_of(pair, *sizes)
            usable.append(pair)
        except PhotoError as error:
            rejected.append(Rejected(pair.name, error.message))
    if not scales:
        return FoundPairs(tuple(usable), None, rejected=tuple(rejected), notes=tuple(notes), selection=words)
    usual = Counter(scale for scale, _ in scales.values()).most_common(1)[0][0]
    for pair in usable:
        scale = scales[pair.name][0]
        if scale != usual:
            rejected.append(Rejected(pair.name, f"{pair.hr} is {scale} times {pair.lr}, and most are {usual} times."))
    kept = tuple(pair for pair in usable if scales[pair.name][0] == usual)
    to_crop = frozenset(pair.name for pair in kept if scales[pair.name][1])
    if to_crop:
        notes.append(
            f"{len(to_crop)} large photos are cropped at the right and bottom to {usual} times the small one."
        )
    return FoundPairs(kept, float(usual), to_crop, tuple(rejected), tuple(notes), words)


def _size(path: Path) -> tuple[int, int]:
    with open_photo(path) as photo:
        return photo.info.size


def _scale_of(pair: Pair, small: tuple[int, int], large: tuple[int, int]) -> tuple[int, bool]:
    """How many times larger the large one is, and whether it has to be cropped for that."""
    scale = round(large[0] / small[0])
    if scale < 1 or tuple(length // scale for length in large) != small:
        raise PhotoError(
            f"{pair.hr} is {large[0]} x {large[1]} pixels, which is no multiple of the {small[0]} x {small[1]} of"
            f" {pair.lr}."
        )
    return scale, tuple(scale * length for length in small) != large


def _ordinal(number: int) -> str:
    """2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _shown(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
