import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_networks import TINY_UNET, silent_control

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.conditional_attention import ConditionalAttention
from xpsr_cli.models.controlnet import ControlOutput
from xpsr_cli.models.unet import XpsrUNet


def mute_conditional_attention(unet: XpsrUNet) -> None:
    for module in unet.modules():
        if isinstance(module, ConditionalAttention):
            torch.nn.init.zeros_(module.conditional.proj_out.weight)
            torch.nn.init.zeros_(module.conditional.proj_out.bias)


@pytest.fixture
def stock() -> UNet2DConditionModel:
    torch.manual_seed(3)
    return UNet2DConditionModel(**TINY_UNET).eval()


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (5, 7)])
@torch.no_grad()
def test_with_its_new_part_muted_it_is_stable_diffusions(
    stock, make_controlnet, inputs, size: tuple[int, int]
) -> None:
    unet = XpsrUNet.from_stable_diffusion(stock)
    mute_conditional_attention(unet)
    call = inputs(*size)
    control = make_controlnet()(**call)
    latents, timestep, high = call["latents"], call["timestep"], call["high"]
    expected = stock(
        latents,
        timestep,
        high,
        down_block_additional_residuals=control.down,
        mid_block_additional_residual=control.mid,
    ).sample
    torch.testing.assert_close(unet(latents, timestep, high, control), expected, rtol=1e-4, atol=1e-5)


def test_a_fresh_one_keeps_the_stock_config(stock) -> None:
    unet = XpsrUNet.from_stable_diffusion(stock)
    for field in unet.config:
        if field in stock.config and not field.startswith("_"):
            assert unet.config[field] == stock.config[field], field


def test_a_stock_unet_with_features_that_are_not_built_is_refused() -> None:
    stock = UNet2DConditionModel(**TINY_UNET, time_embedding_type="fourier")
    with pytest.raises(WeightsError, match="time_embedding_type = 'fourier'"):
        XpsrUNet.from_stable_diffusion(stock)


@torch.no_grad()
def test_residuals_are_used_twice(make_unet, inputs) -> None:
    unet, call = make_unet(), inputs()
    latents, timestep, high = call["latents"], call["timestep"], call["high"]
    silent = silent_control(unet, latents)
    moved = silent._replace(down=tuple(torch.randn_like(residual) for residual in silent.down))
    looks = unet(latents, timestep, high, moved) - unet(latents, timestep, high, silent)
    mute_conditional_attention(unet)
    skips_only = unet(latents, timestep, high, moved) - unet(latents, timestep, high, silent)
    assert skips_only.abs().max() > 1e-3
    assert (looks - skips_only).abs().max() > 1e-3


def test_a_missing_residual_is_an_error(make_unet, inputs) -> None:
    unet, call = make_unet(), inputs()
    control = silent_control(unet, call["latents"])
    with pytest.raises(ValueError, match="shorter"):
        unet(call["latents"], 1, call["high"], ControlOutput(control.down[:-1], control.mid))


@pytest.mark.parametrize("choice", [[True, False, False], [False, True, True], [False, False, False]])
def test_conditional_attention_can_be_chosen_per_block(choice: list[bool], make_unet, inputs) -> None:
    unet, call = make_unet(conditional_attention=choice), inputs()
    found = [any(isinstance(m, ConditionalAttention) for m in block.modules()) for block in unet.up_blocks]
    assert found == choice
    prediction = unet(call["latents"], 3, call["high"], silent_control(unet, call["latents"]))
    assert prediction.shape == call["latents"].shape


def test_channels_last_gives_the_same_prediction(make_unet, inputs) -> None:
    unet, call = make_unet(), inputs()
    control = silent_control(unet, call["latents"])
    expected = unet(call["latents"], 3, call["high"], control)
    unet.to(memory_format=torch.channels_last)
    torch.testing.assert_close(unet(call["latents"], 3, call["high"], control), expected, rtol=1e-4, atol=1e-4)


def test_blocks_that_are_not_built_are_named() -> None:
    with pytest.raises(ValueError, match="AttnDownBlock2D"):
        XpsrUNet(**{**TINY_UNET, "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "DownBlock2D")})
    with pytest.raises(ValueError, match="AttnUpBlock2D"):
        XpsrUNet(**{**TINY_UNET, "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D")})


@pytest.mark.parametrize(
    ("field", "value"), [("conditional_attention", [True] * 4), ("up_block_types", ["UpBlock2D"] * 4)]
)
def test_lists_must_have_an_entry_per_up_block(field: str, value: list[object]) -> None:
    with pytest.raises(ValueError, match=f"{field} has 4 entries for 3 levels"):
        XpsrUNet(**{**TINY_UNET, field: value})
