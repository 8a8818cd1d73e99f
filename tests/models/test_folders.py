import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import randomise

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.folders import (
    CONFIG,
    WEIGHTS,
    load_controlnet,
    load_unet,
    published_keys,
    save_controlnet,
    save_unet,
)
from xpsr_cli.models.unet import XpsrUNet

GOLDEN = Path(__file__).parents[1] / "golden" / "xpsr"
OTHER_SET = {  # another depth, odd sizes and RRDB
    "block_out_channels": (12, 16, 24, 24),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 28,
}


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def unet_folder(tmp_path: Path, make_unet) -> Path:
    save_unet(make_unet(), tmp_path / "unet")
    return tmp_path / "unet"


@pytest.fixture
def controlnet_folder(tmp_path: Path, make_controlnet) -> Path:
    save_controlnet(make_controlnet(), tmp_path / "controlnet")
    return tmp_path / "controlnet"


@torch.no_grad()
def test_another_depth_odd_sizes_and_rrdb_come_back_bit_for_bit(tmp_path: Path) -> None:
    unet = randomise(XpsrUNet(**OTHER_SET))
    controlnet = randomise(
        XpsrControlNet(**OTHER_SET, conditioning_embedding_out_channels=(4, 8, 12, 16), use_rrdb=True)
    )
    save_unet(unet, tmp_path / "unet")
    save_controlnet(controlnet, tmp_path / "controlnet")
    loaded = load_unet(tmp_path / "unet"), load_controlnet(tmp_path / "controlnet")

    latents, high, low = torch.randn(2, 4, 12, 20), torch.randn(2, 9, 28), torch.randn(2, 11, 28)
    image, step = torch.rand(2, 3, 96, 160), torch.tensor([801, 1])
    control = controlnet(latents, step, high, low, image, with_heads=True)
    again = loaded[1](latents, step, high, low, image, with_heads=True)
    assert len(control.down) == 8
    assert control.mid.shape[-2:] == (2, 3)
    for ours, theirs in zip(
        (*control.down, *control.rgb, *control.latent), (*again.down, *again.rgb, *again.latent), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(unet(latents, step, high, control), loaded[0](latents, step, high, control))


@pytest.mark.parametrize("fusion", ["parallel", "serial", "high", "low"])
def test_every_fusion_round_trips(fusion: str, tmp_path: Path, make_controlnet) -> None:
    controlnet = make_controlnet(fusion=fusion)
    save_controlnet(controlnet, tmp_path)
    loaded = load_controlnet(tmp_path)
    assert loaded.fusion == fusion
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in controlnet.state_dict().items())


@pytest.mark.parametrize("choice", [None, [True, False, False], [True, True, True]])
def test_chosen_conditional_attention_round_trips(choice: list[bool] | None, tmp_path: Path, make_unet) -> None:
    save_unet(make_unet(conditional_attention=choice), tmp_path)
    assert list(load_unet(tmp_path).conditional) == (choice or [True] * 3)
    assert ("conditional_attention" in json.loads((tmp_path / CONFIG).read_text())) == (choice == [True, False, False])


@pytest.mark.parametrize(
    ("part", "load", "save"), [("unet", load_unet, save_unet), ("controlnet", load_controlnet, save_controlnet)]
)
def test_a_published_folder_is_written_back_as_it_was(part: str, load, save, tmp_path: Path) -> None:
    save(load(GOLDEN / part), tmp_path)
    before, after = load_file(GOLDEN / part / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert set(before) == set(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    configs = [json.loads((folder / CONFIG).read_text()) for folder in (GOLDEN / part, tmp_path)]
    configs[0].pop("_diffusers_version")
    assert configs[0] == configs[1]


def test_half_precision_and_channels_last_survive(tmp_path: Path, make_unet) -> None:
    unet = make_unet()
    expected = {key: value.half().float() for key, value in unet.state_dict().items()}
    save_unet(unet.half().to(memory_format=torch.channels_last), tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    loaded = load_unet(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_a_loaded_network_does_not_hang_on_its_file(unet_folder: Path) -> None:
    unet = load_unet(unet_folder)
    before = unet.conv_in.weight.clone()
    (unet_folder / WEIGHTS).write_bytes(b"")  # a mapped file would now be gone from under the weights
    assert torch.equal(unet.conv_in.weight, before)
    assert all(parameter.requires_grad for parameter in unet.parameters())
    assert not unet.training


def test_missing_unexpected_and_misshapen_keys_are_named(controlnet_folder: Path) -> None:
    weights = load_file(controlnet_folder / WEIGHTS)
    weights.pop("down_blocks.0.attentions_lowlevel.0.proj_in.weight")
    weights["conv_degradation.99.0.weight"] = torch.zeros(1)
    weights["controlnet_mid_block.bias"] = torch.zeros(3)
    save_file(weights, controlnet_folder / WEIGHTS)
    with pytest.raises(WeightsError) as caught:
        load_controlnet(controlnet_folder)
    assert "1 missing (down_blocks.0.attentions_lowlevel.0.proj_in.weight)" in caught.value.message
    assert "1 unexpected (conv_degradation.99.0.weight)" in caught.value.message
    assert "controlnet_mid_block.bias (3,) instead of (16,)" in caught.value.message


def test_weights_of_the_other_network_are_refused_with_the_first_few_names(
    unet_folder: Path, controlnet_folder: Path
) -> None:
    (controlnet_folder / WEIGHTS).write_bytes((unet_folder / WEIGHTS).read_bytes())
    with pytest.raises(WeightsError, match=r"missing \(([\w.]+, ){3}\.\.\.\)"):
        load_controlnet(controlnet_folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resnet_time_scale_shift", "scale_shift"),
        ("class_embed_type", "timestep"),
        ("only_cross_attention", True),
        ("up_use_lowlevel_prompt", [False, False, True]),
        ("mid_use_lowlevel_prompt", True),
        ("conv_in_kernel", 5),
        ("num_attention_heads", 8),
        ("layers_per_block", [1, 1, 2]),
        ("dropout", 0.1),
    ],
)
def test_a_config_value_that_is_not_built_is_refused_by_name(field: str, value: object, unet_folder: Path) -> None:
    edit(unet_folder / CONFIG, **{field: value})
    with pytest.raises(WeightsError) as caught:
        load_unet(unet_folder)
    assert f"{field} = {value!r}" in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"), [("global_pool_conditions", True), ("controlnet_conditioning_channel_order", "bgr")]
)
def test_a_controlnet_config_value_that_is_not_built_is_refused(
    field: str, value: object, controlnet_folder: Path
) -> None:
    edit(controlnet_folder / CONFIG, **{field: value})
    with pytest.raises(WeightsError, match=field):
        load_controlnet(controlnet_folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block_out_channels", [8, 16, 16]),
        ("layers_per_block", 2),
        ("use_linear_projection", True),
        ("cross_attention_dim", 20),
    ],
)
def test_a_config_value_that_is_honoured_changes_what_is_expected(
    field: str, value: object, unet_folder: Path
) -> None:
    edit(unet_folder / CONFIG, **{field: value})
    with pytest.raises(WeightsError, match=r"does not fit its config\.json"):
        load_unet(unet_folder)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("field", ["flip_sin_to_cos", "upcast_attention"])
def test_values_without_weights_reach_the_network(field: str, value: bool, unet_folder: Path) -> None:
    edit(unet_folder / CONFIG, **{field: value})
    unet = load_unet(unet_folder)
    built = {
        "flip_sin_to_cos": unet.time_proj.flip_sin_to_cos,
        "upcast_attention": unet.mid_block.attentions[0].transformer_blocks[0].attn1.upcast_attention,
    }
    assert built[field] is value


def test_fields_of_no_known_version_are_tolerated_and_told(unet_folder: Path, caplog) -> None:
    edit(unet_folder / CONFIG, watermark="hello")
    with caplog.at_level(logging.WARNING):
        load_unet(unet_folder)
    assert "watermark" in caplog.text


def test_a_pickle_is_refused(unet_folder: Path) -> None:
    (unet_folder / WEIGHTS).rename(unet_folder / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="is a pickle") as caught:
        load_unet(unet_folder)
    assert "Convert" in caught.value.hint


def test_damaged_or_missing_files_are_weights_errors(unet_folder: Path) -> None:
    content = (unet_folder / WEIGHTS).read_bytes()
    (unet_folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        load_unet(unet_folder)
    (unet_folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        load_unet(unet_folder)
    (unet_folder / CONFIG).write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        load_unet(unet_folder)
    (unet_folder / CONFIG).write_text("[]")
    with pytest.raises(WeightsError, match="list instead of an object"):
        load_unet(unet_folder)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_unet(unet_folder / "nowhere")


def test_nonsense_in_a_config_is_a_weights_error(unet_folder: Path) -> None:
    edit(unet_folder / CONFIG, down_block_types=["KDownBlock2D"] * 3)
    with pytest.raises(WeightsError, match="KDownBlock2D"):
        load_unet(unet_folder)
    edit(unet_folder / CONFIG, down_block_types="DownBlock2D", block_out_channels=8)
    with pytest.raises(WeightsError, match="does not describe a network"):
        load_unet(unet_folder)


def test_published_keys_are_the_files_keys(unet_folder: Path) -> None:
    file = load_file(unet_folder / WEIGHTS)
    assert published_keys(load_unet(unet_folder)) == {key: tuple(value.shape) for key, value in file.items()}
