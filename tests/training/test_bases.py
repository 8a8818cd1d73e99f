"""Bases: a stock Stable Diffusion becomes XPSR at step 0, an XPSR goes on, and what does not fit is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from small_photos import refusal
from stock_stable_diffusion import PYRAMID, SD21, save_stable_diffusion

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.folders import save_controlnet, save_unet
from xpsr_cli.training.bases import check_prediction, find_stable_diffusion, from_stable_diffusion, from_xpsr
from xpsr_cli.training.recipe import StableDiffusionRecipe

RECIPE = StableDiffusionRecipe("any", "parallel", PYRAMID)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_stable_diffusion(tmp_path_factory.mktemp("bases") / "sd")


@pytest.fixture
def spoilt(base: Path, tmp_path: Path) -> Path:
    """A copy of the base to do things to."""
    return Path(shutil.copytree(base, tmp_path / "spoilt"))


def change(folder: Path, part: str, **fields: object) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_fresh_model_is_the_base_and_what_is_new_is_closed(base: Path) -> None:
    model = from_stable_diffusion(base, RECIPE, "mine", seed=1)
    stock = UNet2DConditionModel.from_pretrained(base / "unet")
    assert (model.name, model.preset.steps, model.scheduler_config["prediction_type"]) == ("mine", 20, "epsilon")
    for name, value in stock.down_blocks.state_dict().items():
        assert torch.equal(model.unet.down_blocks.state_dict()[name], value), name
        if "attentions" not in name:
            assert torch.equal(model.controlnet.down_blocks.state_dict()[name], value), name
    assert torch.equal(model.controlnet.conv_in.weight, stock.conv_in.weight)
    conditional = [name for name, _ in model.unet.named_parameters() if ".conditional." in name]
    assert len(conditional) == 26 * 8  # two layers in each of four up blocks
    closed = [*model.controlnet.down_projections, model.controlnet.mid_projection, model.controlnet.pyramid.conv_out]
    assert all(not parameter.any() for module in closed for parameter in module.parameters())


def test_both_text_branches_of_the_fusion_start_as_the_base_s(base: Path) -> None:
    model = from_stable_diffusion(base, RECIPE, "mine", seed=1)
    stock = UNet2DConditionModel.from_pretrained(base / "unet").down_blocks[0].attentions[0].state_dict()
    fusion = model.controlnet.down_blocks[0].attentions[0]
    for name, value in stock.items():
        assert torch.equal(fusion.high.state_dict()[name], value)
        assert torch.equal(fusion.low.state_dict()[name], value)
        if "attn2.to_k" not in name and "attn2.to_v" not in name:
            assert torch.equal(fusion.fusion.state_dict()[name], value)


def test_what_is_new_depends_on_the_seed_alone(base: Path) -> None:
    first, again, other = (
        from_stable_diffusion(base, RECIPE, "mine", seed).unet.up_blocks[0].attentions[0].conditional.proj_in.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fusion", ["parallel", "serial", "high", "low"])
def test_a_stable_diffusion_2_1_is_built_in_every_variant(tmp_path: Path, fusion: str) -> None:
    folder = save_stable_diffusion(
        tmp_path / "sd21", prediction="v_prediction", text_width=20, cross_attention_dim=20, **SD21
    )
    model = from_stable_diffusion(folder, StableDiffusionRecipe("any", fusion, PYRAMID), "mine", seed=0)
    check_prediction(model.scheduler_config, "v", "mine")
    text = torch.randn(1, 5, 20)
    latents, photo = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64)
    prediction = model.unet(latents, 999, text, model.controlnet(latents, 999, text, text, photo))
    assert prediction.shape == latents.shape
    assert prediction.isfinite().all()


def test_a_model_of_another_prediction_is_refused() -> None:
    with refusal(WeightsError, "old", "epsilon", "loss.prediction=epsilon"):
        check_prediction({"prediction_type": "epsilon"}, "v", "old")


@pytest.mark.parametrize(
    ("part", "fields", "words"),
    [
        ("unet", {"in_channels": 9}, ["9 channels", "inpainting"]),
        ("unet", {"cross_attention_dim": 20}, ["20", "12"]),
        ("vae", {"block_out_channels": [4, 4, 8]}, ["halves photos 2 times", "3 entries"]),
        ("unet", {"addition_embed_type": "text_time"}, ["addition_embed_type", "text_time"]),
        ("unet", {"transformer_layers_per_block": [1, 2, 4]}, ["transformer_layers_per_block"]),
    ],
)
def test_a_base_that_does_not_fit_is_named_before_weights_are_read(
    spoilt: Path, part: str, fields: dict[str, object], words: list[str]
) -> None:
    change(spoilt, part, **fields)
    for weights in spoilt.rglob("*.safetensors"):
        weights.unlink()
    with refusal(WeightsError, *words):
        from_stable_diffusion(spoilt, RECIPE, "mine", seed=0)


def test_weights_that_are_missing_are_named(spoilt: Path) -> None:
    (spoilt / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with refusal(WeightsError, spoilt / "unet"):
        from_stable_diffusion(spoilt, RECIPE, "mine", seed=0)


def test_a_base_is_found_by_folder_name_and_hub_id(base: Path, tmp_path: Path, monkeypatch) -> None:
    assert find_stable_diffusion(str(base)) == base
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    snapshot = tmp_path / "hub" / "models--some--sd" / "snapshots" / "abc"
    shutil.copytree(base, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert find_stable_diffusion("some/sd") == snapshot
    official = tmp_path / "hub" / "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    shutil.copytree(snapshot.parents[1], official)
    assert find_stable_diffusion("stable-diffusion-1.5") == official / "snapshots" / "abc"


def test_a_base_without_its_unet_or_of_another_kind_is_refused(spoilt: Path) -> None:
    shutil.rmtree(spoilt / "unet")
    with refusal(WeightsError, spoilt, "unet/", "--base"):
        find_stable_diffusion(str(spoilt))
    with refusal(WeightsError, "nowhere/sd", "--base"):
        find_stable_diffusion("nowhere/sd")
    with refusal(WeightsError, "xpsr-mini", "--init-from"):
        find_stable_diffusion("xpsr-mini")


def test_an_xpsr_goes_on_small_or_published(base: Path, tiny_model: Path, tmp_path: Path) -> None:
    small = from_xpsr(str(tiny_model), None)
    assert small.name == "tiny"
    fresh = from_stable_diffusion(base, RECIPE, "mine", seed=3)
    save_unet(fresh.unet, tmp_path / "xpsr" / "unet")
    save_controlnet(fresh.controlnet, tmp_path / "xpsr" / "controlnet")
    published = from_xpsr(str(tmp_path / "xpsr"), str(base))
    for name, value in fresh.controlnet.state_dict().items():
        assert torch.equal(published.controlnet.state_dict()[name], value), name
    with pytest.raises(WeightsError, match=r"stable-diffusion-1\.5"):
        from_xpsr(str(tmp_path / "xpsr"), None)
