"""Photos to latents and back, on canvases of any size and without trace, for both kinds of autoencoder."""

# shapes: H W canvas pixels, h w canvas latent cells, c latent channels, f pixels per latent cell

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.sampling.staged import decoder_stages, encoder_stages, run_stages
from xpsr_cli.sampling.tiles import blocks

WINDOW_PX = 1024
"""Pixels along the side of what an autoencoder is given at once; smaller canvases are one plain call."""


class LatentCodec(Protocol):
    """An autoencoder on whole canvases, which stay in memory while windows visit the device."""

    channels: int
    factor: int  # f

    def encode(self, image_01: Tensor) -> tuple[Tensor, Tensor]:
        """Photo (1, 3, H, W) in [0, 1] to mean and deviation of its latents, (1, c, h, w), scaled for diffusion."""

    def decode(self, latents: Tensor, image_01: Tensor) -> Tensor:
        """Latents (1, c, h, w), and the enlarged input they belong to, to a photo (1, 3, H, W) in [0, 1]."""


def make_codec(vae: AutoencoderKL | ResidualAutoencoder, placement: Placement) -> LatentCodec:
    """The codec for an autoencoder, which is moved to ``placement``.

    It computes in float32 where its type matters: the small one, whose output is the photo itself, always; Stable
    Diffusion's in place of float16, in which it overflows (config ``force_upcast``). Stable Diffusion's keeps its
    channels first: with channels last, torch's group norm on CPUs is inexact over many cells (measured with random
    weights: 0.4 / 255 of the decoded photo at 768 x 768 pixels), and the convolutions are hardly faster.
    """
    exact = replace(placement, dtype=torch.float32)
    if isinstance(vae, ResidualAutoencoder):
        return ResidualCodec(exact.place(vae), exact)
    if placement.dtype is torch.float16 and vae.config.get("force_upcast", False):
        placement = exact
    placement = replace(placement, channels_last=False)
    return KLCodec(placement.place(vae), placement)


class ResidualCodec:
    """Latents of what the enlarged input lacks. Its decoder sees finitely far, so windows with a halo are exact."""

    def __init__(self, vae: ResidualAutoencoder, placement: Placement) -> None:
        self.vae = vae
        self.placement = placement
        self.channels = int(vae.config.latent_channels)
        self.factor = int(vae.config.block_size)

    def encode(self, image_01: Tensor) -> tuple[Tensor, Tensor]:
        """All zero: the enlarged input lacks nothing of itself."""
        zero = torch.zeros(1, self.channels, image_01.shape[-2] // self.factor, image_01.shape[-1] // self.factor)
        return zero, zero

    @torch.inference_mode()
    def decode(self, latents: Tensor, image_01: Tensor) -> Tensor:
        """Window by window, each with the context its cells depend on."""
        height, width = latents.shape[-2:]
        photo = torch.empty_like(image_01)
        for core in blocks(height, width, WINDOW_PX // self.factor):
            outer = core.grown(self.vae.halo_latents, height, width)
            enlarged_pm1 = outer.scaled(self.factor).crop(image_01) * 2 - 1
            decoded = self.vae.decode_residual(
                self.placement.put(outer.crop(latents)), self.placement.put(enlarged_pm1)
            )
            piece = core.within(outer).scaled(self.factor).crop(self.placement.fetch(decoded))
            core.scaled(self.factor).crop(photo).copy_((piece / 2 + 0.5).clamp(0, 1))
        return photo


class KLCodec:
    """Stable Diffusion's autoencoder: one plain call on a small canvas, stage by stage on a large one."""

    def __init__(self, vae: AutoencoderKL, placement: Placement) -> None:
        self.vae = vae
        self.placement = placement
        self.channels = int(vae.config.latent_channels)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scaling = float(vae.config.scaling_factor)  # 0.18215 for SD 1.5: unit variance

    @torch.inference_mode()
    def encode(self, image_01: Tensor) -> tuple[Tensor, Tensor]:
        image_pm1 = image_01 * 2 - 1
        if max(image_01.shape[-2:]) <= WINDOW_PX:
            posterior = self.vae.encode(self.placement.put(image_pm1)).latent_dist
        else:
            moments = run_stages(
                encoder_stages(self.vae), image_pm1, image_01.shape[-2] // self.factor, self.placement
            )
            posterior = DiagonalGaussianDistribution(moments)
        return self.placement.fetch(posterior.mean) * self.scaling, self.placement.fetch(posterior.std) * self.scaling

    @torch.inference_mode()
    def decode(self, latents: Tensor, image_01: Tensor) -> Tensor:
        """Latents to a photo; the enlarged input is not needed."""
        latents = latents / self.scaling
        if max(latents.shape[-2:]) * self.factor <= WINDOW_PX:
            photo_pm1 = self.placement.fetch(self.vae.decode(self.placement.put(latents)).sample)
        else:
            photo_pm1 = run_stages(decoder_stages(self.vae), latents, latents.shape[-2], self.placement)
        return (photo_pm1 / 2 + 0.5).clamp(0, 1)
