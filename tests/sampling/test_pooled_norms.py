"""The sample of a large canvas, and how far the autoencoder sees."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

from xpsr_cli.sampling.pooled_norms import (
    SAMPLE_CORE,
    SAMPLE_COUNT,
    FrozenLayers,
    decoder_layers,
    encoder_layers,
    halos,
    sample_cores,
)

PARTS = [(encoder_layers, 1, 3, 8), (decoder_layers, 8, 4, 1)]  # cells of the result and channels, cells of the input


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(6)
    network = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=4,
    )
    return network.requires_grad_(False)


@pytest.mark.parametrize(("layers", "scale", "channels", "cells"), PARTS)
def test_halos_are_as_wide_as_the_network_sees(vae, layers, scale, channels, cells):
    """What a cell in the middle depends on, by gradients; the norms are set aside by freezing them."""
    side, middle = 45, 22
    halo = halos(layers(vae), scale)[0]
    canvas = torch.randn(1, channels, cells * side, cells * side).double().requires_grad_()
    network = copy.deepcopy(vae).double()
    for part in network.modules():
        if isinstance(part, torch.nn.GroupNorm | Attention):
            part.forward = lambda features: features
    features = canvas
    for layer in layers(network):
        features = layer(features, None) if isinstance(layer, ResnetBlock2D) else layer(features)
    cell = slice(scale * middle, scale * (middle + 1))
    features[..., cell, cell].sum().backward()
    rows = canvas.grad[0].abs().amax(dim=(0, 2)).nonzero() // cells
    assert middle - rows.min() <= halo
    assert rows.max() - middle <= halo
    assert max(middle - rows.min(), rows.max() - middle) >= halo - 1


@pytest.mark.parametrize("size", [(129, 129), (200, 140), (4096, 4096), (20, 1000), (1000, 33), (129, 1)])
def test_the_sample_is_spread_over_the_canvas(size):
    cores = sample_cores(*size)
    assert 1 <= len(set(cores)) == len(cores) <= SAMPLE_COUNT
    assert len({(core.h, core.w) for core in cores}) == 1
    assert all(core.h <= SAMPLE_CORE and core.w <= SAMPLE_CORE for core in cores)
    assert all(core.y >= 0 and core.x >= 0 for core in cores)
    assert all(core.y + core.h <= size[0] and core.x + core.w <= size[1] for core in cores)
    assert len(cores) >= min(SAMPLE_COUNT // 2, -(-size[0] // SAMPLE_CORE) * -(-size[1] // SAMPLE_CORE))
    middle = sum(core.y + core.h / 2 for core in cores) / len(cores)
    assert middle == pytest.approx(size[0] / 2, abs=1)


@pytest.mark.parametrize("size", [(96, 96), (40, 33), (500, 16), (64, 131), (1, 1000)])
def test_the_sample_covers_a_canvas_of_few_cells(size):
    seen = torch.zeros(size)
    for core in sample_cores(*size):
        core.crop(seen).add_(1)
    assert (seen >= 1).float().mean() > 0.95
    assert seen.mean() < 1.1


@pytest.mark.parametrize(("layers", "scale", "channels", "cells"), PARTS)
def test_a_sample_of_everything_gives_the_network_itself(vae, monkeypatch, layers, scale, channels, cells):
    monkeypatch.setattr("xpsr_cli.sampling.pooled_norms.SAMPLE_CORE", 64)
    canvas = torch.randn(1, channels, 40 * cells, 52 * cells)
    frozen = FrozenLayers(layers(vae), lambda window: window.scaled(cells).crop(canvas), 40, 52, scale)
    window = sample_cores(40, 52)[0]
    with torch.no_grad():
        wanted = vae.quant_conv(vae.encoder(canvas)) if scale == 1 else vae.decode(canvas).sample
    torch.testing.assert_close(frozen(window), wanted, rtol=0, atol=1e-4)
