"""The denoising loop as XPSR's script runs it against ours, on one window, in one run: seconds, ratio, difference.

    python benchmarks/released_loop.py [--model xpsr-mini] [--size 512] [--steps 4] [--photos 2]

"released" recomputes at every step what does not change: the image pyramid for both guidance rows and all
degradation-free heads, in one batch of two rows; it encodes all four prompts for every photo. "rows apart" does the
same with one call per row. All variants take turns step by step, so that a busy machine slows them alike.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from xpsr_cli.device import Placement, choose_placement
from xpsr_cli.models.loading import Components, load_components
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.sampling.denoiser import Guided, XpsrDenoiser
from xpsr_cli.sampling.prompts import PromptEncoder, encode_prompts, guidance_rows
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import Precision, SamplingPreset
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_base, find_model

TEXTS = ("a photo of a house", "blurred, light noise")


class ReleasedLoop:
    """A guided prediction with everything evaluated anew, both rows in one batch or one after the other."""

    def __init__(self, components: Components, placement: Placement, scale: float, *, together: bool) -> None:
        self.components = components
        self.placement = placement
        self.scale = scale
        self.together = together

    def step(self, rows: Sequence[PromptPair], image_01: Tensor, latents: Tensor, timestep: int) -> Tensor:
        """Latents (1, c, h, w) to a guided prediction."""
        if self.together:
            negative, positive = self._predict(rows, image_01, latents, timestep).chunk(2)
        else:
            negative, positive = (self._predict([row], image_01, latents, timestep) for row in rows)
        return negative + self.scale * (positive - negative)

    def _predict(self, rows: Sequence[PromptPair], image_01: Tensor, latents: Tensor, timestep: int) -> Tensor:
        put = self.placement.put
        high, low = (put(torch.cat(texts)) for texts in zip(*rows, strict=True))
        sample, image = (put(x.expand(len(rows), -1, -1, -1)) for x in (latents, image_01))
        control = self.components.controlnet(sample, timestep, high, low, image=image, with_heads=True)
        return self.placement.fetch(self.components.unet(sample, timestep, high, control))


def prompts_anew(components: Components, preset: SamplingPreset, placement: Placement) -> Sequence[PromptPair]:
    """Both rows' embeddings with nothing remembered."""
    return encode_prompts(PromptEncoder(components.tokenizer, components.text_encoder, placement), *TEXTS, preset)


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time the block takes."""
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


def _always(texts: PromptPair, _: Window) -> PromptPair:
    return texts


def _crop(image_01: Tensor, window: Window) -> Tensor:
    return window.crop(image_01)


@torch.inference_mode()
def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--size", type=int, default=512, help="side of the window in pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--photos", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", type=Precision, default=Precision.AUTO)
    options = parser.parse_args()

    folder = find_model(options.model)
    components = load_components(folder, stable_diffusion=find_base(folder))
    placement = choose_placement(options.device, options.precision)
    upscaler = Upscaler(components, placement)
    preset, side = components.preset, options.size // upscaler.codec.factor
    scale, window = max(preset.guidance_scale, 1.5), Window(0, 0, side, side)

    loops = {
        "released": ReleasedLoop(components, placement, scale, together=True),
        "rows apart": ReleasedLoop(components, placement, scale, together=False),
    }
    clock, difference = Clock(), 0.0
    for photo in range(options.photos + 1):
        if photo == 1:
            clock = Clock()  # the first photo was the warm-up
        image_01 = torch.rand(1, 3, options.size, options.size)
        with clock("ours"):
            texts = guidance_rows(scale, *encode_prompts(upscaler.prompts, *TEXTS, preset))
            networks = components.unet, components.controlnet
            ours = Guided(XpsrDenoiser(*networks, partial(_always, texts), partial(_crop, image_01), placement), scale)
        for name in loops:
            with clock(name):
                rows = prompts_anew(components, preset, placement)
        for index in range(options.steps):
            latents, timestep = (
                torch.randn(1, upscaler.codec.channels, side, side),
                999 - index * 1000 // options.steps,
            )
            with clock("ours"):
                prediction = ours(latents, timestep, window)
            for name, loop in loops.items():
                with clock(name):
                    other = loop.step(rows, image_01, latents, timestep)
                difference = max(difference, float((prediction - other).abs().max()))

    for name, value in clock.seconds.items():
        print(f"{name:12} {value / options.photos:8.3f} s a photo   {value / clock.seconds['ours']:5.2f} x ours")
    print(f"largest difference of a prediction: {difference:.1e}")
    print(f"{components.name}: {options.size} px window, {options.steps} steps, {placement.device}, {placement.dtype}")


if __name__ == "__main__":
    main()
