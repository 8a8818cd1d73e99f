"""The reference in the UNet's decoder: nothing until it is trained, and then what lies at the same place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_networks import TINY_CONTROLNET, TINY_UNET, randomise, silent_control

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.folders import load_unet, published_config, save_unet
from xpsr_cli.models.reference_attention import ReferenceAttention, blocks_within, detail_channels, reference_detail
from xpsr_cli.models.reference_loading import named_weights
from xpsr_cli.models.unet import XpsrUNet

SD15 = Path(__file__).parents[1] / "golden" / "sd15"
READ = 5
SOME = {"reference_attention": (True, True, False), "reference_channels": READ}
SHAPES = [SOME, {**SOME, "reference_attention": (True,) * 3, "reference_window": 2}, {**SOME, "reference_window": 4}]


def like(plain: XpsrUNet, **options) -> XpsrUNet:
    """The same UNet with untrained reference attention."""
    unet = XpsrUNet(**{**plain.options_from(plain.config), **options})
    weights = named_weights(unet)
    with torch.no_grad():
        for name, value in named_weights(plain).items():
            weights[name].copy_(value)
    return unet.eval()


def reference_like(latents: torch.Tensor, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, READ, *latents.shape[-2:])


@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize("size", [(8, 8), (6, 10), (5, 7)])
@torch.no_grad()
def test_untrained_it_is_the_identity_to_the_bit(make_unet, inputs, options: dict, size: tuple[int, int]) -> None:
    plain, call = make_unet(conditional_attention=[True, False, False]), inputs(*size)
    unet = like(plain, **options)
    arguments = call["latents"], 7, call["high"], silent_control(plain, call["latents"])
    expected = plain(*arguments)
    assert torch.equal(unet(*arguments), expected)
    for batch in (1, 2):
        assert torch.equal(unet(*arguments, reference_like(call["latents"], batch)), expected)


@pytest.mark.parametrize("options", SHAPES)
def test_gradients_reach_its_keys_and_values_from_the_second_step(make_unet, inputs, options: dict) -> None:
    plain, call = make_unet(), inputs()
    unet = like(plain, **options).requires_grad_(False)
    new = {name: p.requires_grad_(True) for name, p in unet.named_parameters() if ".reference." in name}
    optimizer = torch.optim.SGD(new.values(), lr=1e-3)
    reference = reference_like(call["latents"])
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        unet(
            call["latents"], 7, call["high"], silent_control(plain, call["latents"]), reference
        ).square().sum().backward()
        moved.append({name for name, p in new.items() if p.grad is not None and bool(p.grad.any())})
        optimizer.step()
    assert {name.split(".reference.")[1] for name in moved[0]} == {"proj_out.weight", "proj_out.bias"}
    assert moved[1] == new.keys()


@pytest.mark.parametrize("options", SHAPES)
def test_it_is_trained_alone_in_either_layout(make_unet, inputs, options: dict) -> None:
    plain, call = make_unet(), inputs()
    unet = like(plain, **options).requires_grad_(False).to(memory_format=torch.channels_last)
    new = [p.requires_grad_(True) for name, p in unet.named_parameters() if ".reference." in name]
    latents, reference = (
        maps.to(memory_format=torch.channels_last) for maps in (call["latents"], reference_like(call["latents"]))
    )
    unet(latents, 7, call["high"], silent_control(plain, latents), reference).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in new)


@torch.no_grad()
def test_a_trained_one_hears_the_reference_and_only_where_there_is_one(make_unet, inputs) -> None:
    unet, call = make_unet(**SOME), inputs()
    arguments = call["latents"], 7, call["high"], silent_control(unet, call["latents"])
    one, other, none = (unet(*arguments, r) for r in (*reference_like(call["latents"], 2).split(1), None))
    assert (one - other).abs().max() > 1e-3
    assert (one - none).abs().max() > 1e-3


@pytest.mark.parametrize("window", [2, 4])
@torch.no_grad()
def test_in_windows_a_query_sees_what_is_near_it_and_nothing_else(window: int) -> None:
    attention = randomise(ReferenceAttention(8, 2, 6, 4, window))
    hidden, reference = torch.randn(1, 8, 12, 20), torch.randn(1, 6, 12, 20)
    moved = reference.clone()
    moved[..., 5, 9] += 1
    changed = (attention(hidden, moved) - attention(hidden, reference)).abs().amax(dim=(0, 1)) > 1e-6
    rows, columns = changed.nonzero().T
    first_row, first_column = 5 // window * window, 9 // window * window
    assert changed[5, 9]
    for places, first in ((rows, first_row), (columns, first_column)):
        assert first - window <= int(places.min()) <= int(places.max()) < first + 2 * window


@torch.no_grad()
def test_windows_are_the_same_wherever_they_lie() -> None:
    attention = randomise(ReferenceAttention(8, 2, 6, 4, 4))
    attention.norm = torch.nn.Identity()
    hidden, reference = torch.randn(1, 8, 24, 24), torch.randn(1, 6, 24, 24)
    whole, part = attention(hidden, reference), attention(hidden[..., 4:20, 8:24], reference[..., 4:20, 8:24])
    torch.testing.assert_close(part[..., 4:12, 4:12], whole[..., 8:16, 12:20], rtol=1e-4, atol=1e-5)


def test_a_fresh_window_reads_its_own_place_most() -> None:
    attention = ReferenceAttention(4, 1, 4, 2, 4)
    weights = attention._by_distance(4).softmax(dim=-1)[0]  # (16, 64)
    own = torch.tensor([(y + 2) * 8 + x + 2 for y in range(4) for x in range(4)])
    assert torch.equal(weights.argmax(dim=-1), own)


@torch.no_grad()
def test_more_tokens_are_read_by_the_conditional_attention(make_unet, inputs) -> None:
    plain, call = make_unet(), inputs()
    unet = like(plain, **SOME, reference_form="tokens")
    arguments = call["latents"], 7, call["high"], silent_control(plain, call["latents"])
    assert torch.equal(unet(*arguments), plain(*arguments))
    one, other = (unet(*arguments, r) for r in reference_like(call["latents"], 2).split(1))
    assert (one - other).abs().max() > 1e-4
    with pytest.raises(ValueError, match="no conditional attention"):
        XpsrUNet(**TINY_UNET, conditional_attention=[False] * 3, **SOME, reference_form="tokens")


@torch.no_grad()
def test_a_third_branch_of_the_fusion_reads_it_too(make_controlnet, inputs) -> None:
    call = inputs()
    plain = make_controlnet()
    controlnet = XpsrControlNet(**TINY_CONTROLNET, reference_fusion=(False, True, True))
    controlnet.load_state_dict({**controlnet.state_dict(), **plain.state_dict()})
    expected = plain(**call)
    assert all(torch.equal(a, b) for a, b in zip(controlnet(**call).down, expected.down, strict=True))
    references = torch.randn(2, controlnet.reference_channels, *call["latents"].shape[-2:])
    one, other = (controlnet(**call, reference=reference).mid for reference in references.split(1))
    assert (one - other).abs().max() > 1e-5
    with pytest.raises(ValueError, match="parallel"):
        XpsrControlNet(**TINY_CONTROLNET, fusion="serial", reference_fusion=(False, True, True))


@torch.no_grad()
def test_what_is_read_says_where_the_reference_differs_from_the_photo(make_controlnet, inputs) -> None:
    controlnet, image = make_controlnet(), inputs()["image"]
    photo = controlnet.encode_image(image)
    same, other = (controlnet.encode_reference(picture, image, photo) for picture in (image, 1 - image))
    channels = photo.shape[1]
    assert same.shape[1] == controlnet.reference_channels
    assert torch.equal(same[:, :channels], photo)
    assert not bool(same[:, channels:].any())
    torch.testing.assert_close(other[:, :channels] - other[:, channels : 2 * channels], photo)


def test_detail_is_in_units_of_contrast_and_has_an_end() -> None:
    photo = torch.rand(1, 3, 16, 16) / 4 + 0.3
    reference = photo + 0.02 * torch.randn(photo.shape)
    detail = reference_detail(reference, photo, 4)
    assert detail.shape == (1, detail_channels(4), 4, 4)
    stronger = reference_detail(4 * (reference - 0.5) + 0.5, 4 * (photo - 0.5) + 0.5, 4)
    torch.testing.assert_close(stronger, detail, rtol=0.2, atol=0.02)  # but for the floor of the contrast
    assert float(reference_detail(torch.ones_like(photo), torch.zeros_like(photo), 4).max()) == 8


def test_without_it_the_config_is_the_published_one(make_unet, tmp_path: Path) -> None:
    assert not [field for field in published_config(make_unet()) if field.startswith("reference")]
    unet = make_unet(reference_attention=[False, True, False], reference_window=2, reference_channels=READ)
    save_unet(unet, tmp_path)
    loaded = load_unet(tmp_path)
    assert loaded.config.reference_window == 2
    assert all(torch.equal(value, unet.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert loaded.state_dict().keys() == unet.state_dict().keys()


def test_an_entry_per_block_is_needed() -> None:
    with pytest.raises(ValueError, match="reference_attention has 4 entries for 3 levels"):
        XpsrUNet(**TINY_UNET, reference_attention=[True] * 4)
    with pytest.raises(ValueError, match="reference_fusion has 2 entries for 3 levels"):
        XpsrControlNet(**TINY_CONTROLNET, reference_fusion=[True] * 2)


def test_levels_of_32_tokens_or_fewer_are_those_of_stable_diffusions_three_coarsest() -> None:
    assert blocks_within(4, 64) == [True, True, True, False]
    assert blocks_within(4, 128) == [True, True, False, False]


def test_at_the_size_of_stable_diffusion_published_folders_lack_its_keys_alone() -> None:
    config = json.loads((SD15 / "unet_config.json").read_text())
    published = json.loads((SD15 / "unet_keys.json").read_text())
    with torch.device("meta"):
        options = XpsrUNet.options_from(config)
        unet = XpsrUNet(**{**options, "reference_attention": blocks_within(4, 64), "reference_channels": 832})
    new = [key for key in unet.state_dict() if ".reference." in key]
    assert len(unet.state_dict()) - len(new) == len(published)
    assert sum(p.numel() for name, p in unet.named_parameters() if ".reference." in name) == 193_075_200
