"""Both autoencoders in windows: what they say of a cell does not depend on the window it was asked for in."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL

from xpsr_cli.device import Placement, choose_placement
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.sampling import latents as module
from xpsr_cli.sampling.latents import KLCodec, ResidualCodec, make_codec
from xpsr_cli.sampling.tiles import Window, block_rows
from xpsr_cli.settings import Precision

PLACEMENT = choose_placement("cpu", Precision.FP32)
HEIGHT, WIDTH = 41, 55


def cut(height, width, side):
    """A canvas in square windows."""
    return [window for row in block_rows(height, width, (side, side)) for window in row]


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
def large(monkeypatch):
    """Treat every canvas as too large for one call."""
    monkeypatch.setattr(module, "WINDOW_PX", 0)


def smooth(*shape, coarse=4):
    small = torch.randn(*shape[:2], *(-(-side // coarse) for side in shape[2:]))
    return torch.nn.functional.interpolate(small, size=shape[2:], mode="bicubic")


def reader(canvas):
    return lambda window: window.crop(canvas)


def whole(height=HEIGHT, width=WIDTH):
    return Window(0, 0, height, width)


def nothing(window):
    raise AssertionError(f"nobody needs {window}")


def decode(codec, latents, image=nothing, side=None):
    """A canvas decoded in windows of ``side`` cells."""
    height, width = latents.shape[-2:]
    decoder = codec.decoder(reader(latents), image, height, width)
    result = torch.full((1, 3, codec.factor * height, codec.factor * width), torch.nan)
    for window in cut(height, width, side or max(height, width)):
        window.scaled(codec.factor).crop(result).copy_(decoder(window))
    return result


def encode(codec, image_01, side=None):
    """Mean and deviation of a canvas encoded in windows of ``side`` cells, (2, c, h, w)."""
    height, width = (length // codec.factor for length in image_01.shape[-2:])
    encoder = codec.encoder(reader(image_01), height, width)
    result = torch.full((2, codec.channels, height, width), torch.nan)
    for window in cut(height, width, side or max(height, width)):
        window.crop(result).copy_(torch.cat(encoder(window)))
    return result


def test_a_small_kl_canvas_is_one_plain_call(kl):
    latents, image = smooth(1, 4, HEIGHT, WIDTH), torch.rand(1, 3, 8 * HEIGHT, 8 * WIDTH)
    with torch.no_grad():
        plain = kl.vae.decode(latents / kl.scaling).sample / 2 + 0.5
        posterior = kl.vae.encode(image * 2 - 1).latent_dist
    assert kl.scaling == 0.18215
    assert torch.equal(decode(kl, latents, side=16), plain.clamp(0, 1))
    wanted = torch.cat([posterior.mean, posterior.std]) * 0.18215
    assert torch.equal(encode(kl, image, side=16), wanted)


@pytest.mark.parametrize("side", [10, 17, 32])
def test_a_large_kl_canvas_does_not_depend_on_the_windows(kl, large, side):
    latents, image = smooth(1, 4, HEIGHT, WIDTH), smooth(1, 3, 8 * HEIGHT, 8 * WIDTH, coarse=8).sigmoid()
    decoded = decode(kl, latents, side=side)
    assert decoded.std() > 0.02
    assert (decoded - decode(kl, latents)).abs().max() < 0.01 / 255
    torch.testing.assert_close(encode(kl, image, side=side), encode(kl, image), rtol=0, atol=1e-5)


def test_the_same_windows_give_the_same_bits(kl, large):
    latents = smooth(1, 4, HEIGHT, WIDTH)
    assert torch.equal(decode(kl, latents, side=20), decode(kl, latents, side=20))


def test_windows_leave_no_steps_on_a_ramp(kl, large):
    ramp = torch.linspace(-1, 1, 8 * WIDTH).expand(1, 3, 8 * HEIGHT, -1) * 0.1
    mean, _ = encode(kl, ramp / 2 + 0.5, side=16)
    decoded = decode(kl, mean[None], side=16)
    seamless = decode(kl, mean[None])
    steps = (decoded - seamless).diff(dim=-1)[..., 127::128].abs()
    assert steps.max() < 0.01 / 255
    assert (decoded - seamless).diff(dim=-2)[..., 127::128, :].abs().max() < 0.01 / 255


@pytest.mark.parametrize("size", [(96, 17), (40, 33), (9, 130)])
def test_a_large_canvas_that_the_sample_covers_is_as_computed_whole(kl, monkeypatch, size):
    latents, image = smooth(1, 4, *size), smooth(1, 3, *(8 * side for side in size), coarse=8).sigmoid()
    decoded, encoded = decode(kl, latents), encode(kl, image)
    monkeypatch.setattr(module, "WINDOW_PX", 0)
    assert (decode(kl, latents) - decoded).square().mean().sqrt() < 0.1 * decoded.std()
    assert (encode(kl, image) - encoded).square().mean().sqrt() < 0.1 * encoded.std()


@pytest.mark.parametrize("large_canvas", [False, True])
def test_kl_decoding_is_exact_however_many_cells_a_norm_averages(kl, monkeypatch, large_canvas):
    """Measured against float64: torch's group norm is off by more than 0.05 / 255 here with channels last."""
    latents = smooth(1, 4, 32, 64, coarse=16)
    exact = KLCodec(copy.deepcopy(kl.vae).double(), Exact(torch.device("cpu"), torch.float64, channels_last=False))
    if large_canvas:
        monkeypatch.setattr(module, "WINDOW_PX", 0)
    assert (decode(kl, latents) - decode(exact, latents)).abs().max() < 0.02 / 255


class Exact(Placement):
    """Brings values back in float64, too."""

    def fetch(self, values):
        return values


@pytest.mark.parametrize("asked", ["windows", "nothing yet"])
def test_the_network_is_left_as_it_was(kl, monkeypatch, asked):
    latents = smooth(1, 4, 4, 3)
    before = decode(kl, latents)
    monkeypatch.setattr(module, "WINDOW_PX", 0)
    decoder = kl.decoder(reader(smooth(1, 4, HEIGHT, WIDTH)), nothing, HEIGHT, WIDTH)
    if asked == "windows":
        decoder(whole())
    monkeypatch.undo()
    assert not any("forward" in vars(part) for part in kl.vae.modules())
    assert torch.equal(decode(kl, latents), before)


def test_the_network_is_left_as_it_was_when_reading_fails(kl, large):
    with pytest.raises(AssertionError, match="nobody needs"):
        kl.decoder(nothing, nothing, HEIGHT, WIDTH)(whole())
    assert not any("forward" in vars(part) for part in kl.vae.modules())


def test_kl_without_middle_attention(large):
    torch.manual_seed(5)
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
    torch.testing.assert_close(decode(codec, latents, side=15), decode(codec, latents), rtol=0, atol=1e-5)
    torch.testing.assert_close(encode(codec, image, side=15), encode(codec, image), rtol=0, atol=1e-5)


def test_residual_decoding_in_windows_is_decoding_whole(residual):
    latents, image = torch.randn(1, 6, HEIGHT, WIDTH), smooth(1, 3, 4 * HEIGHT, 4 * WIDTH).sigmoid()
    with torch.no_grad():
        plain = residual.vae.decode_residual(latents, image * 2 - 1) / 2 + 0.5
    cut = decode(residual, latents, reader(image), side=8)
    assert cut.std() > 0.02
    torch.testing.assert_close(cut, plain.clamp(0, 1), rtol=0, atol=1e-5)


def test_residual_latents_of_the_input_itself_are_zero(residual):
    mean, deviation = residual.encoder(nothing, 12, 20)(Window(3, 4, 9, 16))
    assert mean.shape == (1, 6, 9, 16)
    assert not mean.any()
    assert not deviation.any()


def test_only_residual_latents_need_no_encoder(kl, residual):
    assert residual.residual
    assert not kl.residual


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


def test_a_large_canvas_in_bfloat16_is_about_the_same(kl, large):
    latents = smooth(1, 4, HEIGHT, WIDTH)
    wanted = decode(kl, latents)
    rounded = make_codec(copy.deepcopy(kl.vae), Placement(torch.device("cpu"), torch.bfloat16))
    decoded = decode(rounded, latents)
    assert decoded.dtype is torch.float32
    assert (decoded - wanted).square().mean().sqrt() < 0.05 * wanted.std()
