"""SCEdit's tuner on a frozen UNet: its published size, nothing at the start, and then the picture."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny_networks import TINY_UNET, randomise, silent_control

from xpsr_cli.models.skip_tuner import SkipTuner

TINY_TUNER = {"block_out_channels": (8, 8, 16), "layers_per_block": 1, "hint_channels": (4, 6, 8, 10)}


def test_at_the_size_of_stable_diffusion_it_has_28_8_million_parameters() -> None:
    with torch.device("meta"):
        tuner = SkipTuner()
    assert sum(parameter.numel() for parameter in tuner.parameters()) == 28_824_400
    assert [conv.out_channels for conv in tuner.cascade] == [320] * 4 + [640] * 3 + [1280] * 5


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (5, 7)])
@torch.no_grad()
def test_untrained_it_leaves_the_unet_alone(make_unet, inputs, size: tuple[int, int]) -> None:
    unet, call, tuner = make_unet(), inputs(*size), SkipTuner(**TINY_TUNER)
    arguments = call["latents"], 7, call["high"]
    steer = partial(tuner, hints=tuner.hints(call["image"]))
    assert tuner.downscale == 8
    assert torch.equal(unet(*arguments, steer), unet(*arguments, silent_control(unet, call["latents"])))


@torch.no_grad()
def test_a_trained_one_hears_the_picture_and_its_scale(make_unet, inputs) -> None:
    unet, call, tuner = make_unet(), inputs(), randomise(SkipTuner(**TINY_TUNER))
    arguments = call["latents"], 7, call["high"]
    hints = [tuner.hints(image) for image in (call["image"], 1 - call["image"])]
    one, other = (unet(*arguments, partial(tuner, hints=hint)) for hint in hints)
    assert (one - other).abs().max() > 1e-3
    silent = unet(*arguments, partial(tuner, hints=hints[0], scale=0.0))
    assert torch.equal(silent, unet(*arguments, silent_control(unet, call["latents"])))


def test_every_weight_is_reached_by_the_third_step(make_unet, inputs) -> None:
    unet, call, tuner = make_unet().requires_grad_(False), inputs(), SkipTuner(**TINY_TUNER)
    assert unet.config.block_out_channels == TINY_UNET["block_out_channels"]
    optimizer = torch.optim.SGD(tuner.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        steer = partial(tuner, hints=tuner.hints(call["image"]))
        unet(call["latents"], 7, call["high"], steer).square().sum().backward()
        optimizer.step()
    assert all(bool(parameter.grad.any()) for parameter in tuner.parameters())
