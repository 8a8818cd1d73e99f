"""What keeps a sample reduced to the given picture while it is drawn: corrections of each estimate.

Projections (DDNM, DDNM+) and the pull of a text-image score are hooks of the sampler; PiGDM and DPS, which follow a
gradient through the network, wrap what it predicts. Both only change the estimate of the clean canvas, so that any
scheduler takes its own step. The networks see canvases in [-1, 1]; operators compute in float32.
"""

# shapes: H W pixels, h w given picture, c canvas channels

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.exploring.operators import Operator
from xpsr_cli.exploring.options import ExploreOptions, Method
from xpsr_cli.exploring.priors import Predict
from xpsr_cli.sampling.sampler import Hook
from xpsr_cli.sampling.schedulers import DDPMScheduler, Scheduler, from_x0, signal_and_noise, to_x0

Recode = Callable[[Tensor], Tensor]
"""A canvas to pixels (1, 3, H, W) in about [-1, 1], or back."""

DPS_STEP = 0.5  # as released for text-guided super-resolution; 0.3 in the first publication
LATENT_FROM, LATENT_EVERY, LATENT_LAST = 0.4, 2, 3
"""A latent canvas is corrected from this share of its steps on, every second one, and at each of the last three."""
ENERGY_UNTIL = 0.9  # of the steps: later, the gradient of a score only makes texture


def chain(*hooks: Hook | None) -> Hook | None:
    """Hooks one after the other; ``None`` where there is none."""
    there = [hook for hook in hooks if hook is not None]

    def all_of_them(x0: Tensor, timestep: int) -> Tensor:
        for hook in there:
            x0 = hook(x0, timestep)
        return x0

    return all_of_them if there else None


class Threshold:
    """Keeps estimates in range as the model's scheduler config says, always before they are projected.

    With ``thresholding``, values above the ``dynamic_thresholding_ratio`` quantile of a picture (which is at most
    ``sample_max_value``) are clipped there and the picture is divided by it (Imagen, section 2.3); else they are
    clipped to ``clip_sample_range``, unless ``clip_sample`` is off.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.dynamic = bool(config.get("thresholding", False))
        self.clip = bool(config.get("clip_sample", True))
        self.ratio = float(config.get("dynamic_thresholding_ratio", 0.995))
        self.most = float(config.get("sample_max_value", 1.0))
        self.range = float(config.get("clip_sample_range", 1.0))

    def __call__(self, x0: Tensor, timestep: int) -> Tensor:
        """The estimate (1, c, H, W) within range."""
        if self.dynamic:
            quantile = float(np.quantile(x0.abs().float().numpy(), self.ratio))  # torch's own has a limit of size
            limit = min(max(quantile, 1.0), max(self.most, 1.0))
            return x0.clamp(-limit, limit) / limit
        return x0.clamp(-self.range, self.range) if self.clip else x0


class Projection:
    """DDNM: what the given picture decides of the estimate is replaced, all else is kept."""

    def __init__(self, operator: Operator, given_pm1: Tensor) -> None:
        self.operator = operator
        self.given_pm1 = given_pm1

    def __call__(self, x0: Tensor, timestep: int) -> Tensor:
        """The nearest picture to the estimate that is reduced to the given one."""
        return self.operator.correct(x0, self.given_pm1)


class NoisyProjection:
    """DDNM+: of a noisy picture no more is taken over than the noise that is still on the canvas covers.

    The rule of Wang et al. 2023 (section 3.3) for each singular direction of the operator, with the whole noise of the
    canvas, so that it serves schedulers that add none of their own: the estimate moves by
    ``lambda = min(1, sqrt(1 - a_t) / (sqrt(a_t) sigma / singular value))``. On a Gaussian prior, whose posterior is
    known, that copies less noise than counting the ancestral step's own.
    """

    def __init__(self, operator: Operator, given_pm1: Tensor, sigma_pm1: float, scheduler: Scheduler) -> None:
        self.operator = operator
        self.given_pm1 = given_pm1
        self.sigma = sigma_pm1
        self.scheduler = scheduler

    def __call__(self, x0: Tensor, timestep: int) -> Tensor:
        """The estimate, moved towards the given picture."""
        return self.operator.pull(x0, self.given_pm1, self.shares(timestep))

    def shares(self, timestep: int) -> Tensor:
        """lambda of each singular direction, (h, w) float64."""
        signal, spread = signal_and_noise(self.scheduler, timestep)
        brought = signal * self.sigma / self.operator.squares.sqrt()
        return (spread / brought).clamp_max(1)


class LatentCorrection:
    """Corrects latents in pixels: decode, project, and add what that changes of the encoding.

    Adding the difference of the encodings (before and after) leaves latents alone whose picture needs no correction;
    the autoencoder's own loss stays out. As both are costly, not every step is corrected; the estimate of the first
    steps is a blur anyhow. After LATINO (Spagnoletti et al. 2025).
    """

    def __init__(self, hook: Hook, scheduler: Scheduler, decode: Recode, encode: Recode) -> None:
        self.hook = hook
        self.decode = decode
        self.encode = encode
        timesteps = scheduler.timesteps.tolist()
        count = len(timesteps)
        self._corrected = {
            timestep
            for index, timestep in enumerate(timesteps)
            if index >= count - LATENT_LAST or (index >= LATENT_FROM * count and (count - index) % LATENT_EVERY == 0)
        }

    def __call__(self, x0: Tensor, timestep: int) -> Tensor:
        """The estimate of the latents, corrected at the steps that are."""
        if timestep not in self._corrected:
            return x0
        pixels = self.decode(x0.float()).clamp(-1, 1)
        corrected = self.hook(pixels, timestep)
        return x0 + (self.encode(corrected.float()) - self.encode(pixels)).to(x0.dtype)


class EnergyGuidance:
    """Pulls estimates down the gradient of an energy, such as 1 - cosine of a text-image score, before projection.

    Only what the given picture leaves open can follow it. The gradient goes through the score alone, not through the
    network; its step has the root mean square ``weight`` times that of the noise at the timestep.

    Args:
        energy: pixels (1, 3, H, W) in [-1, 1] to a differentiable number; the lower, the better they fit the words.
    """

    def __init__(self, energy: Callable[[Tensor], Tensor], weight: float, scheduler: Scheduler) -> None:
        self.energy = energy
        self.weight = weight
        self.scheduler = scheduler
        timesteps = scheduler.timesteps.tolist()
        self._guided = set(timesteps[: max(1, int(ENERGY_UNTIL * len(timesteps)))])

    def __call__(self, x0: Tensor, timestep: int) -> Tensor:
        """The estimate (1, 3, H, W), nearer to the words."""
        if timestep not in self._guided:
            return x0
        with torch.enable_grad():
            pixels = x0.detach().float().requires_grad_()
            gradient = torch.autograd.grad(self.energy(pixels).sum(), pixels)[0]
        size = gradient.square().mean().sqrt()
        if not bool(torch.isfinite(size)) or float(size) == 0:
            return x0
        _, spread = signal_and_noise(self.scheduler, timestep)
        return x0 - self.weight * float(spread) * (gradient / size).to(x0.dtype)


def pigdm(
    predict: Predict, scheduler: Scheduler, operator: Operator, given_pm1: Tensor, sigma_pm1: float, in_range: Hook
) -> Predict:
    """PiGDM (Song et al. 2023, algorithm 1): each step moves the canvas by ``sqrt(a_t) J^T A^+ (y - A x0)``.

    J is the derivative of the estimate by the noisy canvas, and A^+ is regularised by the noise of the given picture,
    beside estimates that vary by r_t^2 = 1 - a_t. ``in_range`` is the stage's threshold.
    """

    def guided(canvas: Tensor, timestep: int) -> Tensor:
        with torch.enable_grad():
            noisy = canvas.detach().clone().requires_grad_()
            x0 = to_x0(scheduler, predict(noisy, timestep), noisy, timestep)
            seen = in_range(x0.detach(), timestep)
            gamma = noise_gamma(scheduler, timestep, sigma_pm1)
            change = operator.correct(seen, given_pm1, gamma).double() - seen
            pull = torch.autograd.grad((x0 * change).sum(), noisy)[0]
        signal, _ = signal_and_noise(scheduler, timestep)
        weight, _ = step_terms(scheduler, timestep)  # a step moves by this times what its estimate does
        return from_x0(scheduler, seen + signal / weight * pull.double(), canvas, timestep)

    return guided


def dps(
    predict: Predict,
    scheduler: Scheduler,
    operator: Operator,
    given_pm1: Tensor,
    in_range: Hook,
    size: float = DPS_STEP,
) -> Predict:
    """DPS (Chung et al. 2023): each step moves the canvas by ``size`` down the gradient of ``|y - A x0|``."""

    def guided(canvas: Tensor, timestep: int) -> Tensor:
        with torch.enable_grad():
            noisy = canvas.detach().clone().requires_grad_()
            x0 = to_x0(scheduler, predict(noisy, timestep), noisy, timestep)
            distance = torch.linalg.vector_norm(operator(x0) - given_pm1)
            gradient = torch.autograd.grad(distance, noisy)[0]
        weight, _ = step_terms(scheduler, timestep)  # a step moves by this times what its estimate does
        return from_x0(
            scheduler, in_range(x0.detach(), timestep) - (size / weight) * gradient.double(), canvas, timestep
        )

    return guided


def noise_gamma(scheduler: Scheduler, timestep: int, sigma_pm1: float) -> float:
    """How much a noisy picture counts beside an estimate that varies by 1 - a_t; infinity without noise."""
    _, spread = signal_and_noise(scheduler, timestep)
    return float(spread) ** 2 / sigma_pm1**2 if sigma_pm1 else float("inf")


def step_terms(scheduler: Scheduler, timestep: int) -> tuple[float, float]:
    """Of a step from ``timestep``: the weight of the estimate in what it makes, and the deviation of its noise.

    For the ancestral step and, with no noise, DDIM's (Song et al. 2021, eq. 12 and 16); for schedulers of higher order
    those of their first.
    """
    here, there = float(scheduler.alphas_cumprod[timestep]), remaining_signal(scheduler, timestep)
    variance = (1 - there) / (1 - here) * (1 - here / there) if isinstance(scheduler, DDPMScheduler) else 0.0
    direction = max(1 - there - variance, 0.0) ** 0.5
    return there**0.5 - direction * (here / (1 - here)) ** 0.5, max(variance, 0.0) ** 0.5


def remaining_signal(scheduler: Scheduler, timestep: int) -> float:
    """a_s of what the step from ``timestep`` leads to, 1 at the end."""
    later = [other for other in scheduler.timesteps.tolist() if other < timestep]
    return float(scheduler.alphas_cumprod[later[0]]) if later else 1.0


def projection(
    options: ExploreOptions, operator: Operator, given_pm1: Tensor, scheduler: Scheduler
) -> Projection | NoisyProjection | None:
    """The projection of a method; ``None`` for those that follow a gradient."""
    if options.method.needs_gradient:
        return None
    if options.noise > 0:
        return NoisyProjection(operator, given_pm1, 2 * options.noise, scheduler)
    return Projection(operator, given_pm1)


def followed(
    options: ExploreOptions,
    predict: Predict,
    operator: Operator,
    given_pm1: Tensor,
    scheduler: Scheduler,
    in_range: Hook,
) -> Predict:
    """``predict`` itself, or wrapped by a method that follows a gradient; ``in_range`` keeps estimates there."""
    if options.method is Method.PIGDM:
        return pigdm(predict, scheduler, operator, given_pm1, 2 * options.noise, in_range)
    if options.method is Method.DPS:
        return dps(predict, scheduler, operator, given_pm1, in_range)
    return predict
