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
from diffusers import DDPMScheduler
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from xpsr_cli.models.conditional_attention import ConditionalAttention
from xpsr_cli.models.controlnet import ControlOutput, XpsrControlNet
from xpsr_cli.models.degradation_free import DEGRADATION_FREE_WEIGHT, degradation_free_loss, reduced
from xpsr_cli.models.loading import load_controlnet, load_unet
from xpsr_cli.models.published import published_key
from xpsr_cli.models.semantic_fusion import SemanticFusionAttention, tokens
from xpsr_cli.models.unet import XpsrUNet

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
    """Everything train.safetensors can hold, from our networks and one backward pass."""
    controlnet, unet = load_controlnet(GOLDEN / "controlnet"), load_unet(GOLDEN / "unet")
    unet.requires_grad_(False)
    for module in unet.modules():
        if isinstance(module, ConditionalAttention):
            module.conditional.requires_grad_(True)
    scheduler = DDPMScheduler.from_config(DDPMScheduler.load_config(GOLDEN / "scheduler"))
    latents, noise, timesteps, high, low = (
        train[f"in.{name}"] for name in ("latents", "noise", "timesteps", "high", "low")
    )
    noisy = scheduler.add_noise(latents, noise, timesteps)
    control = controlnet(noisy, timesteps, high, low, train["in.lr_u8"] / 255, with_heads=True)
    prediction = unet(noisy, timesteps, high, control)
    mse = torch.nn.functional.mse_loss(prediction, noise)
    dfc = degradation_free_loss(control, train["in.hr_u8"] / 255 * 2 - 1, latents)
    total = mse + DEGRADATION_FREE_WEIGHT * dfc.total
    total.backward()

    ours = {"noisy_latents": noisy, "model_pred": prediction, "loss.mse": mse, "loss.total": total}
    ours["loss.degradation_weighted"] = DEGRADATION_FREE_WEIGHT * dfc.total
    ours |= {f"loss.pixel.{k}": term for k, term in enumerate(dfc.rgb)}
    ours |= {f"loss.latent.{k}": term for k, term in enumerate(dfc.latent[:-1])}
    ours["loss.latent.mid"] = dfc.latent[-1]
    squares, trained = {}, 0
    for name, network in {"controlnet": controlnet, "unet": unet}.items():
        gradients = {key: p.grad for key, p in network.named_parameters() if p.requires_grad}
        ours |= {f"grad:{name}.{published_key(k, network.published_names)}": g for k, g in gradients.items()}
        squares[name] = sum(gradient.square().sum() for gradient in gradients.values())
        trained += sum(gradient.numel() for gradient in gradients.values())
        ours[f"grad.{name}_norm"] = squares[name].sqrt()
    ours["grad.total_norm"] = sum(squares.values()).sqrt()
    ours["grad.num_trainable"] = torch.tensor(trained)
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
