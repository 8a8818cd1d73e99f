"""Both autoencoders on canvases larger than they are given at once: the result is that of the whole."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL

from xpsr_cli.device import Placement, choose_placement
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.sampling import latents as module
from xpsr_cli.sampling import staged
from xpsr_cli.sampling.latents import KLCodec, ResidualCodec, make_codec
from xpsr_cli.settings import Precision

PLACEMENT = choose_placement("cpu", Precision.FP32)
HEIGHT, WIDTH = 21, 35


@pytest.fixture(scope="module")
def kl():
    torch.manual_seed(3)
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=4,
        force_upcast=True,
    )
    return make_codec(vae, PLACEMENT)


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(4)
    vae = ResidualAutoencoder(latent_channels=6, block_size=4, refiner_channels=8, refiner_blocks=2)
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return make_codec(vae, PLACEMENT)


@pytest.fixture
def small_windows(monkeypatch):
    """Calls to switch from one plain call to many small ones."""

    def switch():
        monkeypatch.setattr(module, "WINDOW_PX", 32)
        monkeypatch.setattr(staged, "BLOCK", 8)

    return switch


def smooth(*shape, coarse=4):
    small = torch.randn(*shape[:2], *(-(-side // coarse) for side in shape[2:]))
    return torch.nn.functional.interpolate(small, size=shape[2:], mode="bicubic")


def test_kl_decoding_in_blocks_is_decoding_whole(kl, small_windows):
    latents, image = smooth(1, 4, HEIGHT, WIDTH), torch.zeros(1, 3, 8 * HEIGHT, 8 * WIDTH)
    whole = kl.decode(latents, image)
    small_windows()
    cut = kl.decode(latents, image)
    assert whole.std() > 0.02
    assert (cut - whole).abs().max() < 0.1 / 255
    error = (cut - whole).diff(dim=-1).abs()[..., 63::64]
    assert error.max() < 0.1 / 255


@pytest.mark.parametrize("windows", ["one", "many"])
def test_kl_decoding_is_exact_however_many_cells_a_norm_averages(kl, small_windows, monkeypatch, windows):
    """Measured against float64: torch's group norm is off by more than 0.05 / 255 here with channels last."""
    latents, image = smooth(1, 4, 64, 64, coarse=16), torch.zeros(1, 3, 512, 512)
    exact = copy.deepcopy(kl.vae).double()
    with torch.no_grad():
        wanted = (exact.decode(latents.double() / kl.scaling).sample / 2 + 0.5).clamp(0, 1)
    if windows == "many":
        small_windows()
        monkeypatch.setattr(staged, "BLOCK", 32)
    assert (kl.decode(latents, image) - wanted).abs().max() < 0.02 / 255


def test_kl_encoding_in_blocks_is_encoding_whole(kl, small_windows):
    image = smooth(1, 3, 8 * HEIGHT, 8 * WIDTH, coarse=8).sigmoid()
    mean, deviation = kl.encode(image)
    small_windows()
    mean_cut, deviation_cut = kl.encode(image)
    assert mean.shape == deviation.shape == (1, 4, HEIGHT, WIDTH)
    torch.testing.assert_close(mean_cut, mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(deviation_cut, deviation, rtol=0, atol=1e-5)


def test_feature_canvases_in_files_give_the_same(kl, small_windows, monkeypatch):
    latents, image = smooth(1, 4, HEIGHT, WIDTH), torch.zeros(1, 3, 8 * HEIGHT, 8 * WIDTH)
    small_windows()
    in_memory = kl.decode(latents, image)
    monkeypatch.setattr(staged, "IN_MEMORY_BYTES", 0)
    assert torch.equal(kl.decode(latents, image), in_memory)


def test_attention_on_a_very_large_canvas_reads_fewer_tokens(kl, small_windows, monkeypatch):
    latents, image = smooth(1, 4, HEIGHT, WIDTH, coarse=8), torch.zeros(1, 3, 8 * HEIGHT, 8 * WIDTH)
    whole = kl.decode(latents, image)
    small_windows()
    monkeypatch.setattr(staged, "ATTENDED", HEIGHT * WIDTH // 4)
    thinned = kl.decode(latents, image)
    assert not torch.equal(thinned, whole)
    assert (thinned - whole).square().mean().sqrt() < 0.1 * whole.std()


def test_the_network_is_left_as_it_was(kl, small_windows):
    latents, image = smooth(1, 4, 4, 3), torch.zeros(1, 3, 32, 24)
    before = kl.decode(latents, image)
    small_windows()
    kl.decode(smooth(1, 4, HEIGHT, WIDTH), torch.zeros(1, 3, 8 * HEIGHT, 8 * WIDTH))
    assert torch.equal(kl.decode(latents, image), before)
    norms = [m for m in kl.vae.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert not any("forward" in vars(norm) for norm in norms)


def test_kl_without_middle_attention(small_windows):
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    codec = make_codec(vae, PLACEMENT)
    assert codec.factor == 2
    latents, image = smooth(1, 4, HEIGHT, WIDTH), torch.rand(1, 3, 2 * HEIGHT, 2 * WIDTH)
    whole, encoded = codec.decode(latents, image), codec.encode(image)
    small_windows()
    torch.testing.assert_close(codec.decode(latents, image), whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(codec.encode(image), encoded, rtol=0, atol=1e-4)


def test_latents_are_scaled(kl):
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        posterior = kl.vae.encode(image * 2 - 1).latent_dist
    mean, deviation = kl.encode(image)
    torch.testing.assert_close(mean, 0.18215 * posterior.mean)
    torch.testing.assert_close(deviation, 0.18215 * posterior.std)


def test_residual_decoding_in_windows_is_decoding_whole(residual, small_windows):
    latents, image = torch.randn(1, 6, HEIGHT, WIDTH), smooth(1, 3, 4 * HEIGHT, 4 * WIDTH).sigmoid()
    whole = residual.decode(latents, image)
    small_windows()
    cut = residual.decode(latents, image)
    assert whole.std() > 0.02
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-5)


def test_residual_latents_of_the_input_itself_are_zero(residual):
    mean, deviation = residual.encode(torch.rand(1, 3, 48, 80))
    assert mean.shape == (1, 6, 12, 20)
    assert not mean.any()
    assert not deviation.any()


def test_types(kl):
    half = Placement(torch.device("cpu"), torch.float16)
    upcast = make_codec(kl.vae, half)
    assert isinstance(upcast, KLCodec)
    assert upcast.placement.dtype is torch.float32
    bf16 = Placement(torch.device("cpu"), torch.bfloat16)
    codec = make_codec(ResidualAutoencoder(latent_channels=4, refiner_channels=4, refiner_blocks=1), bf16)
    assert isinstance(codec, ResidualCodec)
    assert codec.placement.dtype is torch.float32
    assert codec.vae.basis.dtype is torch.float32
