"""A set as it is evaluated: large photos cropped where they must be, small ones made where there are none.

What is made lies in the output folder (``inputs/hr``, ``inputs/lr``): others can be compared on the same files.
"""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.datasets import FoundPairs, Rejected, SetFolders
from xpsr_cli.evaluation.made_pictures import MadePictures, made_pictures
from xpsr_cli.evaluation.scored_pictures import read_picture
from xpsr_cli.evaluation.scores import EvaluationSet, Pair
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.photo import Pixels
from xpsr_cli.progress import Progress, SilentProgress

Degrade = Callable[[Pixels, Sequence[int]], Pixels]
"""Makes the small picture of a large one, with all that is random drawn from a few numbers."""


@dataclass(frozen=True)
class Degradation:
    """How small photos are made of large ones. What is drawn for a photo depends on the seed and its name alone."""

    name: str
    seed: int
    scale: int
    degrade: Degrade

    def small(self, picture: str, large: Pixels) -> Pixels:
        """The small picture of a large one whose sides are multiples of the scale."""
        digest = hashlib.sha256(picture.encode(errors="surrogateescape")).digest()
        return self.degrade(large, [self.seed, int.from_bytes(digest[:8], "little")])


@dataclass(frozen=True)
class PreparedSet:
    """A set that can be evaluated, what of it cannot, and what there is to be said of it."""

    set: EvaluationSet
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()


def prepare_set(
    folders: SetFolders,
    found: FoundPairs,
    output: Path,
    degradation: Degradation | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PreparedSet:
    """Make what a set lacks, in ``output``, and put down what it is.

    ``overwrite`` replaces what was made with other choices; without it that is a
    :class:`~xpsr_cli.errors.UsageError`. :class:`PhotoError` where no photo can be prepared.
    """
    progress = progress or SilentProgress()
    pairs, rejected, notes = list(found.pairs), list(found.rejected), list(found.notes)
    scale = found.scale
    with ExitStack() as stack:

        def made(name: str) -> MadePictures:
            return stack.enter_context(made_pictures(output / "inputs" / name, overwrite=overwrite))

        if found.to_crop or degradation is not None:
            large = made("hr")
        if found.to_crop and scale is not None:
            names = found.to_crop
            pairs = [_cropped(pair, large, round(scale)) if pair.name in names else pair for pair in pairs]
        if degradation is not None:
            scale, small = float(degradation.scale), made("lr")
            progress.stage("making the small photos", len(pairs))
            pairs = list(_degraded(pairs, large, small, degradation, rejected, progress))
            if rejected and not pairs:
                raise PhotoError(f"No small photo can be made: {rejected[0].reason}")
    about = {
        "small photos": str(folders.lr or (output / "inputs" / "lr" if degradation else "none")),
        "large photos": str(folders.hr or "none"),
        "pictures": str(len(pairs)),
        "sha256": _hash_of(pairs),
    }
    if found.selection:
        about["selection"] = found.selection
    if degradation is not None:
        about |= {"degradation": degradation.name, "degradation seed": str(degradation.seed)}
    name = folders.name if degradation is None else f"{folders.name} ({degradation.name}, seed {degradation.seed})"
    known = folders.known.name if folders.known and degradation is None and not found.other_version else None
    return PreparedSet(EvaluationSet(name, tuple(pairs), scale, about, known), tuple(rejected), tuple(notes))


def _cropped(pair: Pair, made: MadePictures, scale: int) -> Pair:
    """The pair with a large photo that is exactly so many times the small one."""
    assert pair.hr is not None
    assert pair.lr is not None
    width, height = (scale * length for length in read_picture(pair.lr).size)
    how = {"crop": [width, height]}
    return replace(pair, hr=made.make(pair.hr, pair.name, how, partial(_corner, pair.hr, width, height)))


def _degraded(
    pairs: Sequence[Pair],
    large: MadePictures,
    small: MadePictures,
    how: Degradation,
    rejected: list[Rejected],
    progress: Progress,
) -> Iterator[Pair]:
    """Every pair with a small photo; those that cannot be read go to ``rejected``."""
    for pair in pairs:
        assert pair.hr is not None
        try:
            width, height = read_picture(pair.hr).size
            width, height, hr = width // how.scale * how.scale, height // how.scale * how.scale, pair.hr
            if not (width and height):
                raise PhotoError(f"{pair.hr} is too small to be made {how.scale} times smaller.")
            if (width, height) != read_picture(pair.hr).size:
                hr = large.make(hr, pair.name, {"crop": [width, height]}, partial(_corner, hr, width, height))
            making = {"degradation": how.name, "seed": how.seed, "scale": how.scale}
            lr = small.make(hr, pair.name, making, partial(_small, how, pair.name, hr))
        except PhotoError as error:
            rejected.append(Rejected(pair.name, error.message))
        else:
            yield replace(pair, lr=lr, hr=hr)
        progress.advance()


def _small(how: Degradation, picture: str, hr: Path) -> Pixels:
    return how.small(picture, read_picture(hr).pixels)


def _corner(path: Path, width: int, height: int) -> Pixels:
    """The top left of a picture."""
    return read_picture(path).pixels[:height, :width]


def _hash_of(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the files of a set, in order."""
    lines = (f"{hash_file(path)}  {pair.name}\n" for pair in pairs for path in (pair.lr, pair.hr) if path is not None)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
