"""What `xpsr explore` can be trusted with, measured on files it has saved.

    python benchmarks/explore.py PHOTOS [--prior xpsr-explore] [--pictures 20] [--only words] [--keep FOLDER]

Photos (a folder; only measured, never kept) are cut to squares of 256 pixels and reduced x4, x8, x16 and x32. Of what
is drawn for these small files, by part:

agreement   PSNR of the saved PNG, reduced by Pillow in floats, to the small file; before the repair; what that changed
diversity   eight seeds at x16 and x4: standard deviation at a pixel, mean distance of pairs, and that of pairs of
            pictures of the same prompt that have nothing to do with each other
words       two opposite prompts, same seeds. judged: how often the judge, which did not steer, finds that a picture
            fits its own prompt better than the other; swapped: how often it finds that the swap moved the picture from
            one prompt to the other; measured: how often measured detail was moved in the direction asked for
truth       prompts that contradict the picture at x2
repeats     the same seed alone and among others, and the seconds of the command for eight answers 16 -> 256 pixels
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xpsr_cli.device import choose_placement
from xpsr_cli.exploring.answers import Answer, AnswerFiles
from xpsr_cli.exploring.diversity import distances, mean_std
from xpsr_cli.exploring.given import read_given
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.prior_loading import load_prior
from xpsr_cli.exploring.priors import Prior, Request
from xpsr_cli.exploring.text_score import JUDGE
from xpsr_cli.photos.source import open_photo
from xpsr_cli.progress import SilentProgress
from xpsr_cli.settings import Precision
from xpsr_cli.training.detail_words import COARSE, DETAILED, FINE, HORIZONTAL, SMOOTH, VERTICAL, detail_of

SIDE = 256
SCALES = (4, 8, 16, 32)
OPPOSITES = ((SMOOTH, DETAILED), (HORIZONTAL, VERTICAL), (COARSE, FINE))
SUBJECTS = (("water", "building"), ("plant", "building"), ("sky", "texture"))
ALTERNATIVES = (*OPPOSITES, *SUBJECTS)


@dataclass
class Bench:
    """The prior, the photos (256, 256, 3) and a folder for files."""

    prior: Prior
    photos: list[np.ndarray]
    folder: Path
    text_guidance: float = 0.0

    def small(self, number: int, scale: float) -> Path:
        """The file of a photo, reduced."""
        path = self.folder / f"small-{number}-x{scale:g}.png"
        if not path.exists():
            side = round(SIDE / scale)
            Image.fromarray(self.photos[number]).resize((side, side), Image.Resampling.BICUBIC).save(path)
        return path

    def draw(self, number: int, scale: float, prompt: str = "", seed: int = 0) -> Answer:
        """An answer to a photo reduced ``scale`` times, saved and read again."""
        small, options = self.small(number, scale), ExploreOptions(energy_weight=self.text_guidance)
        with open_photo(small, least_side_px=1) as source:
            files = AnswerFiles(read_given(source, small), (SIDE, SIDE), self.prior, options)
        place = self.folder / f"{number}-x{scale:g}-{prompt.replace(' ', '_') or 'none'}-{seed}.png"
        request = Request(prompt, seed=seed)
        return files.find(request, place) or files.draw(request, place, SilentProgress())


def saved_db(answer: Path, small: Path) -> float:
    """PSNR between a small file and what Pillow reduces the saved answer to, channel by channel in floats."""
    given = np.asarray(Image.open(small).convert("RGB"), np.float64)
    size = (given.shape[1], given.shape[0])
    large = np.asarray(Image.open(answer).convert("RGB"), np.float32)
    channels = [Image.fromarray(large[..., c]).resize(size, Image.Resampling.BICUBIC) for c in range(3)]
    error = np.mean((np.stack([np.asarray(c, np.float64) for c in channels], -1) - given) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def agreement(bench: Bench) -> None:
    print(f"{'agreement':>10} {'lowest dB':>10} {'median':>8} {'raw dB':>8} {'repair':>8}  pictures")
    for scale in SCALES:
        answers = [(bench.small(n, scale), bench.draw(n, scale)) for n in range(len(bench.photos))]
        final = [saved_db(answer.file, small) for small, answer in answers]
        raw, repair = (
            np.median([getattr(answer.agreement, name) for _, answer in answers]) for name in ("raw_db", "repair_rms")
        )
        print(f"{f'x{scale}':>10} {min(final):10.1f} {np.median(final):8.1f} {raw:8.1f} {repair:8.4f}  {len(final)}")


def diversity(bench: Bench) -> None:
    print(f"{'diversity':>10} {'std':>8} {'pairs':>8} {'unrelated':>10}")
    for scale in (4, 16):
        rows = [[bench.draw(n, scale, "", seed).pixels for seed in range(8)] for n in range(min(6, len(bench.photos)))]
        small_px = SIDE // scale
        pairs = np.mean([distances(row, small_px)[np.triu_indices(8, 1)].mean() for row in rows])
        unrelated = distances([row[0] for row in rows], small_px)[np.triu_indices(len(rows), 1)].mean()
        print(f"{f'x{scale}':>10} {np.mean([mean_std(row) for row in rows]):8.4f} {pairs:8.4f} {unrelated:10.4f}")


def moved(first: np.ndarray, second: np.ndarray, pair: int) -> bool:
    """Whether the second picture has more of what a pair of opposites is about, at the size they were learnt at."""
    measured = []
    for pixels in (first, second):
        picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
        smaller = picture.resize((16, 16), Image.Resampling.BICUBIC)
        measured.append(detail_of(picture, smaller.resize((64, 64), Image.Resampling.BILINEAR))[pair])
    return measured[1] > measured[0]


def words(bench: Bench) -> None:
    judge = bench.prior.scorers[JUDGE]
    print(f"{'words':>36} {'judged':>8} {'swapped':>8} {'measured':>9}  pictures")
    for scale in (8, 16, 32):
        shares: dict[bool, list[list[bool]]] = {True: [[], [], []], False: [[], [], []]}
        for index, pair in enumerate(ALTERNATIVES):
            fits, swapped, measured = shares[pair in OPPOSITES]
            begins = [len(found) for found in shares[pair in OPPOSITES]]
            for number in range(min(5, len(bench.photos))):
                drawn = [bench.draw(number, scale, prompt).pixels for prompt in pair]
                first, second = (judge.fit(pixels, pair) for pixels in drawn)
                fits += [first[0] > first[1], second[1] > second[0]]
                swapped.append(first[0] - first[1] > second[0] - second[1])
                if pair in OPPOSITES:
                    measured.append(moved(drawn[0], drawn[1], index))
            found = [some[begin:] for some, begin in zip(shares[pair in OPPOSITES], begins, strict=True)]
            tell(f"x{scale} {pair[0]} / {pair[1]}", found)
        tell(f"x{scale} all detail", shares[True])
        tell(f"x{scale} all subjects", shares[False])


def tell(name: str, found: list[list[bool]]) -> None:
    """A line of the table of words: shares of what was judged, swapped and, where it can be, measured."""
    cells = [f"{np.mean(some):.2f}" if some else "" for some in found]
    print(f"{name:>36} {cells[0]:>8} {cells[1]:>8} {cells[2]:>9}  {len(found[1])}", flush=True)


def truth(bench: Bench) -> None:
    prompts = list(itertools.chain(*ALTERNATIVES))
    lowest = [
        saved_db(bench.draw(n, 2, prompts[n % len(prompts)]).file, bench.small(n, 2))
        for n in range(min(6, len(bench.photos)))
    ]
    print(f"{'truth':>10} x2, prompts that may contradict: lowest {min(lowest):.1f} dB of {len(lowest)}")


def explored(small: Path, prior: str, output: Path, samples: int) -> float:
    """Seconds that the command takes."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "xpsr_cli", "explore", small, "--prompt", "water", "--prior", prior, "-q"]
    subprocess.run([*command, "--samples", str(samples), "-o", output], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def repeats_and_time(bench: Bench, prior: str) -> None:
    small = bench.small(0, 16)
    explored(small, prior, bench.folder / "one", 1)
    seconds = explored(small, prior, bench.folder / "eight", 8)
    hashes = {
        hashlib.sha256((bench.folder / run / "prompt1-seed0.png").read_bytes()).hexdigest() for run in ("one", "eight")
    }
    print(
        f"{'repeats':>10} seed 0 alone and among eight: {'the same bytes' if len(hashes) == 1 else 'DIFFERENT BYTES'}"
    )
    print(f"{'time':>10} eight answers 16 -> 256 pixels: {seconds:.1f} s, {torch.get_num_threads()} threads")


def squares(folder: Path, count: int) -> Iterator[np.ndarray]:
    """The middle of photos in a folder, (256, 256, 3), spread over their names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    for path in files[:: max(1, len(files) // count)][:count]:
        photo = Image.open(path).convert("RGB")
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        square = photo.crop((left, top, left + side, top + side))
        yield np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


MEASURES = {"agreement": agreement, "diversity": diversity, "words": words, "truth": truth}
PARTS = (*MEASURES, "repeats")


def run(bench: Bench, parts: Sequence[str], prior: str) -> None:
    for name, measure in MEASURES.items():
        if name in parts:
            measure(bench)
    if "repeats" in parts:
        repeats_and_time(bench, prior)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--prior", default="xpsr-explore")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--text-guidance", type=float, default=0.0)
    parser.add_argument("--keep", type=Path, help="where to leave the pictures")
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior, choose_placement("cpu", Precision.AUTO))
    photos = list(squares(arguments.photos, arguments.pictures))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        run(Bench(prior, photos, folder, arguments.text_guidance), arguments.only or PARTS, arguments.prior)


if __name__ == "__main__":
    main()
