"""How fast training pairs are degraded, and how blur, noise and JPEG quality are distributed.

    python benchmarks/degradation.py [--photos FOLDER] [--size 512] [--pairs 96] [--workers 2] [--plot out.png]

Pairs a second that ``--workers`` processes make, one sample at a time as in training, and one process makes in batches
with torch's threads; and the CPU time of a pair. ``xpsr, plain`` makes the same draws as the released code does it:
21 x 21 convolutions, and torch's Poisson noise with its scale from the number of distinct values. ``--plot`` draws
histograms for 2,000 small crops: what the ``xpsr`` preset draws, with the height that its table promises; and what was
done to the photos in all, with the limits of the words for it and the share of each word. Without ``--photos`` the
example photo is used.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level, level_of
from xpsr_cli.training.degradation import Degradation, Degraded, Degrader, Draw
from xpsr_cli.training.degradation_steps import Blur, Jpeg, Noise, Sizes
from xpsr_cli.training.recipe import load_recipe

EXAMPLE = Path(__file__).parent.parent / "examples" / "photo.jpg"
SCALE = 4
BATCH = 16
RED = "#aa3333"
ROWS = {
    "xpsr": Degrader({"xpsr": 1.0}),
    "xpsr, sharpened": Degrader({"xpsr": 1.0}, sharpen=True),
    "light": Degrader({"light": 1.0}),
    "bicubic": Degrader({"bicubic": 1.0}),
    "as shipped": Degrader(load_recipe("xpsr-mini").data.degradations),
}
WIDTH, HEIGHT = 420, 200


def crops(folder: Path | None, size: int, count: int) -> Tensor:
    """(count, 3, size, size) in [0, 1], of the photos in turn."""
    files = sorted(file for file in folder.iterdir() if file.suffix != ".csv") if folder else [EXAMPLE]
    photos = []
    for file in files[:count]:
        image = Image.open(file).convert("RGB")
        grow = max(1.0, size / min(image.size))
        photos.append(np.asarray(image.resize((round(image.width * grow), round(image.height * grow)))))
    rng = np.random.default_rng(0)
    cut = []
    for index in range(count):
        photo = photos[index % len(photos)]
        top, left = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
        cut.append(torch.from_numpy(photo[top : top + size, left : left + size].copy()).permute(2, 0, 1))
    return torch.stack(cut).float() / 255


def plain(photo: Tensor, draw: Draw) -> Tensor:
    """One small photo, with the operations of the released code."""
    height, width = photo.shape[1:]
    sizes, done = Sizes((height, width), (height // SCALE, width // SCALE)), Degradation()
    for step in draw.steps:
        if isinstance(step, Blur):
            kernel = torch.from_numpy(step.kernel.weights()).expand(3, 1, -1, -1)
            photo = F.conv2d(F.pad(photo[None], (10, 10, 10, 10), mode="reflect"), kernel, groups=3)[0]
        elif isinstance(step, Noise) and step.kind == "poisson":
            light = (photo.clamp(0, 1) * 255).round() / 255
            light = light.mean(dim=0, keepdim=True) if step.grey else light
            values = 2 ** np.ceil(np.log2(len(torch.unique(light))))
            counts = torch.poisson(light * values, generator=torch.Generator().manual_seed(step.seed))
            photo = (photo + (counts / values - light) * step.strength).clamp(0, 1)
        else:
            photo = step.apply(photo, sizes, done)
    return photo.clamp(0, 1)


class Pairs(Dataset):
    """Small photos, one at a time, as workers of a training run make them."""

    def __init__(self, photos: Tensor, degrader: Degrader, *, plainly: bool) -> None:
        self.photos = photos
        self.degrader = degrader
        self.plainly = plainly

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        """The small photo and the CPU seconds it took."""
        started = time.process_time()
        draw = self.degrader.draw([1, index])
        if self.plainly:
            small = plain(self.photos[index], draw)
        else:
            small = self.degrader(self.photos[index : index + 1], [draw]).small_01[0]
        return small, time.process_time() - started


def measure(name: str, photos: Tensor, degrader: Degrader, workers: int, *, plainly: bool = False) -> None:
    """Print one line of the table."""
    pairs = iter(DataLoader(Pairs(photos, degrader, plainly=plainly), batch_size=None, num_workers=workers))
    next(pairs)  # the workers run
    started = time.perf_counter()
    seconds = [cpu for _, cpu in pairs]
    rate = len(seconds) / (time.perf_counter() - started)
    batched = ""
    if not plainly:
        started = time.perf_counter()
        for first in range(0, len(photos), BATCH):
            batch(degrader, photos, first, BATCH)
        batched = f"{len(photos) / (time.perf_counter() - started):8.1f}"
    print(f"{name:16} {rate:8.1f} {batched:>8} {1000 * np.mean(seconds):8.1f} ms", flush=True)


def batch(degrader: Degrader, photos: Tensor, first: int, count: int) -> Degraded:
    """Some of the photos from the ``first`` on, degraded."""
    some = photos[first : first + count]
    return degrader(some, [degrader.draw([2, first + place]) for place in range(len(some))])


def plot(photos: Tensor, path: Path) -> None:
    """Two rows of what is drawn for ``xpsr``, then a row for each preset of what was done to photos in all."""
    draws = [ROWS["xpsr"].draw([2, index]) for index in range(len(photos))]
    panels = []
    for number, (sigma_px, noise) in enumerate((((0.2, 3.0), (1.0, 30.0)), ((0.2, 1.5), (1.0, 25.0)))):
        steps = [step for draw in draws for step in draw.stages[number]]
        # the second JPEG is that of the third stage
        jpegs = [step for draw in draws for step in draw.stages[2 * number] if isinstance(step, Jpeg)]
        sigmas = [s.kernel.sigma_x_px for s in steps if isinstance(s, Blur) and s.kernel.family != "sinc"]
        noises = [s.strength for s in steps if isinstance(s, Noise) and s.kind == "gaussian"]
        panels += [
            histogram(f"xpsr: sigma of kernel {number + 1}, pixels", sigmas, sigma_px, 20, expected=sigma_px),
            histogram(f"xpsr: sigma of Gaussian noise {number + 1}", noises, noise, 20, expected=noise),
            histogram(
                f"xpsr: quality of JPEG {number + 1}", [j.quality for j in jpegs], (30, 95), 20, expected=(30, 95)
            ),
        ]
    for name in ("xpsr", "light", "as shipped"):
        done = [item for first in range(0, len(photos), 100) for item in batch(ROWS[name], photos, first, 100).drawn]
        panels += [
            histogram(f"{name}: blur of all, large pixels", [d.blur_px for d in done], (0, 10), 40, levels=BLUR),
            histogram(f"{name}: noise in the small photo", [d.noise for d in done], (0, 32), 40, levels=NOISE),
            histogram(f"{name}: lowest quality", [d.jpeg_quality for d in done], (29, 101), 36, levels=JPEG),
        ]
    page = Image.new("RGB", (WIDTH * 3, HEIGHT * (len(panels) // 3)), "white")
    for index, panel in enumerate(panels):
        page.paste(panel, (index % 3 * WIDTH, index // 3 * HEIGHT))
    page.save(path)
    print(f"wrote {path}")


def histogram(
    title: str,
    values: Sequence[float],
    limits: tuple[float, float],
    bins: int,
    *,
    levels: tuple[Level, ...] = (),
    expected: tuple[float, float] | None = None,
) -> Image.Image:
    """One panel; what lies beyond the limits is counted in the outermost bars.

    ``levels`` are marked with the share of the values in each; ``expected`` is the range that a uniform draw fills,
    whose height is marked.
    """
    left, top, right, bottom = 10, 38, WIDTH - 20, HEIGHT - 24
    low, high = limits
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(panel)
    draw.text((left, 4), f"{title} ({len(values)} values)", fill="black")
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=limits)
    peak = 1.05 * counts.max()

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            draw.rectangle((across(start), bottom - count / peak * (bottom - top), across(end) - 1, bottom), "#4477aa")
    if expected:
        height = len(values) * (high - low) / bins / (expected[1] - expected[0]) / peak * (bottom - top)
        draw.line((across(expected[0]), bottom - height, across(expected[1]), bottom - height), RED, 2)
    begin = low
    for level in levels:
        share = np.mean([level_of(levels, value) is level for value in values])
        end = min(level.below, high)
        label = f"{share:.0%}"
        draw.text(((across(begin) + across(end) - draw.textlength(label)) / 2, top - 14), label, fill=RED)
        draw.line((across(end), top - 14, across(end), bottom), RED)
        begin = end
    draw.line((left, bottom, right, bottom), "black")
    step = next(step for step in (0.5, 2, 5, 10) if (high - low) / step <= 8)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        label = f"{number * step:g}"
        draw.text((across(number * step) - draw.textlength(label) / 2, bottom + 4), label, fill="black")
    return panel


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--size", type=int, default=512, help="side of the large photos, in pixels")
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="write histograms of 2,000 samples")
    options = parser.parse_args()

    photos = crops(options.photos, options.size, options.pairs)
    print(f"{options.pairs} pairs of {options.size} px, {torch.get_num_threads()} threads")
    print(f"{'pairs a second':16} {options.workers:>2} workers batches      CPU of one")
    for name, degrader in ROWS.items():
        measure(name, photos, degrader, options.workers)
    measure("xpsr, plain", photos, ROWS["xpsr"], options.workers, plainly=True)
    if options.plot:
        plot(crops(options.photos, 128, 2000), options.plot)


if __name__ == "__main__":
    main()
