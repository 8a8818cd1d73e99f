"""The sampling loop: one explicit ``for``, shared by plain upscaling and by anything that corrects the estimate."""

# shapes: c latent channels, H W latent cells of the canvas, h rows of a band

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from xpsr_cli.errors import XpsrError
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.noise import FIRST, POSTERIOR, SECOND, STEP_0, NoiseSource
from xpsr_cli.sampling.schedulers import (
    DDPMScheduler,
    Scheduler,
    add_noise,
    from_x0,
    recall,
    remembered,
    to_x0,
)
from xpsr_cli.sampling.tiled import Band
from xpsr_cli.sampling.tiles import CanvasLatents, Window
from xpsr_cli.settings import SamplingPreset, StartLatent

Hook = Callable[[Tensor, int], Tensor]
"""``hook(x0, timestep) -> x0``: corrects the estimate of the clean latents, (1, c, H, W) float64."""


PART_CELLS = 512
"""Latent cells of a band that take their step at a time."""


class Denoiser(Protocol):
    """Predicts the noise (or velocity) in latents of the whole canvas, band by band from top to bottom."""

    def __call__(
        self, latents: CanvasLatents, timestep: int, first: int = 0, unfinished: Tensor | None = None
    ) -> Iterator[Band]:
        """See :meth:`xpsr_cli.sampling.tiled.Tiled.__call__`."""


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    canvas: LatentCanvas,
    scheduler: Scheduler,
    noise: NoiseSource,
    *,
    hook: Hook | None = None,
    until: int | None = None,
) -> None:
    """Denoise the latents of ``canvas`` along the scheduler's timesteps, from where the canvas stands.

    With ``until``, no further than to its step of that number.

    ``noise`` gives the noise of ancestral steps. With a ``hook``, the prediction for the whole canvas becomes an
    estimate of the clean latents, the hook corrects it, and it is made a prediction again, so that any scheduler takes
    its own step (data consistency). Without one, nothing is converted, and a band is all that is held at a time.

    Raises:
        XpsrError: the networks overflowed.
    """
    unused = remembered(scheduler)

    def step(prediction: Tensor, index: int, timestep: int, place: Window) -> Tensor:
        latents = canvas.read(place)
        if hook is not None:
            x0 = hook(to_x0(scheduler, prediction, latents, timestep), timestep)
            prediction = from_x0(scheduler, x0, latents, timestep)
        if unused:
            recall(scheduler, canvas.history(place) or unused)
        if isinstance(scheduler, DDPMScheduler):
            spread = noise(STEP_0 + index, place)
            latents = scheduler.step(prediction, timestep, latents, spread).prev_sample
        else:
            latents = scheduler.step(prediction, timestep, latents).prev_sample
        if not bool(torch.isfinite(latents).all()):
            raise XpsrError("Sampling ended in values that are not numbers.", "Try --precision fp32.")
        if unused:
            canvas.remember(place, remembered(scheduler))
        return latents

    for index, timestep in list(enumerate(scheduler.timesteps.tolist()))[canvas.step : until]:
        bands: Iterable[Band] = denoiser(canvas.read, timestep, canvas.band, canvas.unfinished)
        for band in bands if hook is None else [_joined(bands)]:
            for place in _parts(band.place) if hook is None else [band.place]:
                part = Window(0, place.x, place.h, place.w).crop(band.prediction)
                part.copy_(step(part, index, timestep, place))  # in place: nothing else as wide is needed
            canvas.write(band.place, band.prediction)
            if hook is None:  # else this band is the step
                canvas.keep(band)
        canvas.turn()


def _parts(band: Window) -> list[Window]:
    """A band in parts of limited width, so that what a step needs meanwhile does not grow with the canvas."""
    return [Window(band.y, x, band.h, min(PART_CELLS, band.w - x)) for x in range(0, band.w, PART_CELLS)]


def _joined(bands: Iterable[Band]) -> Band:
    """All bands of a canvas as one."""
    prediction = torch.cat([band.prediction for band in bands], dim=2)
    return Band(0, Window(0, 0, *prediction.shape[2:]), prediction, prediction[:, :, :0])


def first_step(steps: int, strength: float) -> int:
    """The first of ``steps`` that is done when a share ``strength`` of them is, one at least."""
    return steps - max(round(steps * strength), 1)


def start_latents(
    preset: SamplingPreset,
    scheduler: Scheduler,
    noise: NoiseSource,
    window: Window,
    mean: Tensor | None,
    deviation: Tensor | None,
    first: int = 0,
) -> Tensor:
    """What sampling starts from under ``window``, (1, c, h, w) float32.

    ``mean`` and ``deviation`` (1, c, h, w) are the encoded photo's or reference's. A start from either noises a sample
    of it to the first timestep and then once more to ``added_noise_level``, as published weights expect (spec C4);
    where the steps before ``first`` are left out, it is noised to that one alone. Start ``noise`` leaves the photo
    out, and needs neither.
    """
    if preset.start is StartLatent.NOISE:
        return noise(FIRST, window) * (preset.start_noise * scheduler.init_noise_sigma)
    assert mean is not None
    assert deviation is not None
    clean = mean + deviation * noise(POSTERIOR, window)
    once = add_noise(scheduler, clean, noise(FIRST, window), int(scheduler.timesteps[first]))
    if first:
        return once
    return add_noise(scheduler, once, noise(SECOND, window), preset.added_noise_level)
