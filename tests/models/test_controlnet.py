import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_networks import TINY_CONTROLNET

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.semantic_fusion import Fusion
from xpsr_cli.models.unet import XpsrUNet

SHIPPED = {  # the architecture of the small model
    "in_channels": 16,
    "block_out_channels": (96, 128, 128),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 16,
    "cross_attention_dim": 96,
}


def test_residuals_fit_the_unets_skips(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(), inputs(6, 10)
    output = controlnet(**call)
    assert [residual.shape[1] for residual in output.down] == controlnet.skip_channels
    assert [tuple(residual.shape[-2:]) for residual in output.down] == [(6, 10)] * 2 + [(3, 5)] * 2 + [(2, 3)] * 2
    assert output.mid.shape == (2, 16, 2, 3)
    assert output.rgb == output.latent == ()


def test_image_features_stand_for_the_image(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(), inputs()
    features = controlnet.encode_image(call["image"])
    torch.testing.assert_close(
        controlnet(**call).mid, controlnet(**{**call, "image": None}, image_features=features).mid
    )


def test_one_of_image_and_features_must_be_given(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(), inputs()
    features = controlnet.encode_image(call["image"])
    with pytest.raises(ValueError, match="either"):
        controlnet(**call, image_features=features)
    call["image"] = None
    with pytest.raises(ValueError, match="either"):
        controlnet(**call)
    with pytest.raises(ValueError, match="with_heads"):
        controlnet(**call, image_features=features, with_heads=True)


def test_timesteps_may_be_one_number_or_one_per_sample(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(), inputs()
    expected = controlnet(**{**call, "timestep": torch.tensor([7, 7])}).mid
    for timestep in (7, torch.tensor(7)):
        torch.testing.assert_close(controlnet(**{**call, "timestep": timestep}).mid, expected)
    assert (controlnet(**{**call, "timestep": torch.tensor([7, 900])}).mid - expected)[1].abs().max() > 1e-4


def test_heads_read_the_residuals_before_scaling(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(), inputs()
    full = controlnet(**call, with_heads=True)
    weak = controlnet(**call, with_heads=True, conditioning_scale=0.5)
    torch.testing.assert_close(weak.mid, 0.5 * full.mid)
    torch.testing.assert_close(weak.down[2], 0.5 * full.down[2])
    torch.testing.assert_close(weak.latent, full.latent)
    assert len(full.latent) == len(full.down) + 1
    assert full.latent[0].shape == call["latents"].shape


def test_guess_mode_weakens_the_early_residuals(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(), inputs()
    full, guess = controlnet(**call), controlnet(**call, guess_mode=True, conditioning_scale=2.0)
    torch.testing.assert_close(guess.down[0], 0.2 * full.down[0])
    torch.testing.assert_close(guess.mid, 2.0 * full.mid)


@pytest.mark.parametrize("options", [{"return_rgbs": False}, {"use_latent_pred": False}])
def test_heads_the_config_leaves_out_do_not_exist(options: dict[str, bool], make_controlnet, inputs) -> None:
    controlnet = make_controlnet(**options)
    output = controlnet(**inputs(), with_heads=True)
    assert (output.rgb == ()) == ("return_rgbs" in options)
    assert (output.latent == ()) == ("use_latent_pred" in options)
    assert not any("rgb_heads" in key for key in controlnet.state_dict()) or "use_latent_pred" in options


def test_without_low_level_prompts_only_the_high_branch_is_built(make_controlnet) -> None:
    plain = make_controlnet(use_lowlevel_prompt=False)
    assert plain.fusion is Fusion.HIGH
    assert {key for key in plain.state_dict() if ".low." in key or ".fusion." in key} == set()
    with pytest.raises(ValueError, match="nonsense"):
        make_controlnet(fusion="nonsense")
    with pytest.raises(ValueError, match="needs use_lowlevel_prompt"):
        make_controlnet(use_lowlevel_prompt=False, fusion="serial")


@pytest.mark.parametrize("kind", list(Fusion))
def test_every_fusion_runs_and_uses_all_its_weights(kind: Fusion, make_controlnet, inputs) -> None:
    controlnet = make_controlnet(fusion=kind.value)
    output = controlnet(**inputs(), with_heads=True)
    sum(x.square().sum() for x in (*output.down, output.mid, *output.rgb, *output.latent)).backward()
    assert [name for name, parameter in controlnet.named_parameters() if parameter.grad is None] == []


def test_a_fresh_one_copies_the_unets_encoder_and_changes_nothing(make_unet, inputs) -> None:
    unet = make_unet()
    controlnet = XpsrControlNet.from_unet(unet, conditioning_embedding_out_channels=(4, 6, 8, 10), use_rrdb=True)
    theirs = unet.state_dict()
    own = {key.replace(".high.", "."): value for key, value in controlnet.state_dict().items()}
    shared = [key for key in theirs if key.startswith(("conv_in", "time_embedding", "down_blocks", "mid_block"))]
    assert all(torch.equal(own[key], theirs[key]) for key in shared)
    output = controlnet(**inputs())
    assert all(residual.abs().max() == 0 for residual in (*output.down, output.mid))
    assert controlnet.config.use_rrdb
    assert controlnet.config.block_out_channels == unet.config.block_out_channels


def test_a_unet_with_features_that_are_not_built_is_refused() -> None:
    stock = UNet2DConditionModel(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift="scale_shift",
    )
    with pytest.raises(WeightsError, match="resnet_time_scale_shift = 'scale_shift'"):
        XpsrControlNet.from_unet(stock)


@pytest.mark.parametrize(("field", "value"), [("down_block_types", ("DownBlock2D",)), ("attention_head_dim", [2, 2])])
def test_lists_must_have_an_entry_per_level(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} has {len(value)} entries for 3 levels"):
        XpsrControlNet(**{**TINY_CONTROLNET, field: value})


def test_the_shipped_size_builds_runs_and_trains() -> None:
    unet = XpsrUNet(
        **SHIPPED,
        out_channels=16,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        conditional_attention=[True, False, False],
    )
    controlnet = XpsrControlNet.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    latents, text = torch.randn(1, 16, 8, 8), torch.randn(1, 6, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        control = controlnet(latents, 5, text, text, torch.rand(1, 3, 64, 64), with_heads=True)
        prediction = unet(latents, 5, text, control)
    assert control.latent[0].shape == prediction.shape == latents.shape
    prediction.float().mean().backward()
    assert controlnet.down_projections[0].weight.grad.abs().max() > 0
