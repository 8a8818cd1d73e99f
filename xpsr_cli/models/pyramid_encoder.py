"""The image pyramid: how the ControlNet sees the photo.

# shapes: B batch, H W photo pixels, h w latent cells, f = 2**levels pixels per cell (8 as published)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RESIDUAL_SCALE = 0.2  # of RRDB, as in ESRGAN


def conv3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, or halves it with ``stride`` 2."""
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)


def zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    """``conv`` with all weights zero, so that an untrained ControlNet changes nothing."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each seeing all before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            conv3(channels * k, channels)
            for k in range(1, 6)  # growth equals the width
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(conv(seen), 0.2)], dim=1)
        return x + RESIDUAL_SCALE * self.conv5(seen)


class ResidualInResidualDenseBlock(nn.Module):
    """RRDB: three dense blocks inside one residual (ESRGAN). Off in the released recipe; the config decides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (ResidualDenseBlock(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x + RESIDUAL_SCALE * self.rdb3(self.rdb2(self.rdb1(x)))


class PyramidImageEncoder(nn.Module):
    """Photo in [0, 1] to features on the latent grid, with an RGB head at every scale on the way.

    The last convolution starts at zero.
    """

    def __init__(
        self,
        out_channels: int,
        channels: Sequence[int] = (16, 32, 96, 256),
        image_channels: int = 3,
        use_rrdb: bool = False,
        rgb_heads: bool = True,
    ) -> None:
        super().__init__()
        self.downscale = 2 ** (len(channels) - 1)
        self.conv_in = conv3(image_channels, channels[0])
        self.rrdb = nn.ModuleList(ResidualInResidualDenseBlock(channels[0]) for _ in range(2 if use_rrdb else 0))
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(channels):
            self.blocks.extend([conv3(narrow, narrow), conv3(narrow, wide, stride=2)])
        self.rgb_heads = nn.ModuleList(conv3(c, 3) for c in (channels[1:] if rgb_heads else ()))
        self.conv_out = zeroed(conv3(channels[-1], out_channels))

    def forward(self, image: Tensor, with_heads: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Photo (B, 3, H, W) in [0, 1] to features (B, C, H/f, W/f) and, if asked, RGB maps at 1/2, 1/4, ... 1/f."""
        x = F.silu(self.conv_in(image))
        for block in self.rrdb:
            x = block(x)
        rgb = []
        for k, conv in enumerate(self.blocks):
            x = F.silu(conv(x))
            if with_heads and self.rgb_heads and k % 2 == 1:
                rgb.append(self.rgb_heads[k // 2](x))
        return self.conv_out(x), tuple(rgb)
