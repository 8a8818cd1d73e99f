"""Pixel cascades of the real classes at their smallest."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_training import tiny_tokenizer

from xpsr_cli.models.pixel_cascade import BASE, JUDGE, REFINER, SCORER, PixelCascade, StageCard, save_parts
from xpsr_cli.training.prior_networks import SCHEDULER_CONFIG, build_unet, text_encoder_of
from xpsr_cli.training.recipe import PriorModelRecipe, ScorerRecipe
from xpsr_cli.training.scorer import build_scorer

_RUN = (
    "data.batch_size=2",
    "data.held_out_photos=1",
    "data.held_out_ids=[]",
    "model.attention_head_dim=2",
    "optimizer.mixed_precision=no",
    "optimizer.steps=4",
    "optimizer.warmup_steps=2",
    "optimizer.ema_decay=0.9",
    "output.log_steps=1",
    "output.save_steps=2",
)
_SIZES = ("model.block_out_channels=[8, 8]", "model.norm_num_groups=4")
TINY_SCORER = (
    *_RUN,
    "data.crop_px=16",
    "model.picture_px=16",
    "model.width=16",
    "model.layers=1",
    "model.text_width=16",
    "model.text_layers=1",
)
TINY_BASE = (*_RUN, *_SIZES, "data.crop_px=16", "model.picture_px=16")
TINY_REFINER = (*_RUN, *_SIZES, "data.crop_px=16", "model.picture_px=32")
"""``section.key=value`` strings that make the smallest of a cascade's recipes, for photos of 32 pixels and more."""

WORDS = ("water", "sky")


def tiny_cascade(*, refiner: bool = True, seed: int = 0) -> PixelCascade:
    """A cascade from 16 to 32 pixels with random weights."""
    tokenizer = tiny_tokenizer()
    scorers = {
        name: build_scorer(ScorerRecipe(name, 16, 8, 16, 1, 2, 16, 1), tokenizer, seed + number)
        for number, name in enumerate((SCORER, JUDGE))
    }
    text_encoder = text_encoder_of(scorers[SCORER])
    unets = {BASE: build_unet(PriorModelRecipe(BASE, 16, 1, [8, 8], 1, 2, 4), 16)}
    cards = {BASE: StageCard(16, 4, 2.0)}
    if refiner:
        unets[REFINER] = build_unet(PriorModelRecipe(REFINER, 32, 1, [8, 8], 1, 2, 4), 16)
        cards[REFINER] = StageCard(32, 2, 1.0, 100)
    for network in (text_encoder, *unets.values(), *scorers.values()):
        network.eval().requires_grad_(False)
    for unet in unets.values():
        for parameter in unet.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return PixelCascade("tiny", tokenizer, text_encoder, unets, cards, dict(SCHEDULER_CONFIG), list(WORDS), scorers)


def save_tiny_cascade(folder: Path, *, refiner: bool = True) -> Path:
    """Write one."""
    save_parts(folder, tiny_cascade(refiner=refiner))
    return folder
