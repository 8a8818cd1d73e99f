"""What ``--fidelity`` does to pairs of real photos: agreement with the photo, distance to the original, time.

    python benchmarks/fidelity.py --lr RealSR/LR --hr RealSR/HR [--model xpsr-mini] [--every 5] [--sheet sheet.png]

For every fidelity: LR-PSNR, which is PSNR between the photo and the 8-bit result reduced to its size (lowest and
mean), PSNR and GMSD to the original on Y, how sharp the result is against the original (1 is as sharp), and the CPU
seconds per megapixel it takes beyond no fidelity. Then Spearman's correlation of fidelity and LR-PSNR. Every photo is
sampled once, and its pixels are made with every fidelity. ``--sheet`` writes some photos side by side.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from realsr import bicubic, read, sheet
from scipy.stats import spearmanr

from xpsr_cli.captioning.measured import MeasuredCaptioner
from xpsr_cli.evaluation.metrics import METRICS
from xpsr_cli.exploring.operators import Operator
from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.upscaling.enlargement import Enlargement
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_model

SCALE = 4
COLUMNS = ("LR-PSNR", "PSNR", "GMSD", "sharpness")
RATES = (METRICS["psnr"], METRICS["gmsd"], METRICS["gradient_ratio"])


def pixels(made: Enlargement, fidelity: float) -> tuple[np.ndarray, float]:
    """The 8-bit result with a fidelity, and the CPU seconds from its latents to its pixels."""
    made.settings["fidelity"] = fidelity
    started = time.process_time()
    result = made.photo().pixels
    return result, time.process_time() - started


def agreement(result: np.ndarray, small: np.ndarray) -> float:
    """LR-PSNR in dB."""
    large, photo = (torch.tensor(picture).permute(2, 0, 1) for picture in (result, small))
    return Operator(result.shape[:2], small.shape[:2]).agreement(large, photo / 255)


def report(fidelities: list[float], scores: np.ndarray, seconds: np.ndarray) -> None:
    """The tables; ``scores`` (photos, fidelities, columns), ``seconds`` (photos, fidelities) per megapixel."""
    titles = "".join(f"{name:>10}" for name in ("lowest", *COLUMNS, "s per MP"))
    print(f"{len(scores)} photos\nfidelity{titles}")
    for index, fidelity in enumerate(fidelities):
        means = "".join(f"{value:10.4f}" for value in scores[:, index].mean(axis=0))
        extra = np.median(seconds[:, index] - seconds[:, 0])
        print(f"{fidelity:8.2f}{scores[:, index, 0].min():10.2f}{means}{extra:10.2f}")
    reached = scores[..., 0]
    pooled = spearmanr(np.tile(fidelities, len(reached)), reached.ravel()).statistic
    by_photo = [spearmanr(fidelities, row).statistic for row in reached]
    print(f"Spearman of fidelity and LR-PSNR: {pooled:.4f} pooled, {np.mean(by_photo):.4f} per photo (mean), ", end="")
    print(f"{np.min(by_photo):.4f} (lowest)")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=Path, required=True)
    parser.add_argument("--hr", type=Path, required=True)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair")
    parser.add_argument("--fidelity", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--sheet", type=Path, help="write pictures side by side")
    parser.add_argument("--shown", type=int, default=3, help="how many photos the sheet has")
    options = parser.parse_args()

    upscaler, captioner = Upscaler.from_components(load_components(find_model(options.model))), MeasuredCaptioner()
    paths = sorted(options.hr.iterdir())[:: options.every]
    scores, seconds, shown = [], [], []
    for number, path in enumerate(paths, start=1):
        large, small = read(path), read(options.lr / path.name)
        photo = Photo(small)
        (caption,) = captioner.describe([captioner.look(photo)])
        settings = UpscaleSettings(scale=SCALE, prompt=caption.high, low_prompt=caption.low)
        made = upscaler.upscale(photo, settings)
        results, times = zip(*(pixels(made, fidelity) for fidelity in options.fidelity), strict=True)
        scores.append([[agreement(result, small), *(rate(result, large) for rate in RATES)] for result in results])
        seconds.append(np.array(times) / (large.shape[0] * large.shape[1] / 1e6))
        reached = " ".join(f"{row[0]:.2f}" for row in scores[-1])
        print(f"{number}/{len(paths)} {path.name} {reached}", file=sys.stderr, flush=True)
        if (number - 1) % max(len(paths) // options.shown, 1) == 0:
            shown.append([bicubic(small, SCALE), *results, large])
    report(options.fidelity, np.array(scores), np.array(seconds))
    if options.sheet:
        sheet(shown, ["bicubic", *(f"fidelity {value:g}" for value in options.fidelity), "original"], options.sheet)


if __name__ == "__main__":
    main()
