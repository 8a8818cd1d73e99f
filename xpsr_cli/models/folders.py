"""Network folders to networks and back, strictly: every key, shape and config field is honoured or refused.

A network's folder is ``config.json`` beside ``diffusion_pytorch_model.safetensors`` (diffusers' layout, XPSR's key
names); :mod:`xpsr_cli.models.loading` puts the folders of a whole model together.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.encoder import LatentEncoder
from xpsr_cli.models.published import ACCEPTED, published_key
from xpsr_cli.models.unet import XpsrUNet

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

Network = TypeVar("Network", bound=LatentEncoder)
logger = logging.getLogger(__name__)


def load_unet(folder: Path) -> XpsrUNet:
    """The UNet of a published ``unet/`` folder, fp32, in eval mode. Raises :class:`WeightsError`."""
    return _load(XpsrUNet, folder)


def load_controlnet(folder: Path) -> XpsrControlNet:
    """The ControlNet of a published ``controlnet/`` folder, fp32, in eval mode. Raises :class:`WeightsError`."""
    return _load(XpsrControlNet, folder)


def save_unet(unet: XpsrUNet, folder: Path) -> None:
    """Write a published ``unet/`` folder; an interrupted save leaves the old files."""
    _save(unet, folder)


def save_controlnet(controlnet: XpsrControlNet, folder: Path) -> None:
    """Write a published ``controlnet/`` folder; an interrupted save leaves the old files."""
    _save(controlnet, folder)


def published_keys(network: LatentEncoder) -> dict[str, tuple[int, ...]]:
    """Shape of every weight under its published name."""
    weights = network.state_dict()
    return {theirs: tuple(weights[ours].shape) for theirs, ours in _names(network).items()}


def _names(network: LatentEncoder) -> dict[str, str]:
    """Published name -> our name, for every weight of ``network``."""
    return {published_key(key, network.published_names): key for key in network.state_dict()}


def _load(cls: type[Network], folder: Path) -> Network:
    config = read_json(folder / CONFIG)
    options = cls.options_from(config)
    strangers = sorted(f for f in config if f not in options and f not in ACCEPTED and not f.startswith("_"))
    if strangers:
        logger.warning("%s: fields of no known XPSR version are ignored: %s", folder / CONFIG, ", ".join(strangers))
    try:
        with torch.device("meta"):
            network = cls(**options)
    except (ValueError, TypeError, IndexError) as error:
        raise WeightsError(f"{folder / CONFIG} does not describe a network: {error}") from error
    path = weights_file(folder)
    names = _names(network)
    try:
        with safe_open(path, "pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
            check_shapes(published_keys(network), shapes, path)
            weights = {ours: file.get_tensor(key).to(torch.float32, copy=True) for key, ours in names.items()}
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}.", "Fetch or save the weights again.") from error
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _save(network: LatentEncoder, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = network.state_dict()
    tensors = {theirs: weights[ours].detach().cpu().contiguous() for theirs, ours in _names(network).items()}
    part = folder / f"{WEIGHTS}.part"
    save_file(tensors, part, metadata={"format": "pt"})
    os.replace(part, folder / WEIGHTS)
    write_json(published_config(network), folder / CONFIG)


def published_config(network: LatentEncoder) -> dict[str, Any]:
    """The network's config with every published field; ours (fusion, attention of blocks) only where not default."""
    own = {key: value for key, value in network.config.items() if not key.startswith("_")}
    if own.get("fusion") == "parallel":
        del own["fusion"]
    if "conditional_attention" in own and all(own["conditional_attention"] or ()):
        del own["conditional_attention"]
    if not any(own.get("reference_attention") or own.get("reference_fusion") or ()):
        own = {key: value for key, value in own.items() if not key.startswith("reference_")}
    fixed = {field: allowed[0] for field, allowed in network.fixed_fields.items()}
    if "up_use_lowlevel_prompt" in fixed:
        fixed["up_use_lowlevel_prompt"] = [False] * len(own["block_out_channels"])
    return {"_class_name": network.published_class, **fixed, **own}


def weights_file(folder: Path, name: str = WEIGHTS) -> Path:
    """The safetensors file of a folder. A pickle in its place is refused: loading one can run code."""
    path = folder / name
    if path.is_file():
        return path
    pickle = path.with_suffix(".bin")
    if pickle.is_file():
        raise WeightsError(
            f"{pickle} is a pickle, which can run code when it is read.",
            f"Convert it to {name} first, for example with the convert.py of the safetensors project.",
        )
    raise WeightsError(f"{path} does not exist.", "Check the folder, or fetch the weights again.")


def check_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], path: Path, shown: int = 3
) -> None:
    """Raise :class:`WeightsError` naming the first few keys that are missing, unexpected or of another shape."""
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {found[key]} instead of {shape}"
            for key, shape in expected.items()
            if key in found and found[key] != shape
        ],
    }
    told = [
        f"{len(keys)} {kind} ({', '.join(keys[:shown])}{', ...' if len(keys) > shown else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if told:
        raise WeightsError(
            f"{path} does not fit its config.json: {'; '.join(told)}.",
            "The folder mixes two models, or is not an XPSR one.",
        )


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON object, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)
