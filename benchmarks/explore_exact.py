"""How true the samples of exploration are, on two image models whose answers are known.

    python benchmarks/explore_exact.py [--samples 16] [--pictures 4] [--steps 50]

First 1/f Gaussian pictures of 32 x 32 pixels, reduced x8 by area: per method, PSNR to the given picture before and
after the repair, the spread of the samples in units of the true posterior's, and the error of their mean in units of
what chance allows. Then shapes of 16 x 16 pixels with their names as prompts, reduced x2 to x16: how often the right
and another word are obeyed, how much samples differ, and what the repair changed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from analytic_priors import GaussianPrior, OneStage, ShapesPrior  # noqa: E402

from xpsr_cli.exploring.explorer import Explorer, Sample  # noqa: E402
from xpsr_cli.exploring.operators import Operator, ResizeFilter  # noqa: E402
from xpsr_cli.exploring.options import ExploreOptions, Method  # noqa: E402
from xpsr_cli.exploring.priors import Request  # noqa: E402

AREA = ExploreOptions(operator=ResizeFilter.AREA)
CASES = {
    "ddnm": AREA,
    "ddnm, noise 0.1": replace(AREA, noise=0.1),
    "pigdm": replace(AREA, method=Method.PIGDM),
    "dps": replace(AREA, method=Method.DPS),
}


def draw(prior: OneStage, small_01: torch.Tensor, options: ExploreOptions, prompt: str, count: int) -> list[Sample]:
    explorer = Explorer(prior)
    return [explorer.sample(small_01, prior.size, Request(prompt, seed=seed), options) for seed in range(count)]


def values(samples: list[Sample]) -> torch.Tensor:
    """(samples, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack([sample.pixels_u8 for sample in samples])).permute(0, 3, 1, 2) / 127.5 - 1


def medians(samples: list[Sample]) -> str:
    raw, final, repair = (
        np.median([getattr(sample, name) for sample in samples]) for name in ("raw_db", "final_db", "repair_rms")
    )
    return f"{raw:8.1f} {final:8.1f} {repair:8.4f}"


def gaussian(count: int, steps: int) -> None:
    prior = GaussianPrior((32, 32), steps=steps)
    operator = Operator((32, 32), (4, 4), ResizeFilter.AREA)
    clean_01 = operator(prior.draw(1)[0].float()) / 2 + 0.5
    print(f"{'Gaussian x8':18} {'raw dB':>8} {'final dB':>8} {'repair':>8} {'spread':>8} {'error':>8}")
    for name, options in CASES.items():
        noise = torch.randn(clean_01.shape, generator=torch.Generator().manual_seed(1))
        small_01 = clean_01 + options.noise * noise
        mean, deviation = prior.posterior(operator, small_01 * 2 - 1, 2 * options.noise)
        samples = draw(prior, small_01, options, "", count)
        true = float(deviation.square().mean().sqrt())
        spread = float(values(samples).var(0).mean().sqrt()) / true
        error = float((values(samples).mean(0) - mean).square().mean().sqrt()) / (true / count**0.5)
        print(f"{name:18} {medians(samples)} {spread:8.3f} {error:8.2f}", flush=True)


def shapes(pictures: int, steps: int) -> None:
    prior = ShapesPrior(steps=steps)
    print(f"\n{'Shapes':18} {'raw dB':>8} {'final dB':>8} {'repair':>8} {'differ':>8} {'right':>8} {'other':>8}")
    for name, options in CASES.items():
        for factor in (2, 4, 8, 16):
            operator = Operator((16, 16), (16 // factor, 16 // factor), ResizeFilter.AREA)
            right, other, spreads, samples = [], [], [], []
            for index in range(pictures):
                small_01 = operator(prior.picture(index)) / 2 + 0.5
                noise = torch.randn(small_01.shape, generator=torch.Generator().manual_seed(index))
                small_01 = small_01 + options.noise * noise
                for offset, obeyed in ((0, right), (1, other)):
                    word = prior.vocabulary[(index + offset) % len(prior.vocabulary)]
                    drawn = draw(prior, small_01, options, word, 4)
                    obeyed += [prior.word_of(sample.pixels_u8) == word for sample in drawn]
                    samples += drawn
                    spreads.append(float(values(drawn).std(0).mean()))
            figures = f"{np.mean(spreads):8.3f} {np.mean(right):8.2f} {np.mean(other):8.2f}"
            print(f"{name + f' x{factor}':18} {medians(samples)} {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16, help="of the Gaussian posterior")
    parser.add_argument("--pictures", type=int, default=4, help="shapes to reduce")
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    gaussian(arguments.samples, 2 * arguments.steps)
    shapes(arguments.pictures, arguments.steps)


if __name__ == "__main__":
    main()
