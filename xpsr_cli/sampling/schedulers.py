"""The diffusers schedulers that drive the sampler, and what the sampler needs to know about their process.

All are variance preserving: x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise, with a_t the cumulative product of alphas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.settings import SchedulerName


class DDPMScheduler(DDIMScheduler):
    """Ancestral sampling (Ho et al. 2020, variance "fixed small") with noise that is handed in.

    DDIM with eta 1 *is* that step (Song et al. 2021, section 4.1, eq. 16), and unlike diffusers' DDPM class the stock
    DDIM step takes its noise as an argument, which is what places it on the canvas.
    """

    def step(self, model_output: Tensor, timestep: int, sample: Tensor, variance_noise: Tensor) -> Any:  # type: ignore[override]
        """One step to the previous timestep; ``variance_noise`` is standard normal and shaped like ``sample``."""
        return super().step(model_output, timestep, sample, eta=1.0, variance_noise=variance_noise)


class Scheduler(Protocol):
    """What the sampler uses of a diffusers scheduler; ``step`` returns an object with ``prev_sample``."""

    config: Any
    timesteps: Tensor
    alphas_cumprod: Tensor
    init_noise_sigma: float

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Choose the timesteps to visit."""

    def step(self, model_output: Tensor, timestep: int, sample: Tensor) -> Any:
        """From ``sample`` at ``timestep`` to the next one visited."""


_CLASSES: dict[SchedulerName, type[Any]] = {
    SchedulerName.DDPM: DDPMScheduler,
    SchedulerName.DDIM: DDIMScheduler,
    SchedulerName.UNIPC: UniPCMultistepScheduler,
    SchedulerName.DPMSOLVERPP: DPMSolverMultistepScheduler,
}
_PREDICTIONS = ("epsilon", "v_prediction")


def make_scheduler(name: SchedulerName, config: Mapping[str, Any], steps: int) -> Scheduler:
    """Scheduler ``name`` with its ``steps`` timesteps set, for a model whose ``scheduler_config.json`` is ``config``.

    Predicted latents are never clipped. DDPM ends at the clean latent and spaces its timesteps "leading" unless the
    config says otherwise (spec C5).

    Raises:
        WeightsError: the config asks for a prediction that is neither noise nor velocity.
        UsageError: more steps than the model has timesteps.
    """
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise WeightsError(
            f"The scheduler config says prediction_type {prediction!r}.", f"Supported: {', '.join(_PREDICTIONS)}."
        )
    options: dict[str, Any] = {"prediction_type": prediction, "thresholding": False}
    if name in (SchedulerName.DDPM, SchedulerName.DDIM):
        options |= {"clip_sample": False, "timestep_spacing": config.get("timestep_spacing", "leading")}
    if name is SchedulerName.DDPM:
        options["set_alpha_to_one"] = True
    scheduler: Scheduler = _CLASSES[name].from_config(dict(config), **options)
    if name is SchedulerName.DDPM:  # its step takes the root of a difference that vanishes with a_t: see to its sign
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double().clamp_min(2**-24)
    scheduler.set_timesteps(steps)
    if int(scheduler.timesteps[0]) >= len(scheduler.alphas_cumprod):  # 1000 "leading" steps with an offset
        raise UsageError(f"steps is {steps}, too many for the {name.value} scheduler.", f"Use at most {steps - 1}.")
    return scheduler


_MEMORY = ("model_outputs", "timestep_list", "lower_order_nums", "last_sample", "this_order", "_step_index")


def remembered(scheduler: Scheduler) -> dict[str, Any]:
    """What a scheduler of several orders keeps of the steps before; nothing for the others.

    The bands of a canvas take their steps one after the other with one scheduler, which therefore has to be handed
    the memory of each.
    """
    if not hasattr(scheduler, "model_outputs"):
        return {}
    state = {name: getattr(scheduler, name) for name in _MEMORY if hasattr(scheduler, name)}
    return {name: list(value) if isinstance(value, list) else value for name, value in state.items()}


def recall(scheduler: Scheduler, state: Mapping[str, Any]) -> None:
    """Give a scheduler back what :func:`remembered` took from it."""
    for name, value in state.items():
        setattr(scheduler, name, list(value) if isinstance(value, list) else value)


def signal_and_noise(scheduler: Scheduler, timestep: int) -> tuple[Tensor, Tensor]:
    """sqrt(a_t) and sqrt(1 - a_t) as float64 scalars."""
    cumulative = scheduler.alphas_cumprod[timestep].double()
    return cumulative.sqrt(), (1 - cumulative).sqrt()


def add_noise(scheduler: Scheduler, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
    """``latents`` carried forward to ``timestep``."""
    signal, spread = signal_and_noise(scheduler, timestep)
    return (signal * latents + spread * noise).to(latents.dtype)


def to_x0(scheduler: Scheduler, prediction: Tensor, latents: Tensor, timestep: int) -> Tensor:
    """The clean latents that a prediction at ``timestep`` implies, in float64."""
    signal, spread = signal_and_noise(scheduler, timestep)
    if scheduler.config.prediction_type == "v_prediction":
        return signal * latents.double() - spread * prediction.double()
    return (latents.double() - spread * prediction.double()) / signal


def from_x0(scheduler: Scheduler, x0: Tensor, latents: Tensor, timestep: int) -> Tensor:
    """Inverse of :func:`to_x0`: the prediction that implies ``x0``, in the dtype of ``latents``."""
    signal, spread = signal_and_noise(scheduler, timestep)
    if scheduler.config.prediction_type == "v_prediction":
        prediction = (signal * latents.double() - x0.double()) / spread
    else:
        prediction = (latents.double() - signal * x0.double()) / spread
    return prediction.to(latents.dtype)
