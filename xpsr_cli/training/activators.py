"""Activators on batches of crops, as training needs them: what each makes of small photos, on the device.

``bicubic`` is the enlarged photo, ``dfc`` what the ControlNet's finest pixel head says, ``xpsr`` a short run of the
frozen model itself, without guidance and from the noise of the batch, ``scedit:FOLDER`` one of its UNet alone, steered
by a trained skip tuner.
"""

# shapes: B batch, S crop side in pixels, c h w latent channels and cells, L text tokens, D text width

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.models.degradation_free import clean_photo
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.sampling.schedulers import make_scheduler
from xpsr_cli.settings import SchedulerName
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.references import Activate


def make_activator(
    name: str,
    networks: TrainedNetworks,
    scheduler_config: Mapping[str, Any],
    steps: int,
    tuner: SkipTuner | None = None,
) -> Activate:
    """An activator by its name.

    Args:
        name: ``bicubic``, ``dfc``, ``xpsr`` or ``scedit``.
        networks: the model, which it may ask.
        scheduler_config: its noise schedule.
        steps: of a short run.
        tuner: that of ``scedit``.

    Raises:
        UsageError: a model without pixel heads has no ``dfc``.
    """
    if name == "dfc" and not networks.controlnet.config.return_rgbs:
        raise UsageError("The activator dfc needs the ControlNet's pixel heads, and this one has none.", "Use xpsr.")
    makers: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
        "bicubic": _image,
        "dfc": lambda batch: clean_photo(networks.controlnet, _image(batch)),
        "xpsr": partial(short_run, networks, scheduler_config, steps),
        "scedit": partial(short_run, networks, scheduler_config, steps, tuner=tuner),
    }
    return torch.no_grad()(makers[name])


def _image(batch: Mapping[str, Tensor]) -> Tensor:
    return (batch["enlarged_pm1"] + 1) / 2


def short_run(
    networks: TrainedNetworks,
    scheduler_config: Mapping[str, Any],
    steps: int,
    batch: Mapping[str, Tensor],
    *,
    tuner: SkipTuner | None = None,
    reference: Tensor | None = None,
) -> Tensor:
    """Photos (B, 3, S, S) in [0, 1] that the model makes of ``enlarged_pm1`` in a few steps of DDIM.

    ``batch`` also holds ``prompts`` (B, 2, L, D), the high-level and the low-level ones encoded, and ``noise``
    (B, c, h, w). A small model starts from an empty latent, as its preset does; others from noise. A ``tuner`` takes
    the place of the ControlNet; a ``reference`` (B, 3, S, S) in [0, 1] is read by a model that has attention for it.
    """
    scheduler = make_scheduler(SchedulerName.DDIM, dict(scheduler_config), steps)
    image, noise = _image(batch), batch["noise"]
    small = isinstance(networks.vae, ResidualAutoencoder)
    latents = torch.zeros_like(noise) if small else noise
    high, low = batch["prompts"].unbind(1)
    features = networks.controlnet.encode_image(image) if tuner is None else None
    read = None
    if reference is not None and features is not None:
        read = networks.controlnet.encode_reference(reference, image, features)
    steering = None if tuner is None else tuner.steering(image)
    for timestep in scheduler.timesteps.tolist():
        control = steering or networks.controlnet(
            latents, timestep, high, low, image_features=features, reference=read
        )
        predicted = networks.unet(latents, timestep, high, control, read).float()
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    if isinstance(networks.vae, ResidualAutoencoder):
        decoded = networks.vae.decode_residual(latents, batch["enlarged_pm1"])
    else:
        decoded = networks.vae.decode((latents / networks.vae.config.scaling_factor).to(networks.vae.dtype)).sample
    return ((decoded.float() + 1) / 2).clamp(0, 1)
