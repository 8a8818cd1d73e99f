"""The controllable skip tuner of SCEdit (Jiang et al., CVPR 2024): a picture steers a frozen UNet through its skips.

As an activator the picture is the enlarged photo: a UNet without a ControlNet makes a first, less degraded version.
At Stable Diffusion's size it is 8 % of a ControlNet.
"""

# shapes: B batch, H W photo pixels, h w latent cells, f pixels per cell, C_k h_k w_k channels and size of skip k

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from xpsr_cli.models.controlnet import ControlOutput
from xpsr_cli.models.pyramid_encoder import conv3, zeroed


class SkipTuner(ModelMixin, ConfigMixin):
    """``skip + hint + W2 gelu(W1 (skip + hint))`` for every skip of a UNet; nothing of it is felt until it is trained.

    Args:
        block_out_channels, layers_per_block: of the UNet.
        hint_channels: of the convolutions that bring the picture to the latent grid, each but the first halves it.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        hint_channels: Sequence[int] = (16, 32, 96, 256),
    ) -> None:
        super().__init__()
        self.downscale = 2 ** (len(hint_channels) - 1)
        self.conv_in = conv3(3, hint_channels[0])
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(hint_channels):
            self.blocks.extend([conv3(narrow, narrow), conv3(narrow, wide, stride=2)])
        self.cascade = nn.ModuleList()
        self.tuners = nn.ModuleList()
        before = hint_channels[-1]
        self.skip_channels = [channels for channels, _ in _skips(block_out_channels, layers_per_block)]
        for channels, stride in _skips(block_out_channels, layers_per_block):
            self.cascade.append(zeroed(nn.Conv2d(before, channels, 1, stride=stride)))
            self.tuners.append(SkipEdit(channels))
            before = channels

    def hints(self, image: Tensor) -> tuple[Tensor, ...]:
        """Photo (B, 3, f*h, f*w) in [0, 1] to a hint (B, C_k, h_k, w_k) for every skip.

        They do not depend on the timestep: compute them once per window.
        """
        x = F.silu(self.conv_in(image))
        for conv in self.blocks:
            x = F.silu(conv(x))
        hints = []
        for conv in self.cascade:
            x = conv(F.silu(x))
            hints.append(x)
        return tuple(hints)

    def steering(self, image: Tensor) -> Callable[[Sequence[Tensor]], ControlOutput]:
        """What a UNet takes as its ``control``: the tuner with the hints of a photo (B, 3, f*h, f*w) in [0, 1]."""
        return partial(self.forward, hints=self.hints(image))

    def forward(self, skips: Sequence[Tensor], hints: Sequence[Tensor], scale: float = 1.0) -> ControlOutput:
        """What to add to the ``skips`` of a UNet, as a ControlNet would say it; the mid block's part is 0."""
        down = tuple(tuner(skip, hint) * scale for tuner, skip, hint in zip(self.tuners, skips, hints, strict=True))
        return ControlOutput(down, down[-1].new_zeros(()))


class SkipEdit(nn.Module):
    """What one skip is changed by: the hint, and two linear layers at every place over both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, skip: Tensor, hint: Tensor) -> Tensor:
        """(B, C, h, w) twice to the same shape."""
        return hint + self.conv2(F.gelu(self.conv1(skip + hint)))


def _skips(widths: Sequence[int], layers: int) -> list[tuple[int, int]]:
    """Channels of every skip, in the order the encoder makes them, and the stride to it from the one before."""
    skips = [(widths[0], 1)]
    for level, width in enumerate(widths):
        skips += [(width, 1)] * layers
        if level < len(widths) - 1:
            skips.append((width, 2))
    return skips
