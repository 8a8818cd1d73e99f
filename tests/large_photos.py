"""Photos that are large enough to train on, made of smooth random shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TINY_MINI = (
    "data.crop_px=32",
    "data.batch_size=2",
    "data.held_out_photos=1",
    "data.held_out_ids=[]",
    "model.block_out_channels=[8, 16, 16]",
    "model.layers_per_block=1",
    "model.attention_head_dim=2",
    "model.norm_num_groups=4",
    "model.text_width=16",
    "model.text_layers=1",
    "model.pyramid_channels=[4, 4, 8]",
    "model.refiner_channels=8",
    "model.refiner_blocks=1",
    "autoencoder.fit_crops=16",
    "autoencoder.steps=2",
    "optimizer.steps=4",
    "output.log_steps=2",
    "output.save_steps=2",
    "output.validate_steps=2",
)
"""``section.key=value`` strings that make the smallest of a small model's recipe."""


def save_photos(folder: Path, count: int = 4, side_px: int = 64) -> Path:
    """Write ``count`` PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((side_px, side_px), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def sets(changes: tuple[str, ...] | list[str]) -> list[str]:
    """The same as flags of the command line."""
    return [word for change in changes for word in ("--set", change)]
