"""The autoencoder of small models: a fixed orthonormal transform of what the enlarged photo lacks.

An ordinary VAE must learn to store the whole picture. Super-resolution already holds a blurred one, the enlarged
input, so this autoencoder stores only the *residual* ``photo - enlarged``. What is missing is large at edges and
small in skies, so the residual is divided by the local contrast of the enlarged input; then every 4 x 4 block is
projected on the leading principal axes of such residuals and divided by their standard deviations. The latents are
zero-mean and unit-variance everywhere. The inverse adds the residual back, in proportion to the contrast, and lets a
small convolutional network smooth block borders. A zero latent therefore decodes to (nearly) the enlarged input, and
noise in the latents cannot become grain where the photo is flat.

Deviation from XPSR, whose autoencoder is the Stable Diffusion VAE; the idea of residual latents is ResShift's
(NeurIPS 2023), the decoder that sees the input is StableSR's (IJCV 2024).
"""

# shapes: B batch, H W pixels, h = H/f, w = W/f latent cells, f = block size, Z latent channels, P = 3 f f block values

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

CONTRAST_FLOOR = 0.01
"""Least contrast, in units of [-1, 1] pixels: a little over one step of an 8-bit photo."""
CONTRAST_REACH = 2
"""Latent cells on each side that the contrast of a cell is averaged over."""


def local_contrast(photo_pm1: Tensor, cell: int) -> Tensor:
    """Local contrast of a photo (B, 3, H, W) in [-1, 1]: RMS luma gradient around every cell, (B, 1, h, w)."""
    grey = F.pad(photo_pm1.mean(dim=1, keepdim=True), (0, 1, 0, 1), mode="replicate")
    energy = grey[..., :-1, :].diff(dim=-1) ** 2 + grey[..., :-1].diff(dim=-2) ** 2
    cells = F.avg_pool2d(energy, cell)
    around = F.avg_pool2d(cells, 2 * CONTRAST_REACH + 1, 1, CONTRAST_REACH, count_include_pad=False)
    return around.sqrt() + CONTRAST_FLOOR


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
        block_size: int = 4,
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
        return math.ceil(reach_px / self.config.block_size) + CONTRAST_REACH + 1

    def contrast(self, enlarged_pm1: Tensor) -> Tensor:
        """See :func:`local_contrast`, of cells that are blocks."""
        return local_contrast(enlarged_pm1, self.config.block_size)

    def encode_residual(self, photo_pm1: Tensor, enlarged_pm1: Tensor) -> Tensor:
        """Latents of what ``enlarged_pm1`` lacks.

        Args:
            photo_pm1: (B, 3, H, W) in [-1, 1], H and W multiples of the block size.
            enlarged_pm1: the enlarged input, same shape and range.

        Returns:
            (B, Z, h, w), about zero mean and unit variance.
        """
        blocks = F.pixel_unshuffle(photo_pm1 - enlarged_pm1, self.config.block_size)  # (B, P, h, w)
        latents = F.conv2d(blocks, (self.basis / self.deviation[:, None])[:, :, None, None])
        return latents / self.contrast(enlarged_pm1)

    def decode_residual(self, latents: Tensor, enlarged_pm1: Tensor) -> Tensor:
        """The photo of ``latents`` over ``enlarged_pm1``; inverse of :meth:`encode_residual` up to the dropped axes.

        Args:
            latents: (B, Z, h, w).
            enlarged_pm1: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, 3, H, W), about [-1, 1], not clamped.
        """
        weight = (self.basis * self.deviation[:, None]).T  # (P, Z)
        blocks = F.conv2d(latents * self.contrast(enlarged_pm1), weight[:, :, None, None])
        residual = F.pixel_shuffle(blocks, self.config.block_size)
        photo = enlarged_pm1 + residual
        features = self.conv_in(F.pixel_unshuffle(photo, 4))
        for block in self.blocks:
            features = block(features)
        return photo + F.pixel_shuffle(self.conv_out(features), 4)

    @torch.no_grad()
    def fit(self, photo_pm1: Tensor, enlarged_pm1: Tensor) -> None:
        """Set the axes from pairs (N, 3, H, W) in [-1, 1]: principal components by decreasing variance."""
        blocks = F.pixel_unshuffle(photo_pm1 - enlarged_pm1, self.config.block_size) / self.contrast(enlarged_pm1)
        values = blocks.double().transpose(0, 1).flatten(1)  # (P, N*h*w)
        variance, axes = torch.linalg.eigh(values @ values.T / values.shape[1])  # increasing
        keep = self.config.latent_channels
        self.basis.copy_(axes.flip(1)[:, :keep].T)
        self.deviation.copy_(variance.flip(0)[:keep].clamp_min(1e-12).sqrt())
