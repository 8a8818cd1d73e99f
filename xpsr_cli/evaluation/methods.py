"""What is compared: plain resampling, folders of anybody's pictures, and the pictures of models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.baseline import Baseline
from xpsr_cli.evaluation.made_pictures import made_pictures
from xpsr_cli.evaluation.pairing import fitting, photos_in
from xpsr_cli.evaluation.scored_pictures import read_picture
from xpsr_cli.evaluation.scores import EvaluationSet, Failure
from xpsr_cli.photos.photo import Pixels
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.settings import output_size

_SEED_FOLDER = re.compile(r"seed-(\d+)")


@dataclass(frozen=True)
class Method:
    """The pictures of one method, by seed and picture. ``failures`` are those that are not there, with the reason."""

    name: str
    results: Mapping[tuple[int, str], Path]
    seeds: tuple[int, ...] = (0,)
    about: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


def pictures_folder(output: Path, method: str, seed: int = 0) -> Path:
    """Where the pictures of a method lie that an evaluation makes itself."""
    return output / "predictions" / method / f"seed-{seed}"


def named_path(words: str) -> tuple[str, Path]:
    """``NAME=DIR`` or ``DIR`` to a method's name and its folder; without a name it is that of the folder."""
    name, equals, folder = words.partition("=")
    if not equals or "/" in name or "\\" in name or Path(words).exists():
        return Path(words).expanduser().resolve().name, Path(words).expanduser()
    return name, Path(folder).expanduser()


def check_names(names: Sequence[str]) -> None:
    """:class:`UsageError` for two methods of one name, or a name that cannot be that of a folder."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError(f"Two methods are called {name}.", "Give one of them another name, as in other=FOLDER.")
        if not name or name.startswith(".") or re.search(r'[/\\:*?"<>|\x00-\x1f]', name):
            raise UsageError(f"A method cannot be called {name!r}.", "Give it another name, as in other=FOLDER.")


def resampled(
    pictures: EvaluationSet,
    baseline: Baseline,
    scale: float,
    output: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Method:
    """The small photos enlarged by Pillow, written as PNG as everybody's are."""
    progress = progress or SilentProgress()
    results: dict[tuple[int, str], Path] = {}
    failures = []
    making = {"baseline": baseline.value, "scale": scale, "pillow": pillow_version}
    progress.stage(baseline.value, len(pictures.pairs))
    with made_pictures(pictures_folder(output, baseline.value), overwrite=overwrite) as made:
        for pair in pictures.pairs:
            if pair.lr is None:
                raise UsageError(
                    f"{baseline.value} needs small photos, and there are none.", "Give --lr or --degrade."
                )
            try:
                draw = partial(_resample, pair.lr, baseline, scale)
                results[0, pair.name] = made.make(pair.lr, pair.name, making, draw)
            except PhotoError as error:
                failures.append(Failure(baseline.value, 0, pair.name, error.message))
            progress.advance()
    about = {"kind": "baseline", "resampling": f"Pillow {pillow_version} {baseline.value}"}
    return Method(baseline.value, results, about=about, failures=tuple(failures))


def _resample(path: Path, baseline: Baseline, scale: float) -> Pixels:
    small = Image.fromarray(read_picture(path).pixels)
    return np.asarray(small.resize(output_size(*small.size, scale), Image.Resampling[baseline.name]))


def predicted(pictures: EvaluationSet, name: str, folder: Path, *, whole: bool = True) -> Method:
    """The pictures of a folder, matched by their names; folders ``seed-0``, ``seed-1`` in it are several runs.

    ``whole`` says that the set is not a part of a larger one, so that pictures which fit nothing are worth a word.
    :class:`UsageError` for a folder in which no picture is one of the set.
    """
    runs = _seed_folders(folder)
    stems = {
        pair.name: [pair.name, *(path.stem for path in (pair.hr, pair.lr) if path is not None)]
        for pair in pictures.pairs
    }
    results: dict[tuple[int, str], Path] = {}
    failures, notes = [], []
    for seed, place in runs.items():
        files = photos_in(place, f"folder of pictures of {name}")
        found = fitting(stems, files)
        results |= {(seed, picture): path for picture, path in found.items()}
        failures += [
            Failure(name, seed, picture, f"{place} has no picture of this name.")
            for picture in stems
            if picture not in found
        ]
        unused = len(files) - len(found)
        if unused and whole:
            notes.append(f"{unused} pictures of {place} fit none of the set, and are left out.")
    if not results:
        raise UsageError(
            f"No picture of {folder} is one of {pictures.name}.",
            f"They are called {', '.join(list(stems)[:2])} ..., whatever follows that.",
        )
    about = {"kind": "predictions", "folder": str(folder)}
    return Method(name, results, tuple(runs), about, tuple(failures), tuple(notes))


def _seed_folders(folder: Path) -> dict[int, Path]:
    if folder.is_dir():
        named = ((_SEED_FOLDER.fullmatch(entry.name), entry) for entry in sorted(folder.iterdir()) if entry.is_dir())
        if seeds := {int(found[1]): entry for found, entry in named if found}:
            return dict(sorted(seeds.items()))
    return {0: folder}
