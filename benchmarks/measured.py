"""How well measured captions tell degradations that are known, and how long they take.

    python benchmarks/measured.py --photos FOLDER [--draws 6] [--crop 512]

Photos that the shipped recipe holds out of training are degraded as training pairs are. For blur, noise and JPEG, and
for pairs of one stage, of two, and mixed: Spearman's rank correlation of measure and truth, how often the level is the
right one or next to it, and how often each true level (rows) is given which word (columns).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from xpsr_cli.captioning.measured import MeasuredCaptioner, Measurements
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import open_photo
from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level
from xpsr_cli.training.dataset import SCALE, TrainingPhoto, read_photos, split_photos
from xpsr_cli.training.degradation import Degradation, degrade
from xpsr_cli.training.recipe import load_recipe

EXAMPLE = Path(__file__).parent.parent / "examples" / "photo.jpg"
SIZES = ((512, 512), (1920, 1080), (4000, 3000), (8192, 8192))


def draw(photos: list[TrainingPhoto], draws: int, crop: int, two_stages: bool) -> list[tuple[np.ndarray, Degradation]]:
    """Every photo ``draws`` times: a random crop, degraded, and what was done to it."""
    generator = np.random.default_rng([crop, two_stages])
    pairs = []
    for photo in photos * draws:
        top, left = (generator.integers(side - crop + 1) for side in photo.pixels.shape[:2])
        large = photo.pixels[top : top + crop, left : left + crop].astype(np.float32) / 255
        pairs.append(degrade(large, generator, scale=SCALE, second_order_probability=float(two_stages)))
    return pairs


def report(name: str, levels: tuple[Level, ...], measured: list[float], true: list[float]) -> None:
    """Print how a measure agrees with the truth."""
    limits = [level.below for level in levels[:-1]]
    said, right = (np.searchsorted(limits, values, side="right") for values in (measured, true))
    table = np.zeros((len(levels), len(levels)), int)
    np.add.at(table, (right, said), 1)
    rank = spearmanr(measured, true).statistic if len(set(true)) > 1 else float("nan")
    away = np.abs(said - right)
    print(
        f"  {name:6} rank correlation {rank:.2f}, level {np.mean(away == 0):.0%}, within one {np.mean(away <= 1):.0%}"
    )
    for level, row in zip(levels, table, strict=True):
        print(f"    {level.words[0]:18}" + "".join(f"{count:6}" for count in row))


def compare(title: str, looks: list[Measurements], truths: list[Degradation]) -> None:
    """Print all three measures of some pairs."""
    print(f"{title}: {len(looks)} photos")
    report("blur", BLUR, [look.blur_px for look in looks], [truth.blur_px for truth in truths])
    report("noise", NOISE, [look.noise for look in looks], [truth.noise for truth in truths])
    report("JPEG", JPEG, [look.jpeg_quality for look in looks], [truth.jpeg_quality for truth in truths])


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
    parser.add_argument("--draws", type=int, default=6, help="how often each photo is degraded in each way")
    parser.add_argument("--crop", type=int, default=512, help="side of the crops before they are shrunk, in pixels")
    options = parser.parse_args()

    recipe = load_recipe("xpsr-mini")
    share = recipe.data.degradations.get("xpsr", 0.0)
    _, held_out = split_photos(read_photos(options.photos), recipe)
    captioner = MeasuredCaptioner()
    kinds = []
    for title, two_stages in (("one stage", False), ("two stages", True)):
        pairs = draw(held_out, options.draws, options.crop, two_stages)
        started = time.process_time()
        looks = [captioner.look(Photo(small)) for small, _ in pairs]
        seconds = time.process_time() - started
        kinds.append((looks, [truth for _, truth in pairs]))
        compare(title, *kinds[-1])
        print(f"  {seconds / len(pairs):.3f} s of CPU time each")
    (one, one_true), (two, two_true) = kinds
    some = slice(0, round(len(one) * share / (1 - share)))
    compare("mixed as in training", one + two[some], one_true + two_true[some])
    with tempfile.TemporaryDirectory() as folder:
        time_sizes(captioner, Path(folder))


if __name__ == "__main__":
    main()
