"""Which parameters are trained, what is saved of them, and gradient checkpointing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from tiny_training import Squares, tiny_networks, tiny_recipe, tiny_tokenizer
from torch import nn

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.training.build import SCHEDULER_CONFIG
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.objective import DiffusionObjective

SD15 = Path(__file__).parent.parent / "golden" / "sd15"


def test_at_the_size_of_stable_diffusion_868_451_469_parameters_are_trained() -> None:
    unet, controlnet = (json.loads((SD15 / f"{part}_config.json").read_text()) for part in ("unet", "controlnet"))
    with torch.device("meta"):
        networks = TrainedNetworks(
            nn.Linear(1, 1),
            AutoencoderKL(),
            XpsrUNet(**XpsrUNet.options_from(unet)),
            XpsrControlNet(**XpsrControlNet.options_from(controlnet)),
        )
    trained = networks.trained()
    assert sum(parameter.numel() for parameter in trained.values()) == 868_451_469
    assert len(trained) == 1048
    of_unet = [parameter.numel() for name, parameter in trained.items() if name.startswith("unet.")]
    assert (len(of_unet), sum(of_unet)) == (312, 248_234_560)


def test_of_a_small_model_everything_but_the_transform_is_trained() -> None:
    networks = tiny_networks(tiny_recipe("mini"), tiny_tokenizer())
    assert networks.trained().keys() == dict(networks.named_parameters()).keys()
    assert networks.exact_state().keys() - networks.trained().keys() == {"vae.basis", "vae.deviation"}


def test_frozen_networks_stay_in_eval_mode_and_take_the_type_of_their_computations() -> None:
    networks = tiny_networks(tiny_recipe("sd"), tiny_tokenizer()).train()
    assert {name: part.training for name, part in networks.parts().items()} == {
        "text_encoder": False,
        "vae": False,
        "unet": True,
        "controlnet": True,
    }
    networks.place(torch.device("cpu"), torch.bfloat16)
    assert {next(part.parameters()).dtype for part in (networks.text_encoder, networks.vae)} == {torch.bfloat16}
    assert {parameter.dtype for parameter in networks.unet.parameters()} == {torch.float32}
    assert networks.exact_state().keys() == networks.trained().keys()


@pytest.mark.parametrize(("kind", "shape"), [("mini", (16, 8, 16)), ("sd", (4, 4, 8))])
def test_latents_have_the_size_that_is_drawn_for_them(kind: str, shape: tuple[int, ...]) -> None:
    networks = tiny_networks(tiny_recipe(kind), tiny_tokenizer())
    assert networks.latent_shape(32, 64) == shape
    photos = torch.rand(2, 3, 32, 64)
    assert networks.encode(photos, photos, torch.zeros(2, *shape)).shape == (2, *shape)


def test_latents_of_stable_diffusion_are_samples_of_the_posterior_times_its_scale() -> None:
    networks = tiny_networks(tiny_recipe("sd"), tiny_tokenizer())
    photos, noise = torch.rand(1, 3, 32, 32), torch.randn(1, 4, 4, 4)
    posterior = networks.vae.encode(photos).latent_dist
    expected = 0.18215 * (posterior.mean + posterior.std * noise)
    latents = networks.encode(photos, photos, noise)
    torch.testing.assert_close(latents, expected)
    assert not latents.requires_grad


def test_checkpointed_gradients_are_the_same_and_take_less_memory() -> None:
    recipe = tiny_recipe("mini")
    networks = tiny_networks(recipe, tiny_tokenizer()).train()
    objective = DiffusionObjective(networks, SCHEDULER_CONFIG, recipe.loss, seed=0)
    pairs = [Squares(32)[number] for number in range(2)]
    batch = {name: torch.stack([pair[name] for pair in pairs]) for name in ("target_pm1", "enlarged_pm1")}
    batch |= {name: torch.tensor([[0, 1, 1]] * 2) for name in ("high", "low")}
    batch |= objective.draw(range(2), 32, 32)

    def gradients() -> tuple[dict[str, torch.Tensor], int]:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        networks.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            total = objective(batch)["total"]
        total.backward()
        return {name: parameter.grad.clone() for name, parameter in networks.trained().items()}, sum(kept.values())

    plain, memory = gradients()
    networks.checkpoint_gradients()
    checkpointed, less = gradients()
    weights = sum(parameter.nbytes for parameter in networks.parameters())
    assert less - weights < 0.6 * (memory - weights)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-5, atol=1e-7)
