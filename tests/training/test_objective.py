"""The loss: every term can be switched off, every prediction has its goal, and one batch can be learnt by heart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_training import SD_SCHEDULER, Squares, tiny_networks, tiny_recipe, tiny_tokenizer
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.training.batches import to_device
from xpsr_cli.training.build import SCHEDULER_CONFIG
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.objective import AutoencoderObjective, DiffusionObjective
from xpsr_cli.training.optimizer import make_optimizer
from xpsr_cli.training.recipe import LossRecipe, Recipe

HEADS = {"degradation_pixel", "degradation_latent"}


def objective_of(recipe: Recipe, **loss: float | str) -> DiffusionObjective:
    networks = tiny_networks(recipe, tiny_tokenizer()).train()
    scheduler = SCHEDULER_CONFIG if networks.small else SD_SCHEDULER
    predicted = {"v": "v_prediction", "epsilon": "epsilon"}[loss.get("prediction", recipe.loss.prediction)]
    return DiffusionObjective(
        networks, {**scheduler, "prediction_type": predicted}, replace(recipe.loss, **loss), recipe.seed
    )


def batch_of(objective: DiffusionObjective, side: int, samples: range = range(2)) -> dict[str, Tensor]:
    pairs = [Squares(side)[number] for number in samples]
    batch = {name: torch.stack([pair[name] for pair in pairs]) for name in ("target_pm1", "enlarged_pm1")}
    texts = {name: [str(pair[name]) for pair in pairs] for name in ("high", "low")}
    return to_device({**batch, **texts, **objective.draw(samples, side, side)}, tiny_tokenizer(), torch.device("cpu"))


@pytest.mark.parametrize(("kind", "side"), [("mini", 32), ("sd", 64)])
def test_the_total_is_the_weighted_sum_of_the_terms(kind: str, side: int) -> None:
    objective = objective_of(tiny_recipe(kind), degradation_pixel_weight=0.3, degradation_latent_weight=0.7)
    terms = objective(batch_of(objective, side))
    total = terms["noise"] + 0.3 * terms["degradation_pixel"] + 0.7 * terms["degradation_latent"]
    if kind == "mini":
        total = total + objective.recipe.pixel_weight * terms["pixel"]
    torch.testing.assert_close(terms["total"], total)
    assert {name for name in terms if "/" not in name} - {"pixel"} == {"total", "noise", *HEADS}
    for name in HEADS:
        torch.testing.assert_close(sum(term for key, term in terms.items() if key.startswith(name + "/")), terms[name])
    skips = len(objective.networks.controlnet.skip_channels)
    assert sum(name.startswith("degradation_latent/") for name in terms) == skips + 1
    assert "degradation_latent/mid" in terms
    assert [name for name, term in terms.items() if term.requires_grad] == ["total"]


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_term_that_is_switched_off_teaches_its_heads_nothing(name: str) -> None:
    objective = objective_of(tiny_recipe("sd"), **{f"{name}_weight": 0.0})
    terms = objective(batch_of(objective, 64))
    terms["total"].backward()
    assert name not in terms
    assert f"{name}/0" in terms  # but how well they would do is still told
    off, on = {
        "degradation_pixel": ("rgb_heads", "latent_heads"),
        "degradation_latent": ("latent_heads", "rgb_heads"),
    }[name]
    gradients = {key: parameter.grad for key, parameter in objective.networks.trained().items()}
    assert all(gradient is None for key, gradient in gradients.items() if off in key)
    assert all(gradient is not None for key, gradient in gradients.items() if on in key)


def test_without_any_weight_the_heads_are_not_even_asked() -> None:
    objective = objective_of(
        tiny_recipe("mini"), degradation_pixel_weight=0.0, degradation_latent_weight=0.0, pixel_weight=0.0
    )
    terms = objective(batch_of(objective, 32))
    assert terms.keys() == {"total", "noise"}
    torch.testing.assert_close(terms["total"], terms["noise"])


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_a_prediction_that_is_right_has_no_error(prediction: str) -> None:
    objective = objective_of(tiny_recipe("sd"), prediction=prediction)
    batch = batch_of(objective, 64)
    clean = torch.randn(2, 4, 8, 8)
    noise, timesteps = batch["noise"], batch["timesteps"]
    share = objective.scheduler.alphas_cumprod[timesteps][:, None, None, None]
    goal = noise if prediction == "epsilon" else share.sqrt() * noise - (1 - share).sqrt() * clean
    objective.networks.unet.register_forward_hook(lambda *_: goal)
    texts = torch.zeros(2, 77, 12)
    terms = objective.losses(clean, texts, texts, batch)
    assert terms["noise"] < 1e-10
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    torch.testing.assert_close(objective._estimate(goal, noisy, timesteps), clean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fusion", ["parallel", "serial", "high", "low"])
def test_every_trained_parameter_learns_in_every_fusion(fusion: str) -> None:
    objective = objective_of(tiny_recipe("sd", f"model.fusion={fusion}"))
    for parameter in objective.networks.controlnet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # where zeros start, gradients stop
    objective(batch_of(objective, 64))["total"].backward()
    silent = [key for key, parameter in objective.networks.trained().items() if parameter.grad is None]
    assert silent == []
    frozen = set(dict(objective.networks.named_parameters())) - set(objective.networks.trained())
    assert all(dict(objective.networks.named_parameters())[key].grad is None for key in frozen)


@pytest.mark.parametrize(("kind", "side", "steps"), [("mini", 32, 100), ("sd", 64, 150)])
def test_one_batch_can_be_learnt_by_heart(kind: str, side: int, steps: int) -> None:
    recipe = tiny_recipe(kind, "optimizer.learning_rate=4e-3")
    objective = objective_of(recipe)
    batch = batch_of(objective, side)
    parameters = list(objective.networks.trained().values())
    optimizer = make_optimizer(parameters, recipe.optimizer, torch.device("cpu"))
    losses = []
    for _ in range(steps):
        terms = objective(batch)
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append((terms["total"].item(), terms["noise"].item()))
    (total, noise), (last_total, last_noise) = losses[0], losses[-1]
    assert last_total < 0.45 * total
    assert last_noise < 0.45 * noise


def test_what_only_the_photo_tells_is_learnt_through_the_control_network() -> None:
    """Two photos whose noisy latents, timesteps and texts are the same: only the ControlNet can tell them apart."""
    recipe = tiny_recipe("sd", "optimizer.learning_rate=1e-2")
    objective = objective_of(recipe, degradation_pixel_weight=0.0, degradation_latent_weight=0.0)
    clean, noisy = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)).split([2, 1])
    share = objective.scheduler.alphas_cumprod[400]
    goals = (noisy - share.sqrt() * clean) / (1 - share).sqrt()
    batch = {**batch_of(objective, 64), "timesteps": torch.tensor([400, 400]), "noise": goals}
    texts = torch.zeros(2, 77, 12)
    seen: list[Tensor] = []
    objective.networks.unet.register_forward_hook(lambda *call: seen.append(call[-1].detach()))
    parameters = list(objective.networks.trained().values())
    optimizer = make_optimizer(parameters, recipe.optimizer, torch.device("cpu"))
    for _ in range(60):
        objective.losses(clean, texts, texts, batch)["total"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(seen[0][0], seen[0][1], atol=1e-5)
    told, wanted = (pair[0] - pair[1] for pair in (seen[-1], goals))
    assert (told - wanted).square().sum() < 0.9 * wanted.square().sum()


def test_what_is_drawn_follows_from_the_number_of_the_sample() -> None:
    objective = objective_of(tiny_recipe("sd"))
    together, alone = objective.draw(range(5, 9), 64, 64), objective.draw([7], 64, 64)
    assert together.keys() == {"timesteps", "noise", "posterior_noise"}
    for name, drawn in together.items():
        assert torch.equal(drawn[2:3], alone[name])
    assert not torch.equal(together["noise"][0], together["noise"][1])
    assert not torch.equal(together["noise"][0], together["posterior_noise"][0])


def test_timesteps_are_spread_evenly_and_noise_is_normal() -> None:
    objective = objective_of(tiny_recipe("sd"))
    drawn = objective.draw(range(2000), 16, 16)
    assert abs(drawn["timesteps"].float().mean() - 499.5) < 4 * 289 / math.sqrt(2000)
    assert drawn["timesteps"].min() < 10
    assert drawn["timesteps"].max() > 990
    assert abs(drawn["noise"].std() - 1) < 0.02


def test_the_last_timestep_is_practised_with_and_without_noise() -> None:
    objective = objective_of(tiny_recipe("mini"), last_timestep_probability=0.8)
    drawn = objective.draw(range(1000), 16, 16)
    last = drawn["timesteps"] == 999
    assert 0.75 < last.float().mean() < 0.85
    silent = drawn["noise"].abs().amax(dim=(1, 2, 3)) == 0
    assert 0.4 < silent[last].float().mean() < 0.6
    assert not silent[~last].any()


def test_control_networks_read_photos_between_0_and_1() -> None:
    objective = objective_of(tiny_recipe("sd"))
    batch = batch_of(objective, 64)
    seen = []
    objective.networks.controlnet.pyramid.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    objective(batch)
    torch.testing.assert_close(seen[0], (batch["enlarged_pm1"] + 1) / 2)


def test_the_autoencoder_s_decoder_alone_is_taught() -> None:
    networks = tiny_networks(tiny_recipe("mini"), tiny_tokenizer())
    objective = AutoencoderObjective(networks.vae, seed=0)
    pairs = [Squares(32)[number] for number in range(3)]
    batch = {name: torch.stack([pair[name] for pair in pairs]) for name in ("target_pm1", "enlarged_pm1")}
    drawn = objective.draw(range(3), 32, 32)
    assert drawn["strength"].shape == (3, 1, 1, 1)
    assert torch.equal(drawn["strength"][1:2], objective.draw([1], 32, 32)["strength"])
    terms = objective({**batch, **drawn})
    terms["total"].backward()
    assert all(parameter.grad is not None for parameter in networks.vae.conv_out.parameters())


def _loss(**changes: float | str) -> LossRecipe:
    return replace(tiny_recipe("sd").loss, **changes)


@pytest.mark.parametrize(
    ("loss", "scheduler", "words"),
    [
        (_loss(prediction="v"), {}, "loss.prediction is 'v'.*'epsilon'"),
        (_loss(), {"rescale_betas_zero_snr": True}, "ends in pure noise"),
        (_loss(pixel_weight=1.0), {}, "loss.pixel_weight is 1, but only small models"),
    ],
)
def test_losses_that_cannot_be_are_refused(loss: LossRecipe, scheduler: dict, words: str) -> None:
    networks = tiny_networks(tiny_recipe("sd"), tiny_tokenizer())
    with pytest.raises(UsageError, match=words):
        DiffusionObjective(networks, {**SD_SCHEDULER, **scheduler}, loss, seed=0)


def test_terms_without_heads_are_refused() -> None:
    networks = tiny_networks(tiny_recipe("sd"), tiny_tokenizer())
    options = {key: value for key, value in networks.controlnet.config.items() if not key.startswith("_")}
    headless = XpsrControlNet(**{**options, "return_rgbs": False})
    networks = TrainedNetworks(networks.text_encoder, networks.vae, networks.unet, headless)
    with pytest.raises(UsageError, match="degradation_pixel_weight is 0.05, but this ControlNet has no such heads"):
        DiffusionObjective(networks, SD_SCHEDULER, _loss(), seed=0)
    DiffusionObjective(networks, SD_SCHEDULER, _loss(degradation_pixel_weight=0.0), seed=0)
