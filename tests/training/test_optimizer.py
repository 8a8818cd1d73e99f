"""The learning rate of every step, and 8-bit moments where they can be had."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from tiny_training import tiny_recipe
from torch import nn

from xpsr_cli.errors import MissingExtraError, UsageError
from xpsr_cli.training.optimizer import learning_rate, make_optimizer
from xpsr_cli.training.recipe import OptimizerRecipe

BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
STEPS = 50


@pytest.fixture
def recipe() -> OptimizerRecipe:
    return replace(tiny_recipe("mini").optimizer, learning_rate=1.0, warmup_steps=10)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_warm_up_is_done(recipe: OptimizerRecipe, schedule: str) -> None:
    rates = [learning_rate(replace(recipe, schedule=schedule), step, STEPS) for step in range(STEPS)]
    assert rates[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert rates[10] == pytest.approx(1.0)


def test_schedules_after_the_warm_up(recipe: OptimizerRecipe) -> None:
    assert {learning_rate(replace(recipe, schedule="constant"), step, STEPS) for step in range(10, STEPS)} == {1.0}
    cosine = [learning_rate(replace(recipe, schedule="cosine"), step, STEPS) for step in range(10, STEPS + 1)]
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[20] == pytest.approx(0.505)
    assert cosine[-1] == pytest.approx(0.01)


def test_adamw_has_the_recipe_s_numbers(recipe: OptimizerRecipe) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = make_optimizer([parameter], replace(recipe, weight_decay=0.5), torch.device("cpu"))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (1.0, 0.5, (0.9, 0.999), 1e-8)
    assert group["params"] == [parameter]


def test_8_bit_moments_where_they_cannot_be_had(recipe: OptimizerRecipe) -> None:
    recipe, parameters = replace(recipe, name="adamw8bit"), [nn.Parameter(torch.ones(3))]
    if not BITSANDBYTES:
        with pytest.raises(MissingExtraError, match="adamw8bit needs bitsandbytes"):
            make_optimizer(parameters, recipe, torch.device("cpu"))
        return
    with pytest.raises(UsageError, match="no 8-bit AdamW for xpu"):
        make_optimizer(parameters, recipe, torch.device("xpu"))


@pytest.mark.skipif(not BITSANDBYTES, reason="needs bitsandbytes")
def test_8_bit_moments_step_like_whole_ones(recipe: OptimizerRecipe) -> None:
    torch.manual_seed(0)
    start, stepped = torch.randn(64, 128), {}
    for name in ("adamw", "adamw8bit"):
        parameter = nn.Parameter(start.clone())
        optimizer = make_optimizer([parameter], replace(recipe, name=name, learning_rate=1e-2), torch.device("cpu"))
        for _ in range(5):
            parameter.grad = parameter.detach().clone()
            optimizer.step()
        stepped[name] = parameter.detach() - start
    assert (stepped["adamw"] - stepped["adamw8bit"]).abs().mean() < 0.1 * stepped["adamw"].abs().mean()
    moments = {value.dtype for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor)}
    assert torch.uint8 in moments
