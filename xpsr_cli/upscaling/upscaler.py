"""The whole of ``xpsr upscale`` for one photo: photo, prompts, latents, windows, sampler, latents, colour, photo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from xpsr_cli.device import Placement, choose_placement, memory_errors
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.photos.photo import Photo, Pixels
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.sampling.denoiser import Guided, Tiled, XpsrDenoiser, guidance_rows
from xpsr_cli.sampling.latents import make_codec
from xpsr_cli.sampling.noise import CanvasNoise
from xpsr_cli.sampling.prompts import PromptEncoder, encode_prompts
from xpsr_cli.sampling.sampler import sample, start_latents
from xpsr_cli.sampling.schedulers import make_scheduler
from xpsr_cli.sampling.tiles import Window, window_grid
from xpsr_cli.settings import MIN_SIDE_PX, Precision, SamplingPreset, UpscaleSettings
from xpsr_cli.upscaling.canvas import Canvas, make_canvas, resize, to_pixels
from xpsr_cli.upscaling.color import fix_color


@dataclass(frozen=True)
class UpscaleResult:
    """The enlarged photo and how it came about."""

    photo: Photo
    settings: dict[str, Any]  # every setting as it was used, plain values
    seed: int
    windows: int
    seconds: dict[str, float]  # by stage: prompts, encode, sample, decode, finish
    zero_latent: bool = False


@dataclass
class _Stages:
    """Tells the progress which stage runs and keeps how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str, total: int = 1) -> Iterator[None]:
        self.progress.stage(name, total)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)
        if name != "sample":  # which advances by step
            self.progress.advance(total)


class Upscaler:
    """Enlarges photos with one model. Nothing but photo, settings and model has a say in the result."""

    def __init__(self, components: Components, placement: Placement) -> None:
        for network in (components.text_encoder, components.unet, components.controlnet):
            placement.place(network)
        self.components = components
        self.placement = placement
        self.prompts = PromptEncoder(components.tokenizer, components.text_encoder, placement)
        self.codec = make_codec(components.vae, placement)

    @classmethod
    def from_components(
        cls, components: Components, device: str | torch.device = "auto", precision: Precision = Precision.AUTO
    ) -> Upscaler:
        """An upscaler on a device; ``auto`` is the best one there is. The components are moved there."""
        return cls(components, choose_placement(str(device), precision))

    @torch.no_grad()
    def upscale(
        self,
        photo: Photo,
        settings: UpscaleSettings | None = None,
        progress: Progress | None = None,
        *,
        zero_latent: bool = False,
    ) -> UpscaleResult:
        """``photo`` enlarged by ``settings.scale``.

        ``zero_latent`` decodes a latent of zeros instead of the sampled one, which shows what sampling adds; only
        models whose latents are residuals have such a thing.

        Raises:
            PhotoError: the photo is too small.
            UsageError: a setting that this model cannot follow.
            OutOfMemoryError: the device's memory does not suffice.
        """
        settings = settings or UpscaleSettings()
        preset = settings.resolve(self.components.preset)
        self._check(photo, zero_latent)
        stages = _Stages(progress or SilentProgress())

        doing = f"{photo.name} ({photo.width} x {photo.height} pixels) at scale {settings.scale:g}"
        with memory_errors(doing, "Try a smaller --tile-size, --tile-batch 1 or a smaller --scale."):
            canvas = make_canvas(photo, settings.scale, preset.sizing)
            image_01 = canvas.image_01
            windows = self._windows(canvas, preset)
            with stages("prompts"):
                negative, positive = encode_prompts(self.prompts, settings.prompt, settings.low_prompt, preset)
            with stages("encode"):
                mean, deviation = self.codec.encode(image_01)

            latents = torch.zeros_like(mean)
            if not zero_latent:
                scheduler = make_scheduler(preset.scheduler, self.components.scheduler_config, preset.steps)
                noise = CanvasNoise(settings.seed, *mean.shape[1:])
                networks = XpsrDenoiser(
                    self.components.unet,
                    self.components.controlnet,
                    guidance_rows(preset.guidance_scale, negative, positive),
                    image_01,
                    self.placement,
                    conditioning_scale=preset.conditioning_scale,
                )
                denoiser = Tiled(Guided(networks, preset.guidance_scale), windows, at_a_time=settings.tile_batch or 1)
                start = start_latents(preset, scheduler, noise, mean, deviation)
                with stages("sample", preset.steps):
                    latents = sample(denoiser, start, scheduler, noise, progress=stages.progress)

            with stages("decode"):
                decoded_01 = self.codec.decode(latents, image_01)
            with stages("finish"):
                enlarged = self._finish(photo, canvas, decoded_01, preset)

        used = _plain({**asdict(settings), **asdict(preset), "tile_batch": settings.tile_batch or 1})
        return UpscaleResult(enlarged, used, settings.seed, len(windows), stages.seconds, zero_latent)

    def _check(self, photo: Photo, zero_latent: bool) -> None:
        if min(photo.size) < MIN_SIDE_PX:
            raise PhotoError(
                f"{photo.name} is {photo.width} x {photo.height} pixels.", f"Each side takes {MIN_SIDE_PX} at least."
            )
        if zero_latent and not isinstance(self.components.vae, ResidualAutoencoder):
            raise UsageError(
                f"A zero latent means nothing to {self.components.name}: its latents are not residuals.",
                "Use it with a model such as xpsr-mini.",
            )

    def _windows(self, canvas: Canvas, preset: SamplingPreset) -> list[Window]:
        cell = self.codec.factor  # pixels
        height, width = (side // cell for side in canvas.pixels.shape[:2])
        return window_grid(height, width, preset.tile_size // cell, preset.tile_overlap // cell)

    @staticmethod
    def _finish(photo: Photo, canvas: Canvas, decoded_01: Tensor, preset: SamplingPreset) -> Photo:
        """Colours of the input, exactly the size asked for, and everything the photo carries besides its pixels."""
        visible = canvas.visible(decoded_01)
        fixed_01 = fix_color(visible, canvas.visible(canvas.image_01), preset.color_fix)
        pixels = canvas.fit(to_pixels(fixed_01))
        alpha = None if photo.alpha is None else resize(photo.alpha, canvas.size, Image.Resampling.BICUBIC)
        return photo.with_pixels(_grey(pixels) if photo.grey else pixels, alpha)


def _grey(pixels: Pixels) -> Pixels:
    """Three equal channels, their mean, for a photo that held no colour."""
    grey = pixels.mean(axis=2, keepdims=True).round().astype(pixels.dtype)
    return grey.repeat(3, axis=2)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Choices by their words instead of their enum members."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in settings.items()}
