"""The picture of one stage of an image model: the one sampling loop, kept to the given picture on the way."""

# shapes: H W pixels of the stage, h w given picture, c canvas channels

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import pad

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.consistency import (
    EnergyGuidance,
    LatentCorrection,
    Threshold,
    chain,
    followed,
    projection,
    remaining_signal,
)
from xpsr_cli.exploring.operators import Operator
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.priors import Predict, PriorStage
from xpsr_cli.progress import Progress
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.noise import FIRST, CanvasNoise, NoiseSource
from xpsr_cli.sampling.sampler import Hook, sample
from xpsr_cli.sampling.schedulers import Scheduler, add_noise, make_scheduler
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import Window

STAGE_DRAWS, REPEAT_DRAWS, RETURN_DRAWS = 2**24, 2**16, 2**15
"""How far the numbers of the noise draws lie apart: of stages, of repeated steps, of returns to where these began."""

EXACT_END = {"set_alpha_to_one": True, "final_sigmas_type": "zero"}
"""The last step leaves no noise over what was projected."""


class StageDrawing:
    """One stage: its operator, its schedule and its noise.

    Args:
        number: of the stage, from 0; each has noise of its own.
        given_pm1: the given picture (1, 3, h, w) in [-1, 1].
    """

    def __init__(
        self, stage: PriorStage, number: int, given_pm1: Tensor, seed: int, options: ExploreOptions, steps: int
    ) -> None:
        self.stage = stage
        self.given_pm1 = given_pm1
        self.options = options
        self.operator = Operator(stage.size, (given_pm1.shape[2], given_pm1.shape[3]), options.operator)
        self.scheduler: Scheduler = make_scheduler(options.scheduler, {**stage.scheduler_config, **EXACT_END}, steps)
        self.timesteps = [int(timestep) for timestep in self.scheduler.timesteps]
        self.first = 0 if options.start is None else round((1 - options.strength) * len(self.timesteps))
        self.place = Window(0, 0, *(math.ceil(side / stage.cell_px) for side in stage.size))
        self.threshold = Threshold(stage.scheduler_config)
        self._noise = CanvasNoise(seed, stage.channels)
        self._first_draw = number * STAGE_DRAWS

    @property
    def evaluations(self) -> int:
        """How often the network is asked."""
        return (len(self.timesteps) - self.first) * self.options.travel.repeat

    def draw(self, predict: Predict, energy: Callable[[Tensor], Tensor] | None, progress: Progress) -> Tensor:
        """The picture (1, 3, H, W) in about [-1, 1], as sampled.

        Raises:
            UsageError: a method that needs pixels, and a stage of latents.
        """
        project = projection(self.options, self.operator, self.given_pm1, self.scheduler)
        hook = self._hook(project, energy)
        guided = followed(self.options, predict, self.operator, self.given_pm1, self.scheduler, self.threshold)
        denoiser = Tiled(lambda canvas, timestep, _: guided(canvas, timestep), [self.place], progress=progress)
        canvas = LatentCanvas(self.stage.channels, self.place.h, self.place.w)
        canvas.begin(self._start(), self.first)
        repeat = self.options.travel.repeat
        length = self.options.travel.length if repeat > 1 else len(self.timesteps)
        for begin in range(self.first, len(self.timesteps), length):
            for again in range(repeat):
                if again:
                    canvas.begin(self._returned(canvas, begin, again), begin)
                sample(denoiser, canvas, self.scheduler, self._noise_of(again), hook=hook, until=begin + length)
        return self._decode(canvas.read(self.place))

    def _hook(self, project: Hook | None, energy: Callable[[Tensor], Tensor] | None) -> Hook | None:
        """What corrects the estimates: into range, towards the words, and onto the given picture, in this order."""
        pull = EnergyGuidance(energy, self.options.energy_weight, self.scheduler) if energy else None
        if self.stage.cell_px == 1:
            return chain(None if project is None else self.threshold, pull, project)
        if project is None:
            raise UsageError(
                f"method {self.options.method.value} works on pixels, and {self.stage.name} on latents.", "Use ddnm."
            )
        in_pixels = chain(pull, project)
        assert in_pixels is not None
        return LatentCorrection(in_pixels, self.scheduler, self._decode, self._encode)

    def _start(self) -> Tensor:
        """The picture to walk on from, or the smallest that reduces to the given one, noised for the first step."""
        start = self.options.start
        if start is None:
            pixels = self.operator.inverse(self.given_pm1)
        else:
            size = (start.shape[1], start.shape[2])
            pixels = Operator(size, self.stage.size, self.options.operator)(start.cpu()[None] * 2 - 1)
        clean = self._encode(pixels.clamp(-1, 1))
        if self.first == len(self.timesteps):
            return clean
        return add_noise(self.scheduler, clean, self._noise_of(0)(FIRST, self.place), self.timesteps[self.first])

    def _returned(self, canvas: LatentCanvas, begin: int, again: int) -> Tensor:
        """The canvas, noised from where it stands to where step ``begin`` starts from."""
        start = float(self.scheduler.alphas_cumprod[self.timesteps[begin]])
        kept = start / remaining_signal(self.scheduler, self.timesteps[canvas.step - 1])
        noise = self._noise_of(again)(RETURN_DRAWS + begin, self.place)
        return kept**0.5 * canvas.read(self.place) + (1 - kept) ** 0.5 * noise

    def _noise_of(self, again: int) -> NoiseSource:
        """The noise of this stage when its steps are made for the ``again``-th time."""
        first_draw = self._first_draw + again * REPEAT_DRAWS
        return lambda draw, window: self._noise(first_draw + draw, window)

    def _decode(self, canvas: Tensor) -> Tensor:
        """Pixels of the stage's size; canvases of whole cells may be larger."""
        return self.stage.decode(canvas)[..., : self.stage.size[0], : self.stage.size[1]].cpu().float()

    def _encode(self, pixels: Tensor) -> Tensor:
        """The canvas of pixels, repeated at the border to whole cells."""
        cell = self.stage.cell_px
        right, below = self.place.w * cell - pixels.shape[3], self.place.h * cell - pixels.shape[2]
        return self.stage.encode(pad(pixels, (0, right, 0, below), mode="replicate")).cpu().float()
