"""A whole stock Stable Diffusion of diffusers' own classes at their smallest, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from xpsr_cli.training.build import build_tokenizer

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
}
SD21 = {"attention_head_dim": (1, 1, 2, 2), "use_linear_projection": True, "upcast_attention": True}
"""What the UNet of Stable Diffusion 2.1 has besides a wider text."""
PYRAMID = [4, 4, 8, 8]


def save_stable_diffusion(
    folder: Path, *, prediction: str = "epsilon", text_width: int = 12, seed: int = 0, **unet: Any
) -> Path:
    """Write one; ``unet`` are fields of its UNet that differ from :data:`UNET`."""
    torch.manual_seed(seed)
    UNet2DConditionModel(**{**UNET, **unet}).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    tokenizer = build_tokenizer(["a photo of a house", "clean, high-resolution"], vocabulary=256)
    tokenizer.save_pretrained(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=text_width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        prediction_type=prediction,
    ).save_pretrained(folder / "scheduler")
    return folder
