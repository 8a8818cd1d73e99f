"""Photos to latents and back, window by window, on canvases of any size and without trace, for both autoencoders."""

# shapes: H W canvas pixels, h w canvas latent cells, c latent channels, f pixels per latent cell

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Protocol

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.models.residual_autoencoder import CONTRAST_REACH, ResidualAutoencoder
from xpsr_cli.sampling.pooled_norms import FrozenLayers, decoder_layers, encoder_layers
from xpsr_cli.sampling.tiles import CanvasImage, CanvasLatents, Window

WINDOW_PX = 1024
"""Pixels along the longer side of what Stable Diffusion's autoencoder is given at once; larger canvases are cut."""

Encode = Callable[[Window], tuple[Tensor, Tensor]]
"""Mean and deviation of the latents under a window of latent cells, (1, c, h, w) each, scaled for diffusion."""
Decode = Callable[[Window], Tensor]
"""The photo under a window of latent cells, (1, 3, f h, f w) in [0, 1]."""


class LatentCodec(Protocol):
    """An autoencoder on canvases that are read and written in windows.

    What it says of a cell depends on the canvas, not on the window the cell is asked for in, up to float rounding.
    """

    channels: int
    factor: int  # f
    residual: bool  # the latents of the enlarged input itself are zero, so that nobody need ask the encoder
    lowest: int  # latent cells from top to bottom of the lowest windows that are worth their halo

    def encoder(self, image: CanvasImage, height: int, width: int, *, reference: CanvasImage | None = None) -> Encode:
        """The encoder of a canvas of ``height`` x ``width`` latent cells: of the enlarged input ``image``, or of a
        ``reference`` in its place.
        """

    def decoder(self, latents: CanvasLatents, image: CanvasImage, height: int, width: int) -> Decode:
        """The decoder of a canvas of ``height`` x ``width`` latent cells, and the enlarged input they belong to."""


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

    residual = True
    lowest = 16

    def __init__(self, vae: ResidualAutoencoder, placement: Placement) -> None:
        self.vae = vae
        self.placement = placement
        self.channels = int(vae.config.latent_channels)
        self.factor = int(vae.config.block_size)

    def encoder(self, image: CanvasImage, height: int, width: int, *, reference: CanvasImage | None = None) -> Encode:
        """What the enlarged input lacks of a reference; of itself it lacks nothing: without one all is zero."""

        @torch.inference_mode()
        def encode(window: Window) -> tuple[Tensor, Tensor]:
            zero = torch.zeros(1, self.channels, window.h, window.w)
            if reference is None:
                return zero, zero
            outer = window.grown(CONTRAST_REACH + 1, height, width)
            there, own = (
                self.placement.put(picture(outer.scaled(self.factor)) * 2 - 1) for picture in (reference, image)
            )
            return window.within(outer).crop(self.placement.fetch(self.vae.encode_residual(there, own))), zero

        return encode

    def decoder(self, latents: CanvasLatents, image: CanvasImage, height: int, width: int) -> Decode:
        """Every window is computed with the context its cells depend on."""

        @torch.inference_mode()
        def decode(window: Window) -> Tensor:
            outer = window.grown(self.vae.halo_latents, height, width)
            enlarged_pm1 = image(outer.scaled(self.factor)) * 2 - 1
            decoded = self.vae.decode_residual(self.placement.put(latents(outer)), self.placement.put(enlarged_pm1))
            return _to_01(self.placement.fetch(window.within(outer).scaled(self.factor).crop(decoded)))

        return decode


class KLCodec:
    """Stable Diffusion's autoencoder: one plain call on a small canvas, windows with frozen norms on a large one.

    A small canvas is computed, and the sample of a large one taken, when the first window is asked for.
    """

    residual = False
    lowest = 64

    def __init__(self, vae: AutoencoderKL, placement: Placement) -> None:
        self.vae = vae
        self.placement = placement
        self.channels = int(vae.config.latent_channels)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scaling = float(vae.config.scaling_factor)  # 0.18215 for SD 1.5: unit variance

    def encoder(self, image: CanvasImage, height: int, width: int, *, reference: CanvasImage | None = None) -> Encode:
        """Mean and deviation of what the encoder makes of the enlarged input, or of the reference."""
        picture = image if reference is None else reference

        def read(window: Window) -> Tensor:
            return self.placement.put(picture(window.scaled(self.factor)) * 2 - 1)

        def scaled(posterior: DiagonalGaussianDistribution) -> tuple[Tensor, Tensor]:
            fetch = self.placement.fetch
            return fetch(posterior.mean) * self.scaling, fetch(posterior.std) * self.scaling

        @cache
        def whole() -> tuple[Tensor, Tensor]:
            return scaled(self.vae.encode(read(Window(0, 0, height, width))).latent_dist)

        @cache
        def layers() -> FrozenLayers:
            return FrozenLayers(encoder_layers(self.vae), read, height, width, scale=1)

        @torch.inference_mode()
        def encode(window: Window) -> tuple[Tensor, Tensor]:
            if self._at_once(height, width):
                mean, deviation = whole()
                return window.crop(mean), window.crop(deviation)
            return scaled(DiagonalGaussianDistribution(layers()(window)))

        return encode

    def decoder(self, latents: CanvasLatents, image: CanvasImage, height: int, width: int) -> Decode:
        """Latents to a photo; the enlarged input is not needed."""

        def read(window: Window) -> Tensor:
            return self.placement.put(latents(window) / self.scaling)

        @cache
        def whole() -> Tensor:
            decoded = self.vae.decode(read(Window(0, 0, height, width))).sample
            return _to_01(self.placement.fetch(decoded))

        @cache
        def layers() -> FrozenLayers:
            return FrozenLayers(decoder_layers(self.vae), read, height, width, scale=self.factor)

        @torch.inference_mode()
        def decode(window: Window) -> Tensor:
            if self._at_once(height, width):
                return window.scaled(self.factor).crop(whole())
            return _to_01(self.placement.fetch(layers()(window)))

        return decode

    def _at_once(self, height: int, width: int) -> bool:
        return max(height, width) * self.factor <= WINDOW_PX


def _to_01(photo_pm1: Tensor) -> Tensor:
    return (photo_pm1 / 2 + 0.5).clamp(0, 1)
