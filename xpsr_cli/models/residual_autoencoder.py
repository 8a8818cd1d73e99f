"""The autoencoder of small models: a fixed orthonormal transform of what the enlarged photo lacks.

An ordinary VAE must learn to store the whole picture. Super-resolution already holds a blurred one, the enlarged
input, so this autoencoder stores only the *residual* ``photo - enlarged``: every 8 x 8 block is projected on the
leading principal axes of such residuals and divided by their standard deviations, which makes the latents
zero-mean and unit-variance. The inverse adds the residual back and lets a small convolutional network smooth block
borders. A zero latent therefore decodes to (nearly) the enlarged input, never to grey.

Deviation from XPSR, whose autoencoder is the Stable Diffusion VAE; the idea of residual latents is ResShift's
(NeurIPS 2023), the decoder that sees the input is StableSR's (IJCV 2024).
"""

# shapes: B batch, H W pixels, h = H/8, w = W/8 latent cells, Z latent channels, P = 3 * 8 * 8 values of a block

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with an identity path, as in EDSR (CVPRW 2017): no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv2(F.silu(self.conv1(features)))


class ResidualAutoencoder(ModelMixin, ConfigMixin):
    """Block-wise principal components of ``photo - enlarged``, and a decoder that hides the blocks.

    Args:
        latent_channels: Z, how many principal axes are kept.
        block_size: side of a block in pixels, which is also the factor between pixels and latent cells.
        refiner_channels: width of the decoder's convolutions, which run at a quarter of the resolution.
        refiner_blocks: how many residual blocks the decoder has.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        block_size: int = 8,
        refiner_channels: int = 64,
        refiner_blocks: int = 2,
    ) -> None:
        super().__init__()
        values = 3 * block_size**2
        self.register_buffer("basis", torch.eye(latent_channels, values))  # orthonormal rows, (Z, P)
        self.register_buffer("deviation", torch.ones(latent_channels))  # per axis, in units of [-1, 1] pixels
        self.conv_in = nn.Conv2d(3 * 16, refiner_channels, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(refiner_channels) for _ in range(refiner_blocks))
        self.conv_out = nn.Conv2d(refiner_channels, 3 * 16, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    @property
    def halo_latents(self) -> int:
        """Latent cells around a cell that its decoded pixels depend on: a window with this halo is exact."""
        reach_px = 4 * (2 + 2 * len(self.blocks))
        return math.ceil(reach_px / self.config.block_size)

    def encode_residual(self, photo_pm1: Tensor, enlarged_pm1: Tensor) -> Tensor:
        """Latents of what ``enlarged_pm1`` lacks.

        Args:
            photo_pm1: (B, 3, H, W) in [-1, 1], H and W multiples of the block size.
            enlarged_pm1: the enlarged input, same shape and range.

        Returns:
            (B, Z, h, w), about zero mean and unit variance.
        """
        blocks = F.pixel_unshuffle(photo_pm1 - enlarged_pm1, self.config.block_size)  # (B, P, h, w)
        return F.conv2d(blocks, (self.basis / self.deviation[:, None])[:, :, None, None])

    def decode_residual(self, latents: Tensor, enlarged_pm1: Tensor) -> Tensor:
        """The photo of ``latents`` over ``enlarged_pm1``; inverse of :meth:`encode_residual` up to the dropped axes.

        Args:
            latents: (B, Z, h, w).
            enlarged_pm1: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, 3, H, W), about [-1, 1], not clamped.
        """
        weight = (self.basis * self.deviation[:, None]).T  # (P, Z)
        residual = F.pixel_shuffle(F.conv2d(latents, weight[:, :, None, None]), self.config.block_size)
        photo = enlarged_pm1 + residual
        features = self.conv_in(F.pixel_unshuffle(photo, 4))
        for block in self.blocks:
            features = block(features)
        return photo + F.pixel_shuffle(self.conv_out(features), 4)

    @torch.no_grad()
    def fit(self, residuals: Tensor) -> None:
        """Set the axes from examples: principal components of their blocks, by decreasing variance.

        Args:
            residuals: (N, 3, H, W), differences ``photo - enlarged`` of [-1, 1] photos.
        """
        blocks = F.pixel_unshuffle(residuals.double(), self.config.block_size).transpose(0, 1).flatten(1)  # (P, N*h*w)
        covariance = blocks @ blocks.T / blocks.shape[1]
        variance, axes = torch.linalg.eigh(covariance)  # increasing
        keep = self.config.latent_channels
        self.basis.copy_(axes.flip(1)[:, :keep].T)
        self.deviation.copy_(variance.flip(0)[:keep].clamp_min(1e-12).sqrt())
