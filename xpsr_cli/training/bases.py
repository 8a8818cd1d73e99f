"""What training starts from: a stock Stable Diffusion, or an XPSR model that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.folders import CONFIG, WEIGHTS, weights_file
from xpsr_cli.models.loading import (
    SCHEDULER,
    TEXT_WEIGHTS,
    Components,
    load_components,
    load_pretrained,
    load_tokenizer,
)
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.settings import SamplingPreset
from xpsr_cli.training.recipe import StableDiffusionRecipe
from xpsr_cli.weights import Kind, find_base, find_model, hub_folder, installed_folder, load_registry

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


def find_stable_diffusion(name: str) -> Path:
    """The Stable Diffusion folder that ``name`` means: of the registry, a folder, or a hub id in the local cache.

    Training needs all of it, its own ``unet/`` included. Never downloads; :class:`WeightsError` otherwise.
    """
    places = list(_places(name))
    for folder in places:
        if not missing_parts(folder):
            return folder
    if places:
        raise WeightsError(
            f"The Stable Diffusion in {places[0]} has no {missing_parts(places[0])[0]}/ folder.",
            f"Training starts from a whole one ({', '.join(PARTS)}): name its folder with --base.",
        )
    raise WeightsError(
        f"The base {name!r} is not on this machine.",
        "Name the folder of a whole Stable Diffusion in diffusers layout with --base.",
    )


def missing_parts(folder: Path) -> list[str]:
    """The parts of a Stable Diffusion that a folder lacks."""
    return [part for part in PARTS if not (folder / part).is_dir()]


def _places(name: str) -> Iterator[Path]:
    """Folders that may be meant, the likeliest first."""
    entry = load_registry().get(name)
    if entry is not None and entry.kind is not Kind.BASE:
        raise WeightsError(f"{name} is a model of kind {entry.kind.value}, not a base.", "Use it with --init-from.")
    if entry is not None:
        candidates = [installed_folder(entry), *map(hub_folder, entry.hub_ids)]
    else:
        folder = Path(name).expanduser()
        candidates = [folder if folder.is_dir() else None, hub_folder(name)]
    yield from (folder for folder in candidates if folder is not None)


def from_stable_diffusion(folder: Path, recipe: StableDiffusionRecipe, name: str, seed: int) -> Components:
    """XPSR at step 0 on a stock Stable Diffusion: fresh conditional attention and ControlNet, drawn from ``seed``.

    The UNet keeps the base's weights, the ControlNet starts as a copy of its encoder behind zero convolutions
    (:meth:`XpsrControlNet.from_unet`), autoencoder and text encoder are the base's.

    Raises:
        WeightsError: a part is missing, damaged, not built, or does not fit the others.
    """
    _check_configs(folder, recipe)
    text_encoder = load_pretrained(CLIPTextModel, folder / "text_encoder")
    tokenizer = load_tokenizer(folder / "tokenizer", text_encoder)
    vae = load_pretrained(AutoencoderKL, folder / "vae", low_cpu_mem_usage=False)
    stock = load_pretrained(UNet2DConditionModel, folder / "unet")
    torch.manual_seed(seed)
    unet, controlnet = build_upon(stock, recipe)
    return Components(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        unet=unet,
        controlnet=controlnet,
        scheduler_config=read_json(folder / "scheduler" / SCHEDULER),
        preset=SamplingPreset(),
        name=name,
    )


def build_upon(stock: UNet2DConditionModel, recipe: StableDiffusionRecipe) -> tuple[XpsrUNet, XpsrControlNet]:
    """UNet and ControlNet around a stock UNet; what is fresh in them is drawn from torch's global generator."""
    unet = XpsrUNet.from_stable_diffusion(stock)
    options = {"conditioning_embedding_out_channels": tuple(recipe.pyramid_channels), "fusion": recipe.fusion}
    return unet, XpsrControlNet.from_unet(stock, **options)


def _check_configs(folder: Path, recipe: StableDiffusionRecipe) -> None:
    """Refuse a base whose parts do not fit each other, or the recipe, before gigabytes are read."""
    unet, vae, text = (read_json(folder / part / CONFIG) for part in ("unet", "vae", "text_encoder"))
    channels, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if channels != latent or unet.get("out_channels", 4) != latent:
        raise WeightsError(
            f"The UNet of {folder} takes {channels} channels, its autoencoder makes {latent}.",
            "Start from an ordinary Stable Diffusion, not one for inpainting or depth.",
        )
    width, told = unet.get("cross_attention_dim", 768), text.get("hidden_size", 512)
    if width != told:
        raise WeightsError(
            f"The UNet of {folder} reads text of width {width}, its text encoder makes {told}.",
            "The folder mixes two models, or is not a Stable Diffusion 1.x or 2.x.",
        )
    cell, halvings = len(vae.get("block_out_channels", ())) - 1, len(recipe.pyramid_channels) - 1
    if cell != halvings:
        raise WeightsError(
            f"The autoencoder of {folder} halves photos {cell} times, the recipe's pyramid {halvings} times.",
            f"Give model.pyramid_channels {cell + 1} entries.",
        )
    XpsrUNet.options_from(unet)
    for part, file in {"unet": WEIGHTS, "vae": WEIGHTS, "text_encoder": TEXT_WEIGHTS}.items():
        weights_file(folder / part, file)


def from_xpsr(name: str, base: str | None) -> Components:
    """The XPSR model ``name`` (registry, folder or hub id), small or published, with the Stable Diffusion it needs.

    ``base`` names that Stable Diffusion; ``None`` is the registry's.

    Raises:
        WeightsError: not there, damaged, or without the parts it borrows.
    """
    folder = find_model(name)
    return load_components(folder, stable_diffusion=_borrowed(folder, base))


def _borrowed(folder: Path, base: str | None) -> Path | None:
    if not missing_parts(folder):
        return None
    return find_base(folder) if base is None else next(_places(base), None) or find_stable_diffusion(base)


def check_fusion(model: Components, recipe: StableDiffusionRecipe, source: str) -> None:
    """Refuse a model from ``source`` that is not of the recipe's architecture; :class:`WeightsError`."""
    config = model.controlnet.config
    found = {
        "fusion": model.controlnet.fusion.value,
        "pyramid_channels": list(config.conditioning_embedding_out_channels),
    }
    for key, value in found.items():
        if value != getattr(recipe, key):
            raise WeightsError(
                f"{source} has {key} {value}, the recipe's model.{key} is {getattr(recipe, key)}.",
                f"Add --set model.{key}={value}.",
            )


def check_prediction(scheduler_config: dict[str, Any], prediction: str, name: str) -> None:
    """Refuse to train a model towards another target than the one it was made for; :class:`WeightsError`."""
    made_for = scheduler_config.get("prediction_type", "epsilon")
    if made_for != _PREDICTIONS[prediction]:
        right = next((ours for ours, theirs in _PREDICTIONS.items() if theirs == made_for), made_for)
        raise WeightsError(
            f"{name} predicts {right}, the recipe's loss.prediction is {prediction}.",
            f"Add --set loss.prediction={right}.",
        )
