"""Stable Diffusion as a prior: one stage in latents, with an autoencoder around it.

The autoencoder loses far more than 50 dB, so what makes a sample agree with the small picture is the last projection,
in pixels. A tiny autoencoder (``vae_tiny/`` or ``taesd/`` in the folder, or a folder of its own) makes the projections
during sampling affordable, and decodes the sample too.
"""

# shapes: H W pixels, h w latent cells, R guidance rows, L text tokens, D text width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from xpsr_cli.device import Placement
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.exploring.operators import Size
from xpsr_cli.exploring.priors import Predict, PriorStage, Request
from xpsr_cli.exploring.published import PublishedPrior, load_network, need_parts, scheduler_fields, weights_files
from xpsr_cli.exploring.stages import GuidedNetwork, guidance_texts, words_only
from xpsr_cli.integrity import read_json
from xpsr_cli.models.folders import CONFIG
from xpsr_cli.models.loading import load_tokenizer
from xpsr_cli.sampling.prompts import PromptEncoder
from xpsr_cli.settings import LongPrompts

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
STEPS, GUIDANCE = 20, 4.0
MOST_TIMES_NATIVE = 2
"""Beyond twice the side it was trained at, Stable Diffusion repeats itself, and attention grows with the area."""
_TINY_FOLDERS = ("vae_tiny", "taesd")


@dataclass
class LatentStage:
    """Stable Diffusion's one stage: see :class:`~xpsr_cli.exploring.priors.PriorStage`."""

    prior: StableDiffusionPrior
    size: Size
    name: str = "latent"
    steps: int = STEPS

    @property
    def channels(self) -> int:
        return int(self.prior.unet.config.in_channels)

    @property
    def cell_px(self) -> int:
        return 2 ** (len(self.prior.vae.config.block_out_channels) - 1)

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        return self.prior.scheduler_config

    def predictor(self, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        """The words alone decide: Stable Diffusion sees neither picture."""
        words_only(request, self.prior.name)
        scale = GUIDANCE if request.guidance_scale is None else request.guidance_scale
        texts = guidance_texts(request.prompt, request.negative_prompt, scale)
        placement = self.prior.placement
        return GuidedNetwork(
            self.prior.unet,
            placement,
            scale=scale,
            conditions={"encoder_hidden_states": placement.put(self.prior.encode_texts(texts))},
            rows=len(texts),
        )

    def decode(self, canvas: Tensor) -> Tensor:
        """(1, c, h, w) latents to (1, 3, H, W), without the part of the last cells beyond the picture."""
        vae, placement = self.prior.vae, self.prior.placement
        pixels = placement.fetch(vae.decode(placement.put(canvas / vae.config.scaling_factor)).sample)
        return pixels[:, :, : self.size[0], : self.size[1]]

    def encode(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) to latents, the mean; whole cells, which continue the last row and column."""
        vae, placement = self.prior.vae, self.prior.placement
        down, right = (-side % self.cell_px for side in pixels.shape[-2:])
        encoded = vae.encode(placement.put(F.pad(pixels, (0, right, 0, down), mode="replicate")))
        latents = encoded.latents if isinstance(vae, AutoencoderTiny) else encoded.latent_dist.mean
        return placement.fetch(latents) * vae.config.scaling_factor


class StableDiffusionPrior(PublishedPrior):
    """Stable Diffusion 1.x or 2.x from a folder: see :class:`~xpsr_cli.exploring.priors.Prior`.

    Args:
        folder: in diffusers layout: tokenizer, text_encoder, unet, vae and scheduler.
        tiny: a folder with an ``AutoencoderTiny`` for the same latents.
    """

    def __init__(self, name: str, folder: Path, placement: Placement, tiny: Path | None = None) -> None:
        tiny = tiny or next((folder / part for part in _TINY_FOLDERS if (folder / part).is_dir()), None)
        vae_class, vae = (AutoencoderKL, folder / "vae") if tiny is None else (AutoencoderTiny, tiny)
        parts = ("tokenizer", "text_encoder", "unet", "scheduler")
        need_parts(folder, parts if tiny is not None else (*parts, "vae"), "Stable Diffusion")
        networks = (folder / "text_encoder", folder / "unet", vae)
        super().__init__(name, placement, [file for part in networks for file in weights_files(part)])
        text_encoder = placement.place(load_network(CLIPTextModel, folder / "text_encoder", placement.dtype))
        self.unet = placement.place(load_network(UNet2DConditionModel, folder / "unet", placement.dtype))
        self.vae = placement.place(load_network(vae_class, vae, placement.dtype))
        self.scheduler_config = scheduler_fields(folder / "scheduler")
        self._texts = PromptEncoder(load_tokenizer(folder / "tokenizer", text_encoder), text_encoder, placement)
        if self.vae.config.latent_channels != self.unet.config.in_channels:
            raise WeightsError(
                f"The UNet of {folder} takes {self.unet.config.in_channels} channels;"
                f" the autoencoder in {vae} makes {self.vae.config.latent_channels}.",
                "Use a text-to-image model, and an autoencoder of the same family.",
            )

    def stages(self, small: Size, large: Size) -> list[PriorStage]:
        """One stage of size ``large``, which is best at what the model was trained at (512 pixels for 1.5)."""
        cell = 2 ** (len(self.vae.config.block_out_channels) - 1)
        most = MOST_TIMES_NATIVE * cell * int(self.unet.config.sample_size)
        if max(large) > most:
            raise UsageError(
                f"{self.name} makes pictures of up to {most} pixels on a side, not {large[1]} x {large[0]}.",
                "Choose a smaller scale, or another prior.",
            )
        return [LatentStage(self, large)]

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(R, L, D) float32 in memory."""
        return torch.cat([self._texts.encode(text, "", LongPrompts.TRUNCATE) for text in texts])


def is_tiny_autoencoder(folder: Path) -> bool:
    """Whether a folder is that of an ``AutoencoderTiny``, as its authors publish it."""
    return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("_class_name") == "AutoencoderTiny"
