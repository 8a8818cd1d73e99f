"""The sampling loop: one explicit ``for``, shared by plain upscaling and by anything that corrects the estimate."""

# shapes: c latent channels, H W latent cells of the canvas

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xpsr_cli.errors import XpsrError
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.sampling.denoiser import Denoiser
from xpsr_cli.sampling.noise import FIRST, POSTERIOR, SECOND, STEP_0, NoiseSource
from xpsr_cli.sampling.schedulers import DDPMScheduler, Scheduler, add_noise, from_x0, to_x0
from xpsr_cli.settings import SamplingPreset, StartLatent

Hook = Callable[[Tensor, int], Tensor]
"""``hook(x0, timestep) -> x0``: corrects the estimate of the clean latents, (1, c, H, W) float64."""


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    latents: Tensor,
    scheduler: Scheduler,
    noise: NoiseSource,
    *,
    hook: Hook | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Denoise ``latents`` (1, c, H, W) float32 along the scheduler's timesteps; returns clean latents alike.

    ``noise`` gives the noise of ancestral steps. With a ``hook``, the prediction becomes an estimate of the clean
    latents, the hook corrects it, and it is made a prediction again, so that any scheduler takes its own step (data
    consistency). Without one, nothing is converted. ``progress`` advances once per step.

    Raises:
        XpsrError: the networks overflowed, which float16 can bring about.
    """
    progress = progress or SilentProgress()
    for index, timestep in enumerate(scheduler.timesteps.tolist()):
        prediction = denoiser(latents, timestep)
        if hook is not None:
            x0 = hook(to_x0(scheduler, prediction, latents, timestep), timestep)
            prediction = from_x0(scheduler, x0, latents, timestep)
        if isinstance(scheduler, DDPMScheduler):
            latents = scheduler.step(prediction, timestep, latents, noise(STEP_0 + index)).prev_sample
        else:
            latents = scheduler.step(prediction, timestep, latents).prev_sample
        progress.advance()
    if not bool(torch.isfinite(latents).all()):
        raise XpsrError("Sampling ended in values that are not numbers.", "Try --precision fp32.")
    return latents


def start_latents(
    preset: SamplingPreset, scheduler: Scheduler, noise: NoiseSource, mean: Tensor, deviation: Tensor
) -> Tensor:
    """What sampling starts from, (1, c, H, W) float32.

    ``mean`` and ``deviation`` (1, c, H, W) are the encoded photo's. Start ``lr`` noises a sample of it to the first
    timestep and then once more to ``added_noise_level``, as published weights expect (spec C4). Start ``noise``
    leaves the photo out.
    """
    if preset.start is StartLatent.NOISE:
        return noise(FIRST) * (preset.start_noise * scheduler.init_noise_sigma)
    clean = mean + deviation * noise(POSTERIOR)
    once = add_noise(scheduler, clean, noise(FIRST), int(scheduler.timesteps[0]))
    return add_noise(scheduler, once, noise(SECOND), preset.added_noise_level)
