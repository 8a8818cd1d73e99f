"""How often measured captions say something of known degradations, how often it is right, and how long they take.

    python benchmarks/measured.py --photos FOLDER [--draws 3] [--say FOLDER]

Photos that the shipped recipe holds out of training are degraded as training pairs are, and left clean. For blur,
noise and JPEG and each kind of photo: how often a word is said, how often that is the right one, and how often each
true level (rows) is given which word (columns, the last nothing). Of clean photos: how often they are said to be noisy
or blurred. ``--say`` counts the texts for the photos of a folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from degraded_photos import CLEAN, DEGRADED, NOISY, every_sample
from PIL import Image

from xpsr_cli.captioning.measured import MeasuredCaptioner
from xpsr_cli.photos.photo import Photo, PhotoSource
from xpsr_cli.photos.source import open_photo
from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level, level_of
from xpsr_cli.training.dataset import read_photos, split_photos
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.recipe import load_recipe

EXAMPLE = Path(__file__).parent.parent / "examples" / "photo.jpg"
SIZES = ((512, 512), (1920, 1080), (4000, 3000), (8192, 8192))
SEED = 2000
PHRASES = {"blur": (BLUR, "blur_px"), "noise": (NOISE, "noise"), "JPEG": (JPEG, "jpeg_quality")}


class Told(NamedTuple):
    """What was said of a photo of some kind, and what is true."""

    kind: str
    text: str
    truth: Degradation

    def said(self, levels: Sequence[Level]) -> int:
        """The place of the level whose word is in the text, or the number of levels if none is."""
        words = self.text.split(", ")
        return next((place for place, level in enumerate(levels) if level.words[0] in words), len(levels))


def text_of(captioner: MeasuredCaptioner, photo: PhotoSource) -> str:
    """The low-level text."""
    (caption,) = captioner.describe([captioner.look(photo)])
    return caption.low


def report(name: str, told: list[Told]) -> None:
    """Print how one phrase agrees with the truth."""
    levels, measure = PHRASES[name]
    tables = {kind: np.zeros((len(levels), len(levels) + 1), int) for kind in (*DEGRADED, NOISY)}
    for one in told:
        if one.kind in tables:
            right = levels.index(level_of(levels, getattr(one.truth, measure)))
            tables[one.kind][right, one.said(levels)] += 1
    print(f"{name}: " + ", ".join(level.words[0] for level in levels))
    even = sum(tables[kind] / tables[kind].sum() for kind in DEGRADED)
    for kind, table in {"even mix": even, **tables}.items():
        spoken = table[:, :-1].sum()
        print(f"  {kind:9} says one for {spoken / table.sum():4.0%}, right {np.trace(table) / max(spoken, 1e-9):4.0%}")
        for level, row in zip(levels, tables.get(kind, ()), strict=False):
            print(f"    {level.words[0]:18}" + "".join(f"{count:6}" for count in row))


def report_clean(told: list[Told]) -> None:
    """Print how often clean photos are called something else."""
    for kind in (*CLEAN, "bicubic"):
        texts = [one for one in told if one.kind == kind]
        noisy = np.mean([0 < one.said(NOISE) < len(NOISE) for one in texts])
        soft = np.mean([0 < one.said(BLUR) < len(BLUR) for one in texts])
        print(f"clean, {kind}: said to be noisy {noisy:.1%}, blurred {soft:.1%}")


def count_texts(captioner: MeasuredCaptioner, folder: Path) -> None:
    """Print what is said of the photos of a folder, the most frequent first."""
    texts: Counter[str] = Counter()
    for file in sorted(folder.iterdir()):
        with open_photo(file) as photo:
            texts[text_of(captioner, photo) or "-"] += 1
    for text, count in texts.most_common():
        print(f"{count:6}  {text}")


def time_sizes(captioner: MeasuredCaptioner, folder: Path) -> None:
    """Print CPU seconds for the example enlarged to several sizes, as PNG files, with and without reading."""
    example = Image.open(EXAMPLE).convert("RGB")
    for size in SIZES:
        path = folder / "photo.png"
        example.resize(size, Image.Resampling.BICUBIC).save(path, compress_level=1)
        with open_photo(path) as photo:
            started = time.process_time()
            captioner.look(photo)  # reads the file
            read = time.process_time()
            captioner.look(photo)
            print(f"{size[0]} x {size[1]}: {time.process_time() - read:.3f} s, first {read - started:.3f} s")
        path.unlink()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of large photos, as for training")
    parser.add_argument("--draws", type=int, default=3, help="how often each photo is degraded in each way")
    parser.add_argument("--say", type=Path, help="a folder of photos to count the texts for")
    options = parser.parse_args()

    _, held_out = split_photos(read_photos(options.photos), load_recipe("xpsr-mini"))
    captioner = MeasuredCaptioner()
    told = [
        Told(sample.kind, text_of(captioner, Photo(sample.pixels)), sample.truth)
        for draw in range(options.draws)
        for sample in every_sample(held_out, SEED + draw)
    ]
    print(f"{len(held_out)} photos, {options.draws} draws")
    for name in PHRASES:
        report(name, told)
    report_clean(told)
    if options.say:
        count_texts(captioner, options.say)
    with tempfile.TemporaryDirectory() as folder:
        time_sizes(captioner, Path(folder))


if __name__ == "__main__":
    main()
