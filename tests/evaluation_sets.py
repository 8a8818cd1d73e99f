"""Small sets to evaluate on: large pictures with structure, and small ones that are theirs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from xpsr_cli.evaluation.metric import Better, MetricFacts
from xpsr_cli.evaluation.scores import EvaluationSet, Pair

SCALE = 4


def scene(seed, width=96, height=64):
    """(H, W, 3) uint8: blocks and noise, so that every way to enlarge the small one errs in its own way."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 8, width // 8, 3))
    noise = rng.integers(-20, 21, (height, width, 3))
    return np.clip(blocks.repeat(8, axis=0).repeat(8, axis=1) + noise, 0, 255).astype(np.uint8)


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_pairs(root, names="abc", width=96, height=64):
    """``root/HR`` and ``root/LR``, the small ones by Pillow."""
    for number, name in enumerate(names):
        large = scene(number, width, height)
        save(large, root / "HR" / f"{name}.png")
        small = Image.fromarray(large).resize((width // SCALE, height // SCALE), Image.Resampling.BICUBIC)
        save(np.asarray(small), root / "LR" / f"{name}.png")


def written_set(root, names="abc"):
    """The set of :func:`write_pairs`, without looking for it."""
    write_pairs(root, names)
    pairs = tuple(Pair(name, root / "LR" / f"{name}.png", root / "HR" / f"{name}.png") for name in names)
    return EvaluationSet("small", pairs, float(SCALE))


class Brightness:
    """A metric that takes batches and remembers what it was shown: the mean of the picture."""

    def __init__(self, name="brightness", needs=(), whole_set=False, version="1"):
        self.facts = MetricFacts(name, name, Better.HIGHER, 3, needs=frozenset(needs), whole_set=whole_set)
        self.version = version
        self.batches = []

    def provenance(self):
        return {"version": self.version}

    def score(self, samples):
        self.batches.append([sample.name for sample in samples])
        means = [float(sample.result.mean()) for sample in samples]
        return [float(np.mean(means))] if self.facts.whole_set else means
