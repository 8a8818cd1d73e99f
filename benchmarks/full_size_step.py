"""One denoising step at Stable Diffusion 1.5 size: parameters, seconds and peak memory, with random weights.

    python benchmarks/full_size_step.py [--latent 64] [--batch 2] [--repeat 2]

Needs about 8 GB of memory: the published architecture in fp32, one 512 px window, both rows of guidance.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.encoder import LatentEncoder
from xpsr_cli.models.unet import XpsrUNet


def random_network(cls: type[LatentEncoder]) -> LatentEncoder:
    """The default, published architecture with small random weights, made without diffusers' slow initialisation."""
    with torch.device("meta"):
        network = cls()
    network.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.02)
    return network


def peak_gb() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latent", type=int, default=64, help="side of the window in latent cells")
    parser.add_argument("--batch", type=int, default=2, help="rows per call; guidance takes two")
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()

    torch.manual_seed(0)
    controlnet, unet = random_network(XpsrControlNet), random_network(XpsrUNet)
    for name, network in {"ControlNet": controlnet, "UNet": unet}.items():
        network.to(memory_format=torch.channels_last)
        print(f"{name}: {network.num_parameters():,} parameters")
    print(f"{torch.get_num_threads()} threads, {peak_gb():.2f} GB before the first step")

    latents = torch.randn(options.batch, 4, options.latent, options.latent)
    high, low = torch.randn(2, options.batch, 77, 768)
    with torch.inference_mode():
        started = time.perf_counter()
        features = controlnet.encode_image(torch.rand(options.batch, 3, 8 * options.latent, 8 * options.latent))
        print(f"image pyramid, once per window: {time.perf_counter() - started:.2f} s")
        for run in range(options.repeat):
            started = time.perf_counter()
            control = controlnet(latents, 951, high, low, image_features=features)
            between = time.perf_counter()
            prediction = unet(latents, 951, high, control)
            ended = time.perf_counter()
            print(f"step {run + 1}: ControlNet {between - started:.1f} s, UNet {ended - between:.1f} s", flush=True)
    print(f"finite: {bool(prediction.isfinite().all())}, peak memory {peak_gb():.2f} GB")


if __name__ == "__main__":
    main()
