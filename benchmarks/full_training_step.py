"""One optimizer step of the recipe xpsr-sd15 at Stable Diffusion 1.5 size: trained parameters, seconds, peak memory.

    python benchmarks/full_training_step.py [--crop 64] [--batch 1] [--recipe xpsr-sd15] [--set section.key=value]

Random weights, random photos of 64 px (8 x 8 latent cells), fp32, on the CPU: what a step takes beside the activations
of larger crops. That is about 19 GB of memory; ``--widths 32 64 128 128`` tries it with narrow networks.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from xpsr_cli.training.bases import build_upon
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.objective import DiffusionObjective
from xpsr_cli.training.optimizer import make_optimizer
from xpsr_cli.training.recipe import Recipe, StableDiffusionRecipe, load_recipe

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


def build(recipe: Recipe, widths: list[int]) -> TrainedNetworks:
    """The architecture of Stable Diffusion 1.5 and of XPSR around it, with small random weights."""
    if not isinstance(recipe.model, StableDiffusionRecipe):
        raise SystemExit(f"{recipe.name} is not on Stable Diffusion")
    with torch.device("meta"):
        stock = UNet2DConditionModel(block_out_channels=tuple(widths), cross_attention_dim=768, attention_head_dim=8)
        unet, controlnet = build_upon(stock, recipe.model)
        text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        networks = TrainedNetworks(CLIPTextModel(text), vae, unet, controlnet)
    networks.to_empty(device="cpu")
    for tensor in (*networks.parameters(), *networks.buffers()):
        if tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.02)
    for module in networks.modules():
        if isinstance(getattr(module, "position_ids", None), torch.Tensor):
            module.position_ids.copy_(torch.arange(module.position_ids.shape[-1]))
    return networks.train()


def peak_gb() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop", type=int, default=64, help="side of the photos in pixels, a multiple of 64")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--recipe", default="xpsr-sd15")
    parser.add_argument("--set", action="append", default=[], help="section.key=value")
    parser.add_argument("--widths", type=int, nargs=4, default=[320, 640, 1280, 1280], help="of the UNet's levels")
    options = parser.parse_args()

    torch.manual_seed(0)
    recipe = load_recipe(options.recipe, [*options.set, "optimizer.mixed_precision=no"])
    networks = build(recipe, options.widths)
    trained = networks.trained()
    print(f"trained: {sum(p.numel() for p in trained.values()):,} parameters in {len(trained)} tensors")
    print(f"all: {sum(p.numel() for p in networks.parameters()):,} parameters; {torch.get_num_threads()} threads")
    print(f"{peak_gb():.2f} GB with the networks", flush=True)

    if recipe.optimizer.gradient_checkpointing:
        networks.checkpoint_gradients()
    objective = DiffusionObjective(networks, SCHEDULER, recipe.loss, recipe.seed)
    optimizer = make_optimizer(trained.values(), recipe.optimizer, torch.device("cpu"))
    shape = (options.batch, 3, options.crop, options.crop)
    batch = {
        "target_pm1": torch.rand(shape) * 2 - 1,
        "enlarged_pm1": torch.rand(shape) * 2 - 1,
        "high": torch.randint(0, 49408, (options.batch, 77)),
        "low": torch.randint(0, 49408, (options.batch, 77)),
        **objective.draw(range(options.batch), options.crop, options.crop),
    }
    started = time.perf_counter()
    losses = objective(batch)
    forward = time.perf_counter()
    losses["total"].backward()
    norm = nn.utils.clip_grad_norm_(trained.values(), recipe.optimizer.max_grad_norm)
    backward = time.perf_counter()
    print(f"{peak_gb():.2f} GB with gradients", flush=True)
    optimizer.step()
    ended = time.perf_counter()
    print(f"loss {losses['total'].item():.4g}, gradient norm {norm.item():.4g}")
    print(f"forward {forward - started:.1f} s, backward {backward - forward:.1f} s, step {ended - backward:.1f} s")
    print(f"peak memory {peak_gb():.2f} GB")


if __name__ == "__main__":
    main()
