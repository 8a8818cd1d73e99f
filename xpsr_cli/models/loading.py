"""Everything a model consists of, from one folder in diffusers layout (or an XPSR one beside Stable Diffusion)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import hash_file, read_json
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.folders import (
    CONFIG,
    check_shapes,
    load_controlnet,
    load_unet,
    published_keys,
    save_controlnet,
    save_unet,
    weights_file,
    write_json,
)
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.settings import SamplingPreset
from xpsr_cli.weights import MODEL_CARD, read_preset

__all__ = [
    "Components",
    "ReferenceAddOn",
    "load_components",
    "load_controlnet",
    "load_unet",
    "published_keys",
    "save_components",
    "save_controlnet",
    "save_unet",
]

SCHEDULER = "scheduler_config.json"
TEXT_WEIGHTS = "model.safetensors"
AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "ResidualAutoencoder": ResidualAutoencoder}


@dataclass(frozen=True)
class ReferenceAddOn:
    """What lets a model read a reference beside the photo; see :mod:`xpsr_cli.models.reference_loading`."""

    name: str
    folder: Path
    weights_file: Path
    activator: str  # that made most references it was trained with, by its name
    steps: int  # that this activator took, where it takes any

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the new weights, which are small."""
        return hash_file(self.weights_file)


@dataclass
class Components:
    """A loaded model: the networks in eval mode on one device, and how it likes to be sampled."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL | ResidualAutoencoder
    unet: XpsrUNet
    controlnet: XpsrControlNet
    scheduler_config: dict[str, Any]  # noise schedule and prediction type, diffusers' fields
    preset: SamplingPreset
    name: str
    weights_files: tuple[Path, ...] = ()
    reference: ReferenceAddOn | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights files, those of an add-on left out.

        Computed when first asked for, which takes seconds for a full-size model.
        """
        return hashlib.sha256("".join(hash_file(path) for path in self.weights_files).encode()).hexdigest()


def load_components(
    folder: Path,
    *,
    stable_diffusion: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Components:
    """The model in ``folder``; parts it lacks (all but unet/ and controlnet/) come from ``stable_diffusion``.

    ``xpsr.json`` (name and sampling preset) may be absent: then the preset is the published one. Never downloads.
    Raises :class:`WeightsError` for anything missing, damaged, of another architecture or not built.
    """
    text, vae, scheduler, tokenizer = (
        _part(folder, stable_diffusion, part) for part in ("text_encoder", "vae", "scheduler", "tokenizer")
    )
    card = read_json(folder / MODEL_CARD) if (folder / MODEL_CARD).is_file() else {}
    preset = read_preset(folder)
    files = (
        weights_file(folder / "unet"),
        weights_file(folder / "controlnet"),
        weights_file(vae),
        weights_file(text, TEXT_WEIGHTS),
    )
    networks = {
        "text_encoder": load_pretrained(CLIPTextModel, text),
        "vae": load_pretrained(_autoencoder_class(vae), vae, low_cpu_mem_usage=False),
        "unet": load_unet(folder / "unet"),
        "controlnet": load_controlnet(folder / "controlnet"),
    }
    for network in networks.values():
        network.eval().requires_grad_(False)
        torch.nn.Module.to(network, device=device, dtype=dtype)  # diffusers' own warns at every cast
    return Components(
        tokenizer=load_tokenizer(tokenizer, networks["text_encoder"]),
        scheduler_config=read_json(scheduler / SCHEDULER),
        preset=preset,
        name=str(card.get("name", folder.resolve().name)),
        weights_files=files,
        **networks,
    )


def save_components(
    folder: Path,
    *,
    name: str,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    vae: AutoencoderKL | ResidualAutoencoder,
    unet: XpsrUNet,
    controlnet: XpsrControlNet,
    scheduler_config: dict[str, Any],
    preset: SamplingPreset,
) -> None:
    """Write a folder that :func:`load_components` reads on its own; dtypes are kept."""
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    with no_progress_bar():
        text_encoder.save_pretrained(folder / "text_encoder")
    vae.save_pretrained(folder / "vae")
    save_unet(unet, folder / "unet")
    save_controlnet(controlnet, folder / "controlnet")
    write_json(scheduler_config, folder / "scheduler" / SCHEDULER)
    write_json({"name": name, "preset": asdict(preset)}, folder / MODEL_CARD)


def _part(folder: Path, stable_diffusion: Path | None, part: str) -> Path:
    """Where a part lies: in the model's own folder first."""
    for place in (folder, stable_diffusion):
        if place is not None and (place / part).is_dir():
            return place / part
    raise WeightsError(
        f"{folder} has no {part}/ folder" + (f", nor has {stable_diffusion}." if stable_diffusion else "."),
        "An XPSR checkpoint needs the Stable Diffusion 1.5 folder beside it.",
    )


def _autoencoder_class(folder: Path) -> type[AutoencoderKL] | type[ResidualAutoencoder]:
    name = read_json(folder / CONFIG).get("_class_name")
    if name not in AUTOENCODERS:
        raise WeightsError(f"{folder / CONFIG} names {name!r}.", f"Supported are {' and '.join(AUTOENCODERS)}.")
    return AUTOENCODERS[name]


def load_pretrained(cls: Any, folder: Path, **options: Any) -> Any:
    """A diffusers or transformers network from its folder, strictly, in fp32."""
    options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        with no_progress_bar():
            network, info = cls.from_pretrained(folder, torch_dtype=torch.float32, **options)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    check_shapes(dict.fromkeys(missing, ()), dict.fromkeys(unexpected, ()), folder)
    return network


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing on stderr, which belongs to the caller."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_tokenizer(folder: Path, text_encoder: CLIPTextModel) -> CLIPTokenizer:
    """The tokenizer of a folder; without its files transformers would make an empty one and say nothing."""
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{folder} holds no CLIP tokenizer: {str(error).splitlines()[0]}") from error
    known, files = text_encoder.config.vocab_size, ("tokenizer.json", "vocab.json")
    if not any((folder / file).is_file() for file in files) or len(tokenizer) > known:
        raise WeightsError(
            f"{folder} has a tokenizer of {len(tokenizer)} tokens; the text encoder knows {known}.",
            "The folder is incomplete or belongs to another model.",
        )
    return tokenizer
