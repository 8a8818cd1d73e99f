"""Our networks against tensors recorded from the official XPSR classes (layout: tests/golden/README.md).

``XPSR_GOLDEN`` names another folder of the same layout; what is checked follows from the files in it. A tensor that
no check here produces is a failure, so nothing recorded can go unnoticed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from xpsr_cli.models.conditional_attention import ConditionalAttention
from xpsr_cli.models.controlnet import ControlOutput, XpsrControlNet
from xpsr_cli.models.degradation_free import DEGRADATION_FREE_WEIGHT, reduced
from xpsr_cli.models.loading import load_controlnet, load_unet
from xpsr_cli.models.published import published_key
from xpsr_cli.models.semantic_fusion import SemanticFusionAttention, tokens
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.objective import DiffusionObjective
from xpsr_cli.training.recipe import LossRecipe

HERE = Path(__file__).parent / "golden"
GOLDEN = Path(os.environ.get("XPSR_GOLDEN", HERE / "xpsr"))
IO_LIMIT = 1e-4  # absolute
TRAIN_LIMIT = 1e-4  # relative to the largest recorded value
IO_INPUTS = {"in.latents", "in.timestep", "in.high", "in.low", "in.image_u8"}
TRAIN_INPUTS = {"in.latents", "in.noise", "in.timesteps", "in.hr_u8", "in.lr_u8", "in.high", "in.low"}


def keys_of(name: str) -> list[str]:
    with safe_open(GOLDEN / name, "pt") as file:
        return list(file.keys())


def control_entries(prefix: str, output: ControlOutput) -> dict[str, Tensor]:
    """A ControlNet's output under the names of io.safetensors."""
    entries = {f"{prefix}.down.{k}": residual for k, residual in enumerate(output.down)}
    entries |= {f"{prefix}.rgb.{k}": image for k, image in enumerate(output.rgb)}
    entries |= {f"{prefix}.latent_pred.{k}": latent for k, latent in enumerate(output.latent[:-1])}
    return entries | {f"{prefix}.mid": output.mid, f"{prefix}.latent_pred.mid": output.latent[-1]}


def watch(
    controlnet: XpsrControlNet, unet: XpsrUNet, seen: dict[str, Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Record what flows between the parts, under the names of io.safetensors."""

    def record(module: torch.nn.Module, name: str, before: str | None = None) -> torch.utils.hooks.RemovableHandle:
        def hook(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output
            if before is not None:
                seen[before] = inputs[0]

        return module.register_forward_hook(hook)

    handles = [
        record(controlnet.time_proj, "cn.time_proj"),
        record(controlnet.time_embedding, "cn.time_emb"),
        record(controlnet.conv_in, "cn.conv_in"),
        record(controlnet.pyramid, "cn.cond_embedding"),
    ]
    for path, module in [*controlnet.named_modules(), *unet.named_modules()]:
        site = path.replace("attentions.", "")
        if isinstance(module, SemanticFusionAttention):
            handles += [
                record(module.high, f"sfa.{site}.high", before=f"sfa.{site}.x"),
                record(module.low, f"sfa.{site}.low"),
                record(module, f"sfa.{site}.out"),
            ]
        if isinstance(module, ConditionalAttention):
            handles.append(record(module.conditional, f"pix.{site}.out", before=f"pix.{site}.x"))
            handles.append(module.conditional.register_forward_pre_hook(context_hook(f"pix.{site}.context", seen)))
    return handles


def context_hook(name: str, seen: dict[str, Tensor]):
    def hook(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[1]

    return hook


def which_residual(context: Tensor, down: tuple[Tensor, ...]) -> Tensor:
    """Number of the ControlNet residual whose tokens are ``context``."""
    same = [k for k, residual in enumerate(down) if torch.equal(tokens(residual), context)]
    assert len(same) == 1
    return torch.tensor(same)


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(GOLDEN / "io.safetensors")


@pytest.fixture(scope="module")
@torch.no_grad()
def forward(io: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything io.safetensors can hold, from our networks."""
    controlnet, unet = load_controlnet(GOLDEN / "controlnet"), load_unet(GOLDEN / "unet")
    image = io["in.image_u8"] / 255
    latents, timestep, high, low = (io[f"in.{name}"] for name in ("latents", "timestep", "high", "low"))

    ours: dict[str, Tensor] = {}
    handles = watch(controlnet, unet, ours)
    control = controlnet(latents, timestep, high, low, image, with_heads=True)
    ours["unet.eps"] = unet(latents, timestep, high, control)
    for handle in handles:
        handle.remove()
    ours |= control_entries("cn", control)
    for name in [name for name in ours if name.endswith(".context")]:
        ours[name.replace(".context", ".kv_index")] = which_residual(ours.pop(name), control.down)

    ours |= control_entries("cn_nolow", controlnet(latents, timestep, high, None, image, with_heads=True))
    guess = controlnet(latents, timestep, high, low, image, with_heads=True, guess_mode=True)
    ours |= control_entries("cn_guess", guess)
    for prefix, scale in {
        m[0]: float(m[1]) for key in io if (m := re.match(r"cn_scale(\d+\.\d+)(?=\.)", key))
    }.items():
        scaled = controlnet(latents, timestep, high, low, image, conditioning_scale=scale, with_heads=True)
        ours |= control_entries(prefix, scaled)
        ours[f"{prefix.replace('cn', 'unet')}.eps"] = unet(latents, timestep, high, scaled)
    for prefix, step in {m[0]: int(m[1]) for key in io if (m := re.match(r"cn_t(\d+)(?=\.)", key))}.items():
        ours |= control_entries(prefix, controlnet(latents, step, high, low, image, with_heads=True))
    return ours


@pytest.mark.parametrize("key", keys_of("io.safetensors"))
def test_forward(key: str, io: dict[str, Tensor], forward: dict[str, Tensor]) -> None:
    if key in IO_INPUTS:
        return
    assert key in forward, f"io.safetensors holds {key}, which nothing here computes"
    assert forward[key].shape == io[key].shape
    torch.testing.assert_close(forward[key], io[key], rtol=0, atol=IO_LIMIT, check_dtype=False)


@pytest.fixture(scope="module")
def train() -> dict[str, Tensor]:
    return load_file(GOLDEN / "train.safetensors")


@pytest.fixture(scope="module")
def training_step(train: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything train.safetensors can hold, from the objective people train with and one backward pass."""
    networks = TrainedNetworks(
        torch.nn.Identity(), AutoencoderKL(), load_unet(GOLDEN / "unet"), load_controlnet(GOLDEN / "controlnet")
    )
    recipe = LossRecipe(
        prediction="epsilon",
        last_timestep_probability=0.0,
        latent_weight=1.0,
        pixel_weight=0.0,
        degradation_pixel_weight=DEGRADATION_FREE_WEIGHT,
        degradation_latent_weight=DEGRADATION_FREE_WEIGHT,
    )
    scheduler = DDPMScheduler.load_config(GOLDEN / "scheduler")
    objective = DiffusionObjective(networks, scheduler, recipe, seed=0)
    seen: dict[str, Tensor] = {}
    networks.unet.register_forward_hook(
        lambda _, inputs, output: seen.update(noisy_latents=inputs[0], model_pred=output)
    )
    batch = {name: train[f"in.{name}"] for name in ("noise", "timesteps")}
    batch["target_pm1"], batch["enlarged_pm1"] = (train[f"in.{name}"] / 255 * 2 - 1 for name in ("hr_u8", "lr_u8"))
    terms = objective.losses(train["in.latents"], train["in.high"], train["in.low"], batch)
    terms["total"].backward()

    degradation = terms["degradation_pixel"] + terms["degradation_latent"]
    ours = {**seen, "loss.mse": terms["noise"], "loss.total": terms["total"]}
    ours["loss.degradation_weighted"] = DEGRADATION_FREE_WEIGHT * degradation
    for name, term in terms.items():
        kind, slash, place = name.removeprefix("degradation_").partition("/")
        if slash:
            ours[f"loss.{kind}.{place}"] = term
    squares = {"controlnet": torch.zeros(()), "unet": torch.zeros(())}
    for path, parameter in networks.trained().items():
        part, _, key = path.partition(".")
        squares[part] += parameter.grad.square().sum()
        ours[f"grad:{part}.{published_key(key, getattr(networks, part).published_names)}"] = parameter.grad
    ours |= {f"grad.{part}_norm": square.sqrt() for part, square in squares.items()}
    ours["grad.total_norm"] = sum(squares.values()).sqrt()
    ours["grad.num_trainable"] = torch.tensor(sum(parameter.numel() for parameter in networks.trained().values()))
    return {key: value.detach() for key, value in ours.items()}


@pytest.mark.parametrize("key", keys_of("train.safetensors"))
def test_training(key: str, train: dict[str, Tensor], training_step: dict[str, Tensor]) -> None:
    if key in TRAIN_INPUTS:
        return
    assert key in training_step, f"train.safetensors holds {key}, which nothing here computes"
    assert training_step[key].shape == train[key].shape
    limit = TRAIN_LIMIT * train[key].abs().max().item()
    torch.testing.assert_close(training_step[key], train[key], rtol=0, atol=limit, check_dtype=False)


def test_every_kind_of_tensor_is_in_the_default_set() -> None:
    """The checks above follow the file; this one follows the network, so that a thin file cannot pass for a full."""
    unet, found = load_unet(GOLDEN / "unet"), set(keys_of("io.safetensors"))
    skips = len(unet.skip_channels)
    expected = {f"cn.down.{k}" for k in range(skips)} | {f"cn.latent_pred.{k}" for k in range(skips)}
    expected |= {"cn.mid", "cn.latent_pred.mid", "unet.eps", "cn_nolow.mid", "cn_guess.mid", "sfa.mid_block.0.out"}
    assert expected <= found


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduction_of_targets(factor: int) -> None:
    misc = load_file(HERE / "misc.safetensors")
    hr, expected = misc["dfc.hr"], misc[f"dfc.down{factor}"]
    torch.testing.assert_close(reduced(hr, expected), expected, rtol=0, atol=1e-6)
