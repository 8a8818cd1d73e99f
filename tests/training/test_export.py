"""The model folder a run leaves: half precision, whole, and the networks in training stay what they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from large_photos import TINY_MINI
from stock_stable_diffusion import PYRAMID, save_stable_diffusion

from xpsr_cli.models.loading import load_components
from xpsr_cli.training.bases import from_stable_diffusion
from xpsr_cli.training.build import build_mini, build_tokenizer
from xpsr_cli.training.export import copied, export_model, frozen_parts
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.recipe import MiniModelRecipe, StableDiffusionRecipe, load_recipe


@pytest.fixture
def sizes() -> MiniModelRecipe:
    recipe = load_recipe("xpsr-mini", list(TINY_MINI)).model
    assert isinstance(recipe, MiniModelRecipe)
    return recipe


def test_a_model_is_exported_in_half_precision_and_stays_what_it_was(sizes: MiniModelRecipe, tmp_path: Path) -> None:
    model = build_mini(sizes, build_tokenizer(["a house"], vocabulary=256), "mine", seed=0)
    networks = TrainedNetworks(model.text_encoder, model.vae, model.unet, model.controlnet)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    export_model(tmp_path / "model", networks, model)
    loaded = load_components(tmp_path / "model")
    assert (loaded.name, loaded.preset, loaded.scheduler_config) == ("mine", model.preset, model.scheduler_config)
    for name, value in networks.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    for part, exact in {"unet": False, "controlnet": False, "text_encoder": False, "vae": True}.items():
        for key, value in getattr(loaded, part).state_dict().items():
            wanted = before[f"{part}.{key}"]
            expected = wanted if exact or not wanted.is_floating_point() else wanted.half().float()
            assert torch.equal(value, expected), f"{part} {key}"


def test_frozen_parts_are_exported_as_they_came(tmp_path: Path) -> None:
    base = save_stable_diffusion(tmp_path / "sd")
    model = from_stable_diffusion(base, StableDiffusionRecipe("any", "parallel", PYRAMID), "mine", seed=0)
    networks = TrainedNetworks(model.text_encoder, model.vae, model.unet, model.controlnet)
    frozen = frozen_parts(networks)
    assert set(frozen) == {"text_encoder", "vae"}
    wanted = {name: part.state_dict() for name, part in networks.parts().items()}
    wanted = {name: {key: value.half().float() for key, value in state.items()} for name, state in wanted.items()}
    networks.place(torch.device("cpu"), torch.bfloat16)  # as mixed precision does
    export_model(tmp_path / "model", networks, model, frozen)
    loaded = load_components(tmp_path / "model")
    for name, state in wanted.items():
        for key, value in getattr(loaded, name).state_dict().items():
            assert torch.equal(value, state[key]), f"{name} {key}"


def test_a_copy_shares_no_memory_and_no_gradient() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network.to(memory_format=torch.channels_last)
    copy = copied(network, torch.float16)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert copy[0].weight.dtype == torch.float16
    assert copy[0].weight.is_contiguous()
    assert copy[1].num_batches_tracked.dtype == torch.int64
    with torch.no_grad():
        network[0].weight.zero_()
    assert copy[0].weight.any()
    assert all(parameter.requires_grad for parameter in network.parameters())
