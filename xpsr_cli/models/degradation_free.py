"""The degradation-free constraint (DFC): what the ControlNet extracts must predict the clean photo (XPSR).

# shapes: B batch, H W photo pixels, h w latent cells, c latent channels, C_k channels of residual k
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from xpsr_cli.models.controlnet import ControlOutput, XpsrControlNet

DEGRADATION_FREE_WEIGHT = 0.05
"""Weight of the summed terms beside the noise-prediction error, as published."""


class DegradationFreeHeads(nn.Module):
    """One plain 3x3 convolution per ControlNet residual that predicts the clean latent at that residual's size."""

    def __init__(self, down_channels: Sequence[int], mid_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(c, latent_channels, 3, padding=1) for c in down_channels)
        self.mid = nn.Conv2d(mid_channels, latent_channels, 3, padding=1)

    def forward(self, down: Sequence[Tensor], mid: Tensor) -> tuple[Tensor, ...]:
        """Unscaled residuals (B, C_k, h_k, w_k) to latents (B, c, h_k, w_k), the mid block's last."""
        return (*(head(residual) for head, residual in zip(self.down, down, strict=True)), self.mid(mid))


class DegradationFreeLoss(NamedTuple):
    """The unweighted terms, each a mean absolute error, and their sum."""

    rgb: tuple[Tensor, ...]
    latent: tuple[Tensor, ...]  # one per residual, the mid block's last
    total: Tensor


def reduced(target: Tensor, like: Tensor) -> Tensor:
    """``target`` at the size of ``like``: bilinear between half-pixel centres, no antialiasing, as published."""
    return F.interpolate(target, size=like.shape[-2:], mode="bilinear", align_corners=False)


def clean_photo(controlnet: XpsrControlNet, image_01: Tensor) -> Tensor:
    """What the finest pixel head says of a photo (B, 3, H, W) in [0, 1]: the same, less degraded.

    It speaks of half the size, and is enlarged to that of the photo (bicubic).
    """
    _, rgb_pm1 = controlnet.pyramid(image_01, with_heads=True)
    finest = (rgb_pm1[0].float() + 1) / 2
    return F.interpolate(finest, image_01.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def degradation_free_loss(output: ControlOutput, hr_pm1: Tensor, latents: Tensor) -> DegradationFreeLoss:
    """The DFC terms of one batch, computed in fp32.

    ``output`` comes from a ControlNet call ``with_heads=True``; ``hr_pm1`` is the clean photo (B, 3, H, W) in [-1, 1];
    ``latents`` is its scaled latent (B, c, h, w), without noise.
    """
    hr, clean = hr_pm1.float(), latents.float()
    rgb = tuple(F.l1_loss(prediction.float(), reduced(hr, prediction)) for prediction in output.rgb)
    latent = tuple(F.l1_loss(prediction.float(), reduced(clean, prediction)) for prediction in output.latent)
    if not rgb and not latent:
        raise ValueError("The ControlNet's output carries no degradation-free predictions; call it with_heads=True.")
    return DegradationFreeLoss(rgb, latent, sum(rgb + latent, start=hr.new_zeros(())))
