"""How long the metrics take that need no network: 100 pairs of 512 pixels, in threads.

    python benchmarks/metrics.py [--pairs 100] [--size 512] [--threads 2]

Pairs are made: textures, and the same enlarged from a quarter of the size. Prints seconds of each metric, and of PSNR,
SSIM and NIQE together as ``xpsr eval`` runs them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from xpsr_cli.evaluation.metric import Metric, Sample
from xpsr_cli.evaluation.metrics import make_metrics

TOGETHER = ("psnr@osediff", "ssim@osediff", "niqe")


def made_pairs(count: int, side: int) -> list[Sample]:
    """Originals with detail at every size, and results enlarged from their reductions."""
    generator = np.random.default_rng(0)
    samples = []
    for number in range(count):
        picture = np.zeros((side, side, 3))
        for cells in (4, 16, 64, side // 2, side):
            layer = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            picture += np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC), float)
        original = Image.fromarray((picture / 5).astype(np.uint8))
        small = original.resize((side // 4, side // 4), Image.Resampling.BICUBIC)
        result = small.resize((side, side), Image.Resampling.BICUBIC)
        samples.append(Sample(f"{number}", *(np.asarray(photo) for photo in (result, original, small))))
    return samples


def seconds(metrics: Sequence[Metric], samples: Sequence[Sample], threads: int) -> float:
    """Of the clock, to score all samples by all metrics."""
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda sample: [metric.score([sample]) for metric in metrics], samples))
    return time.perf_counter() - started


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--size", type=int, default=512, help="side of the results in pixels")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    samples = made_pairs(options.pairs, options.size)
    names = ["psnr", "ssim", "niqe", "gmsd", "sharpness", "consistency", "seams"]
    metrics, _ = make_metrics(names, ["osediff"], scale=4)
    for metric in metrics:
        print(f"{metric.facts.key:16}{seconds([metric], samples, options.threads):8.2f} s", flush=True)
    together = [metric for metric in metrics if metric.facts.key in TOGETHER]
    print(f"{' + '.join(TOGETHER)}, {options.threads} threads: {seconds(together, samples, options.threads):.2f} s")


if __name__ == "__main__":
    main()
