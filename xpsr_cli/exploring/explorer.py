"""Draws large pictures that all reduce to one small picture, from any image model.

Each stage of the model samples its picture under the operator of its size; the last one is repaired to 8 bits. Noise
belongs to a seed and a place, so a sample never depends on the others.
"""

# shapes: h w given picture, H W large one

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.operators import Operator, Size
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.priors import Prior, Request
from xpsr_cli.exploring.stage_drawing import StageDrawing
from xpsr_cli.progress import Progress, SilentProgress

TextEnergy = Callable[[str], Callable[[Tensor], Tensor]]
"""A prompt to an energy of pixels (1, 3, H, W) in [-1, 1]: see :class:`~.consistency.EnergyGuidance`."""


@dataclass(frozen=True)
class StageFigures:
    """What a stage made: its size (H, W), its steps, and how far its picture agreed with the given one, in dB."""

    name: str
    size: Size
    steps: int
    raw_db: float


@dataclass(frozen=True)
class Sample:
    """One large picture that reduces to the given one.

    Attributes:
        pixels_u8: (H, W, 3) uint8, RGB.
        raw_db: PSNR in dB of its reduction to the given picture before the last repair, clipped to [0, 1]: how far
            the sampling itself agreed.
        final_db: the same of ``pixels_u8``.
        repair_rms: root mean square of what the repair changed, where black is -1 and white 1.
        stages: the figures of each stage.
    """

    pixels_u8: np.ndarray
    raw_db: float
    final_db: float
    repair_rms: float
    stages: tuple[StageFigures, ...]


class Explorer:
    """Draws samples from a prior.

    Args:
        prior: the image model, wherever it computes; canvases and operators stay in memory, in float32.
        energy: a text-image score that pulls estimates towards the prompt, if that has any words; for priors that do
            not know them.
        progress: hears of each stage and its steps.
    """

    def __init__(self, prior: Prior, *, energy: TextEnergy | None = None, progress: Progress | None = None) -> None:
        self.prior = prior
        self.energy = energy
        self.progress = progress or SilentProgress()

    @torch.no_grad()
    def sample(self, small_01: Tensor, large: Size, request: Request, options: ExploreOptions | None = None) -> Sample:
        """One large picture of ``large`` (height, width) for the small one (3, h, w) in [0, 1].

        Raises:
            UsageError: a size that the prior cannot make, or a start picture of another size.
            XpsrError: the networks overflowed.
        """
        options = options or ExploreOptions()
        small_01 = small_01.detach().to("cpu", torch.float32)
        small = (small_01.shape[1], small_01.shape[2])
        _check_start(options.start, large)
        energy = self.energy(request.prompt) if self.energy and request.prompt else None
        pixels: Tensor | None = None  # (1, 3, .., ..) of the stage before
        figures = []
        stages = self.prior.stages(small, large)
        for number, stage in enumerate(stages):
            most = int(stage.scheduler_config.get("num_train_timesteps", 1000))
            steps = min(options.steps_of(stage.steps, stages[0].steps), most)
            drawing = StageDrawing(stage, number, small_01[None] * 2 - 1, request.seed, options, steps)
            self.progress.stage(stage.name, drawing.evaluations)
            pixels = drawing.draw(stage.predictor(request, drawing.given_pm1, pixels), energy, self.progress)
            raw_db = drawing.operator.agreement_01(_to_01(pixels)[0], small_01)
            figures.append(StageFigures(stage.name, stage.size, steps, raw_db))
        assert pixels is not None
        operator = Operator(large, small, options.operator)
        return _repaired(_to_01(pixels)[0], small_01, operator, options, tuple(figures))


def _repaired(
    raw_01: Tensor, small_01: Tensor, operator: Operator, options: ExploreOptions, stages: tuple[StageFigures, ...]
) -> Sample:
    """The 8-bit sample of what the last stage made; that of a noisy picture is rounded only, not to copy its noise."""
    final_u8 = operator.finish(raw_01, small_01, 0 if options.noise > 0 else options.rounds)
    return Sample(
        pixels_u8=np.ascontiguousarray(final_u8.permute(1, 2, 0).numpy()),
        raw_db=operator.agreement_01(raw_01, small_01),
        final_db=operator.agreement(final_u8, small_01),
        repair_rms=2 * float((final_u8.float() / 255 - raw_01).square().mean().sqrt()),
        stages=stages,
    )


def _to_01(pixels_pm1: Tensor) -> Tensor:
    return (pixels_pm1 / 2 + 0.5).clamp(0, 1)


def _check_start(start: Tensor | None, large: Size) -> None:
    if start is not None and tuple(start.shape) != (3, *large):
        raise UsageError(
            f"The picture to walk on from has {start.shape[-1]} x {start.shape[-2]} pixels, "
            f"the result {large[1]} x {large[0]}.",
            "Take a sample of the same size.",
        )
