"""Tiny networks of the real classes."""

from __future__ import annotations

import torch

from xpsr_cli.models.controlnet import ControlOutput
from xpsr_cli.models.encoder import LatentEncoder

TEXT_WIDTH = 12
TINY = {
    "in_channels": 4,
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT_WIDTH,
}
TINY_UNET = {**TINY, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), "out_channels": 4}
TINY_CONTROLNET = {**TINY, "conditioning_embedding_out_channels": (4, 6, 8, 10)}


def randomise(network: LatentEncoder) -> LatentEncoder:
    """Every weight random, those that start at zero included."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def silent_control(network: LatentEncoder, latents: torch.Tensor) -> ControlOutput:
    """Residuals that are all zero, for latents (B, c, h, w)."""
    height, width = latents.shape[-2:]
    down = []
    for k, channels in enumerate(network.skip_channels):
        shrink = 2 ** (k // (network.config.layers_per_block + 1))
        down.append(torch.zeros(latents.shape[0], channels, -(-height // shrink), -(-width // shrink)))
    return ControlOutput(tuple(down), torch.zeros(()))
