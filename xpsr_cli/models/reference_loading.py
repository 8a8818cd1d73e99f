"""What makes a model read a reference: an add-on of a few weights, kept in a folder of its own.

A folder holds ``xpsr.json`` (kind ``cassr``, the base it was trained for, its activator), ``reference_attention/``
(``config.json`` and the new weights alone, under the names they would have in the base's folders) and, where it brings
one, ``activator/``. The base's own files are never changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xpsr_cli.activator_names import ACTIVATORS, BICUBIC, NONE, SPANDREL
from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.encoder import LatentEncoder
from xpsr_cli.models.folders import CONFIG, WEIGHTS, check_shapes, weights_file, write_json
from xpsr_cli.models.loading import Components, ReferenceAddOn
from xpsr_cli.models.published import published_key
from xpsr_cli.models.reference_attention import ReferenceForm
from xpsr_cli.weights import MODEL_CARD

KIND = "cassr"
ATTENTION, ACTIVATOR = "reference_attention", "activator"
_CLASS = "ReferenceAttention"

Network = TypeVar("Network", bound=LatentEncoder)


@dataclass(frozen=True)
class ReferenceShape:
    """Where and how a model reads a reference."""

    form: ReferenceForm
    blocks: tuple[bool, ...]  # per level, the coarsest first, as the up blocks run
    window: int | None = None  # cells, see ReferenceAttention

    def options(self, network: LatentEncoder, channels: int) -> dict[str, Any]:
        """The config fields of UNet or ControlNet that this asks for; none where the other one reads.

        ``channels`` are those of the ControlNet's ``encode_reference``.
        """
        in_decoder = "reference_attention" in network.config
        if in_decoder == (self.form is ReferenceForm.FUSION):
            return {}
        if not in_decoder:
            return {"reference_fusion": self.blocks[::-1]}
        return {
            "reference_attention": self.blocks,
            "reference_form": self.form.value,
            "reference_window": self.window,
            "reference_channels": channels,
        }


def add_reference(components: Components, shape: ReferenceShape) -> Components:
    """The model with untrained reference attention, drawn from torch's global generator; its weights are copied.

    Raises:
        WeightsError: a shape that this model cannot have.
    """
    networks = {}
    for part in ("unet", "controlnet"):
        network = getattr(components, part)
        fresh = _built(network, shape, components.controlnet.reference_channels)
        own, weights = named_weights(network), named_weights(fresh)
        with torch.no_grad():
            for name, value in own.items():
                weights[name].copy_(value)
        nn.Module.to(fresh, next(iter(own.values())))
        networks[part] = fresh.eval().requires_grad_(False)
    return replace(components, **networks)


def load_reference(components: Components, folder: Path) -> Components:
    """The model with the add-on in ``folder``; without a reference it computes what it did, bit for bit.

    Raises:
        WeightsError: no such add-on, a damaged one, or one of another base.
    """
    card = read_json(folder / MODEL_CARD)
    if card.get("kind") != KIND:
        raise WeightsError(
            f"{folder} is of kind {card.get('kind', 'upscaler')!r}, not an add-on of kind {KIND!r}.",
            "Name a folder that xpsr train made with a recipe such as xpsr-mini-cassr.",
        )
    check_base(card, components, folder)
    activator, steps = _read_activator(card, folder / MODEL_CARD)
    shape = _read_shape(folder / ATTENTION / CONFIG)
    path = weights_file(folder / ATTENTION)
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}.", "Fetch or save the weights again.") from error
    networks = {}
    with torch.device("meta"):
        channels = components.controlnet.reference_channels
        networks = {part: _built(getattr(components, part), shape, channels) for part in ("unet", "controlnet")}
    expected = {key: tuple(t.shape) for network in networks.values() for key, t in new_weights(network).items()}
    found = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    try:
        check_shapes(expected, found, path)
    except WeightsError as error:
        message = error.message.replace("its config.json", f"{components.name} with its config.json")
        raise WeightsError(message, "The folder mixes two models, or its base has other sizes.") from None
    for part, network in networks.items():
        _fill(network, getattr(components, part), weights)
    add_on = ReferenceAddOn(str(card.get("name", folder.resolve().name)), folder, path, activator, steps)
    return replace(components, **networks, reference=add_on)  # type: ignore[arg-type]


def save_reference(
    folder: Path,
    weights: Mapping[str, Tensor],
    shape: ReferenceShape,
    *,
    name: str,
    base: str,
    base_weights: str | None,
    reference: Mapping[str, Any],
) -> None:
    """Write an add-on: ``weights`` by their published names (:func:`new_weights`), dtypes kept.

    ``base_weights`` is the base's fingerprint, which it must then have whenever the add-on is loaded; ``reference``
    says what it was trained with, ``activator`` above all.
    """
    (folder / ATTENTION).mkdir(parents=True, exist_ok=True)
    part = folder / ATTENTION / f"{WEIGHTS}.part"
    save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, part, {"format": "pt"})
    os.replace(part, folder / ATTENTION / WEIGHTS)
    config = {"_class_name": _CLASS, "form": shape.form.value, "blocks": list(shape.blocks), "window": shape.window}
    write_json(config, folder / ATTENTION / CONFIG)
    card = {"kind": KIND, "name": name, "base": base, "reference": dict(reference)}
    if base_weights is not None:
        card["base_weights"] = base_weights
    write_json(card, folder / MODEL_CARD)


def new_weights(network: LatentEncoder) -> dict[str, Tensor]:
    """The weights that reference attention adds to UNet or ControlNet, by the names that files have for them."""
    ours = network.state_dict()
    return {published_key(key, network.published_names): ours[key] for key in ours if is_new(key)}


def named_weights(network: LatentEncoder) -> dict[str, Tensor]:
    """All weights by those names, which do not depend on what else the network reads."""
    return {published_key(key, network.published_names): value for key, value in network.state_dict().items()}


def is_new(key: str) -> bool:
    """Whether a weight of ours is one of reference attention."""
    return ".reference." in key


def _built(network: Network, shape: ReferenceShape, channels: int) -> Network:
    """A network like this one, with what reads the reference."""
    options = {**network.options_from(network.config), **shape.options(network, channels)}
    try:
        return type(network)(**options)
    except ValueError as error:
        raise WeightsError(f"This model cannot read a reference in that form: {error}") from error


def _fill(network: LatentEncoder, base: LatentEncoder, weights: Mapping[str, Tensor]) -> None:
    """Give a network without values those of ``base``, which they share, and the new ones in the same precision."""
    own = named_weights(base)
    like = next(iter(own.values()))
    filled = {}
    for key in network.state_dict():
        name = published_key(key, network.published_names)
        filled[key] = weights[name].to(like) if is_new(key) else own[name]
    network.load_state_dict(filled, assign=True)
    network.eval().requires_grad_(False)


def check_base(card: Mapping[str, Any], components: Components, folder: Path) -> None:
    base, weights = card.get("base"), card.get("base_weights")
    if base != components.name:
        raise WeightsError(
            f"The add-on {folder} was trained for {base}, and the model is {components.name}.",
            "Use it with its own base, or train one for this model.",
        )
    if weights is not None and components.weights_files and weights != components.fingerprint:
        raise WeightsError(
            f"The add-on {folder} was trained for other weights of {base} than those that are there.",
            "Fetch or train the one that belongs to them.",
        )


def _read_activator(card: Mapping[str, Any], path: Path) -> tuple[str, int]:
    """Who made most references an add-on was trained with, a word without files, and in how many steps."""
    told = card.get("reference", {})
    try:
        activator, steps = told.get("activator", BICUBIC), told.get("steps", 4)
        if activator not in ACTIVATORS or activator in (NONE, SPANDREL):
            raise ValueError(f"activator {activator!r}")
        if type(steps) is not int or not 1 <= steps <= 1000:
            raise ValueError(f"{steps!r} steps")
    except (AttributeError, ValueError) as error:
        what = repr(told) if isinstance(error, AttributeError) else str(error)
        raise WeightsError(
            f"{path} says {what} of the reference, which cannot be followed.", "Fetch or train the add-on again."
        ) from None
    return activator, steps


def _read_shape(path: Path) -> ReferenceShape:
    config = read_json(path)
    try:
        if config.pop("_class_name", None) != _CLASS:
            raise ValueError(f"it is not of the class {_CLASS}")
        form, blocks, window = ReferenceForm(config.pop("form")), config.pop("blocks"), config.pop("window")
        if config:
            raise ValueError(f"it has the unknown field {next(iter(config))!r}")
        if not isinstance(blocks, list) or not all(isinstance(block, bool) for block in blocks):
            raise ValueError(f"blocks is {blocks!r}")
        if window is not None and (type(window) is not int or window < 1):
            raise ValueError(f"window is {window!r}")
    except (ValueError, KeyError) as error:
        told = f"it has no field {error}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(
            f"{path} does not describe reference attention: {told}.", "Fetch the add-on again."
        ) from None
    return ReferenceShape(form, tuple(blocks), window)
