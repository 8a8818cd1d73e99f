"""The random choices of one training sample, made from its seed alone and before any pixel is touched.

The released code shares branches and sizes within a batch of ten. Here every sample draws its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from xpsr_cli.training.blur_kernels import Kernel
from xpsr_cli.training.degradation_presets import (
    FAMILIES,
    PRESETS,
    Final,
    KernelTable,
    NoiseTable,
    Range,
    ResizeTable,
    Stage,
)
from xpsr_cli.training.degradation_steps import Blur, Jpeg, Noise, Resize, Step

DIRECTIONS = ("up", "down", "keep")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Draw:
    """What will be done to one photo, of any size: a preset's stages, each with its steps in order."""

    preset: str
    stages: tuple[tuple[Step, ...], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order."""
        return tuple(step for stage in self.stages for step in stage)


def draw_preset(name: str, rng: np.random.Generator) -> Draw:
    """One sample of a preset."""
    preset = PRESETS[name]
    stages = [tuple(_draw_stage(stage, rng)) for stage in preset.stages]
    if preset.final is not None:
        stages.append(tuple(_draw_final(preset.final, rng)))
    return Draw(name, tuple(stages))


def _draw_stage(stage: Stage, rng: np.random.Generator) -> Iterator[Step]:
    if stage.kernel and rng.random() < stage.blur_probability:
        yield Blur(_draw_kernel(stage.kernel, rng))
    yield _draw_resize(stage.resize, rng)
    if stage.noise and rng.random() < stage.noise_probability:
        yield _draw_noise(stage.noise, rng)
    if stage.jpeg_quality and rng.random() < stage.jpeg_probability:
        yield Jpeg(rng.uniform(*stage.jpeg_quality))


def _draw_final(final: Final, rng: np.random.Generator) -> list[Step]:
    jpeg: list[Step] = [Jpeg(rng.uniform(*final.jpeg_quality))]
    shrink: list[Step] = [_draw_resize(ResizeTable(of_small=True, modes=final.modes), rng)]
    if rng.random() < final.sinc_probability:
        shrink.append(Blur(Kernel("sinc", _choose(final.sizes_px, rng), cutoff=rng.uniform(*final.sinc_cutoff))))
    return shrink + jpeg if rng.random() < final.jpeg_last_probability else jpeg + shrink


def _draw_kernel(table: KernelTable, rng: np.random.Generator) -> Kernel:
    size = _choose(table.sizes_px, rng)
    if rng.random() < table.sinc_probability:
        cutoffs = table.small_sinc_cutoff if size < table.small_sinc_px else table.sinc_cutoff
        return Kernel("sinc", size, cutoff=rng.uniform(*cutoffs))
    family = FAMILIES[rng.choice(len(FAMILIES), p=table.families)]
    sigma_x = sigma_y = rng.uniform(*table.sigma_px)
    angle, beta = 0.0, 1.0
    if family.endswith("aniso"):
        sigma_y, angle = rng.uniform(*table.sigma_px), rng.uniform(*table.angle)
    if family.startswith("generalised"):
        beta = _draw_beta(table.generalised_beta, rng)
    elif family.startswith("plateau"):
        beta = _draw_beta(table.plateau_beta, rng)
    return Kernel(family, size, sigma_x, sigma_y, angle, beta)


def _draw_beta(betas: Range, rng: np.random.Generator) -> float:
    return rng.uniform(betas[0], 1.0) if rng.random() < 0.5 else rng.uniform(1.0, betas[1])


def _draw_resize(table: ResizeTable, rng: np.random.Generator) -> Resize:
    kind = rng.choice(3, p=table.up_down_keep)
    factor = (rng.uniform(*table.up), rng.uniform(*table.down), 1.0)[kind]
    return Resize(_choose(table.modes, rng), DIRECTIONS[kind], factor, table.of_small, table.antialias)


def _draw_noise(table: NoiseTable, rng: np.random.Generator) -> Noise:
    gaussian = rng.random() < table.gaussian_probability
    strength = rng.uniform(*(table.gaussian_sigma if gaussian else table.poisson_scale))
    grey = bool(rng.random() < table.grey_probability)
    return Noise("gaussian" if gaussian else "poisson", strength, grey, seed=int(rng.integers(2**63)))


def _choose(items: tuple[Item, ...], rng: np.random.Generator) -> Item:
    return items[rng.integers(len(items))]
