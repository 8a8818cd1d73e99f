"""What a stage of a pixel cascade minimises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_cascade import tiny_cascade

from xpsr_cli.models.pixel_cascade import BASE, REFINER
from xpsr_cli.training.prior_networks import SCHEDULER_CONFIG, PriorNetworks
from xpsr_cli.training.prior_objective import MOST_NOISE, PriorObjective


def objective(stage: str) -> PriorObjective:
    cascade = tiny_cascade()
    return PriorObjective(PriorNetworks(cascade.text_encoder, cascade.unets[stage], stage), SCHEDULER_CONFIG, seed=3)


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    pixels = {name: torch.rand(count, 3, 16, 16, generator=rng) * 2 - 1 for name in ("target_pm1", "enlarged_pm1")}
    return {**pixels, "high": torch.randint(0, 50, (count, 77), generator=rng)}


@pytest.mark.parametrize("stage", [BASE, REFINER])
def test_what_is_drawn_follows_from_the_number_of_the_sample(stage: str) -> None:
    alone, together = objective(stage).draw([5], 16, 16), objective(stage).draw([4, 5], 16, 16)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert torch.equal(value[0], together[name][1])


def test_timesteps_are_spread_evenly() -> None:
    timesteps = objective(BASE).draw(range(2**30, 2**30 + 64), 2, 2)["timesteps"].numpy()
    assert np.histogram(timesteps, 8, (0, 1000))[0].tolist() == pytest.approx([8] * 8, abs=1)


def test_the_smaller_picture_is_noised_to_many_levels() -> None:
    levels = objective(REFINER).draw(range(64), 2, 2)["levels"]
    assert 0 <= int(levels.min()) < 0.1 * MOST_NOISE < 0.9 * MOST_NOISE < int(levels.max()) < MOST_NOISE


@pytest.mark.parametrize("stage", [BASE, REFINER])
def test_a_network_that_says_nothing_has_the_loss_of_the_velocity(stage: str) -> None:
    loss = objective(stage)
    with torch.no_grad():
        for parameter in loss.networks.unet.conv_out.parameters():
            parameter.zero_()
    items = batch(16)
    drawn = loss.draw(range(16), 16, 16)
    velocity = loss.scheduler.get_velocity(items["target_pm1"], drawn["noise"], drawn["timesteps"])
    losses = loss({**items, **drawn})
    assert float(losses["noise"]) == pytest.approx(float(velocity.square().mean()), rel=1e-5)
    assert not losses["noise"].requires_grad


def test_the_last_timestep_is_pure_noise() -> None:
    assert float(objective(BASE).scheduler.alphas_cumprod[-1]) == 0


@pytest.mark.parametrize("stage", [BASE, REFINER])
def test_the_words_stay_those_of_the_scorer(stage: str) -> None:
    trained = objective(stage).networks.trained()
    assert trained
    assert all(name.startswith("unet.") for name in trained)


@pytest.mark.parametrize(
    ("stage", "name"), [(BASE, "high"), (REFINER, "high"), (REFINER, "enlarged_pm1"), (REFINER, "levels")]
)
def test_words_and_the_smaller_picture_reach_the_prediction(stage: str, name: str) -> None:
    loss, items = objective(stage), batch()
    items |= loss.draw([0, 1], 16, 16)
    before = loss(items)["noise"]
    changed = {**items, name: items[name].flip(0)}
    assert float(loss(changed)["noise"]) != float(before)


def test_a_base_does_not_see_the_picture_that_it_is_to_make() -> None:
    loss, items = objective(BASE), batch()
    items |= loss.draw([0, 1], 16, 16)
    assert float(loss({**items, "enlarged_pm1": -items["enlarged_pm1"]})["noise"]) == float(loss(items)["noise"])
