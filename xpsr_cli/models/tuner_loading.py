"""A skip tuner as an activator: a folder of its own, or ``activator/`` in the folder of an add-on.

The folder holds ``xpsr.json`` (kind ``activator``, the base whose UNet it steers, the steps it takes) and
``skip_tuner/`` in diffusers' layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.folders import check_shapes, weights_file, write_json
from xpsr_cli.models.loading import Components, load_pretrained
from xpsr_cli.models.reference_loading import check_base
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.weights import MODEL_CARD

KIND = "activator"
TUNER = "skip_tuner"


@dataclass(frozen=True)
class TunerActivator:
    """A skip tuner with what is known of it."""

    tuner: SkipTuner
    name: str
    steps: int  # of a run that makes a reference
    weights_file: Path


def load_tuner(folder: Path, components: Components) -> TunerActivator:
    """The tuner in ``folder`` for the UNet of ``components``, where that is and in its precision.

    Raises:
        WeightsError: no such activator, a damaged one, or one of another base.
    """
    card = read_json(folder / MODEL_CARD)
    if card.get("kind") != KIND:
        raise WeightsError(
            f"{folder} is of kind {card.get('kind', 'upscaler')!r}, not an activator.",
            "Name a folder that xpsr train made with a recipe such as xpsr-mini-scedit.",
        )
    check_base(card, components, folder)
    steps = card.get("steps", 4)
    if type(steps) is not int or steps < 1:
        raise WeightsError(f"{folder / MODEL_CARD} says {steps!r} steps.", "Fetch or train the activator again.")
    path = weights_file(folder / TUNER)
    try:
        tuner: SkipTuner = load_pretrained(SkipTuner, folder / TUNER, low_cpu_mem_usage=False)
    except WeightsError as error:
        raise WeightsError(f"{path} is damaged or no skip tuner.", "Fetch or train the activator again.") from error
    _check_fits(tuner, components, path)
    unet = components.unet
    nn.Module.to(tuner.eval().requires_grad_(False), device=unet.device, dtype=unet.dtype)  # diffusers' own warns
    return TunerActivator(tuner, str(card.get("name", folder.resolve().name)), steps, path)


def save_tuner(folder: Path, tuner: SkipTuner, *, name: str, base: str, base_weights: str | None, steps: int) -> None:
    """Write a folder that :func:`load_tuner` reads; the dtype is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    tuner.save_pretrained(folder / TUNER)
    card: dict[str, Any] = {"kind": KIND, "name": name, "base": base, "steps": steps}
    if base_weights is not None:
        card["base_weights"] = base_weights
    write_json(card, folder / MODEL_CARD)


def tuner_for(components: Components, hint_channels: list[int]) -> SkipTuner:
    """An untrained tuner of the sizes of a model's UNet, drawn from torch's global generator."""
    config = components.unet.config
    return SkipTuner(config.block_out_channels, config.layers_per_block, tuple(hint_channels))


def _check_fits(tuner: SkipTuner, components: Components, path: Path) -> None:
    """Refuse a tuner whose hints have other sizes than the UNet's skips."""
    found: dict[str, tuple[int, ...]] = {f"skip {k}": (int(n),) for k, n in enumerate(tuner.skip_channels)}
    wanted: dict[str, tuple[int, ...]] = {f"skip {k}": (n,) for k, n in enumerate(components.unet.skip_channels)}
    try:
        check_shapes(wanted, found, path)
        if tuner.downscale != components.controlnet.pyramid.downscale:
            raise WeightsError(f"{path} sees photos {tuner.downscale} pixels per latent cell.")
    except WeightsError as error:
        message = error.message.replace("its config.json", f"the UNet of {components.name}")
        raise WeightsError(message, "Use it with its own base, or train one for this model.") from None
