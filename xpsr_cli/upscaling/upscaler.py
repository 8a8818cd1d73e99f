"""The whole of ``xpsr upscale`` for one photo: photo, prompts, latents, windows, sampler, latents, colour, photo."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xpsr_cli.device import Fitting, Placement, choose_placement, memory_errors
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.photos.photo import PhotoInfo, PhotoSource
from xpsr_cli.progress import Progress
from xpsr_cli.sampling.denoiser import Guided, WindowDenoiser, WindowPrompts, XpsrDenoiser
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.latents import make_codec
from xpsr_cli.sampling.noise import CanvasNoise, NoiseSource
from xpsr_cli.sampling.prompts import NearestPrompts, PromptEncoder, encode_prompts, guidance_rows
from xpsr_cli.sampling.sampler import sample, start_latents
from xpsr_cli.sampling.schedulers import Scheduler, make_scheduler
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import CanvasImage, Window, window_grid
from xpsr_cli.settings import MIN_SIDE_PX, Precision, SamplingPreset, StartLatent, UpscaleSettings, output_size
from xpsr_cli.upscaling.canvas import Canvas, canvas_size
from xpsr_cli.upscaling.enlargement import Enlargement, decoding_rows
from xpsr_cli.upscaling.plan import Plan
from xpsr_cli.upscaling.stages import Stages


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

    @property
    def identity(self) -> dict[str, Any]:
        """Model, weights and machine: work begun with one is only taken up with the same."""
        return {
            "model": self.components.name,
            "weights": self.components.fingerprint,
            "device": self.placement.device.type,
            "precision": str(self.placement.dtype),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }

    def plan(self, info: PhotoInfo, settings: UpscaleSettings) -> Plan:
        """What enlarging a photo takes; raises as :meth:`upscale` does for photos and settings it refuses."""
        if min(info.size) < MIN_SIDE_PX:
            raise PhotoError(
                f"{info.name} is {info.width} x {info.height} pixels.", f"Each side takes {MIN_SIDE_PX} at least."
            )
        _check_regions(info, settings)
        preset, cell = settings.resolve(self.components.preset), self.codec.factor  # pixels
        size = output_size(info.width, info.height, settings.scale)
        width, height = (side // cell for side in canvas_size(size, preset.sizing))
        windows = window_grid(height, width, preset.tile_size // cell, preset.tile_overlap // cell)
        latent_bytes = 2 * 4 * self.codec.channels * height * width
        in_files = size[0] * size[1] > settings.in_memory_mp * 1e6
        return Plan(size, (height, width), windows, preset.steps, latent_bytes, in_files)

    @torch.no_grad()
    def seconds_per_window(self, settings: UpscaleSettings) -> float:
        """How long one window takes at one step, measured on a grey one after another that warms up."""
        preset = settings.resolve(self.components.preset)
        side = preset.tile_size // self.codec.factor
        window, latents = Window(0, 0, side, side), torch.zeros(1, self.codec.channels, side, side)
        prompts = self.window_prompts(settings, preset)
        denoise = self.denoiser(lambda place: torch.full((1, 3, place.h, place.w), 0.5), prompts, preset)
        for _ in range(2):
            started = time.perf_counter()
            denoise(latents, 999, window)
        return time.perf_counter() - started

    @torch.no_grad()
    def upscale(
        self,
        source: PhotoSource,
        settings: UpscaleSettings | None = None,
        progress: Progress | None = None,
        *,
        work_folder: Path | None = None,
        zero_latent: bool = False,
    ) -> Enlargement:
        """The photo of ``source`` enlarged by ``settings.scale``: its latents now, its pixels as they are asked for.

        With a ``work_folder``, the latents of a large photo (``settings.in_memory_mp``) lie in files there; called
        again after an interruption, with the same photo, settings and :attr:`identity`, the work goes on where it
        was. ``zero_latent`` decodes a latent of zeros instead of the sampled one, which shows what sampling adds; only
        models whose latents are residuals have such a thing.

        Raises:
            PhotoError: the photo is too small or damaged, or the work folder's disk is full.
            UsageError: a setting that this model cannot follow.
            OutOfMemoryError: the device's memory does not suffice, now or when the pixels are made.
        """
        settings = settings or UpscaleSettings()
        preset = settings.resolve(self.components.preset)
        plan = self.plan(source.info, settings)
        canvas = Canvas(source, settings.scale, preset.sizing)
        rows, stages = decoding_rows(plan.cells, self.codec.factor, self.codec.lowest), Stages(progress)
        folder = work_folder if plan.in_files and not zero_latent else None
        latents = LatentCanvas(self.codec.channels, *plan.cells, folder)
        if zero_latent:
            self._check_zero_latent()
        else:
            scheduler = make_scheduler(preset.scheduler, self.components.scheduler_config, preset.steps)
            noise = CanvasNoise(settings.seed, self.codec.channels)
            with memory_errors(*_doing(source.info, settings)):
                with stages("prompts", 1):
                    cells_per_px = canvas.visible[0] / source.info.width / self.codec.factor
                    prompts = self.window_prompts(settings, preset, cells_per_px)
                    denoiser = self.denoiser(canvas.image, prompts, preset)
                    stages.progress.advance()
                if latents.step < 0:
                    self._start(latents, canvas, rows, preset, scheduler, noise, stages)
                with stages("sample", plan.work):
                    stages.progress.skip(_done(latents, plan))
                    tiled = Tiled(
                        denoiser,
                        plan.windows,
                        at_a_time=settings.tile_batch or Fitting(self.placement.device),
                        progress=stages.progress,
                    )
                    sample(tiled, latents, scheduler, noise)
        decoder = self.codec.decoder(latents.read, canvas.image, *plan.cells)

        def decode(window: Window) -> Tensor:
            with memory_errors(*_doing(source.info, settings)):
                return decoder(window)

        used = _plain({**asdict(settings), **asdict(preset)})
        del used["captions"]  # who the model is best told by, which is not who wrote these prompts
        return Enlargement(source.info, canvas, plan, decode, rows, stages, used)

    def window_prompts(
        self, settings: UpscaleSettings, preset: SamplingPreset, cells_per_px: float = 1.0
    ) -> WindowPrompts:
        """The prompts of every window, encoded once per text. With region prompts a window takes the nearest one's.

        ``cells_per_px`` are the latent cells that a pixel of the photo takes.
        """

        def rows(prompt: str) -> PromptPair:
            pairs = encode_prompts(self.prompts, prompt, settings.low_prompt, preset)
            return guidance_rows(preset.guidance_scale, *pairs)

        if not settings.region_prompts:
            everywhere = rows(settings.prompt)
            return lambda _: everywhere
        by_text = {region.prompt: rows(region.prompt) for region in settings.region_prompts}
        centres = [
            ((region.top + region.height / 2) * cells_per_px, (region.left + region.width / 2) * cells_per_px)
            for region in settings.region_prompts
        ]
        return NearestPrompts([by_text[region.prompt] for region in settings.region_prompts], centres)

    def denoiser(self, image: CanvasImage, prompts: WindowPrompts, preset: SamplingPreset) -> WindowDenoiser:
        """The networks with prompts and guidance: what a window of latents goes through at every step."""
        networks = XpsrDenoiser(
            self.components.unet,
            self.components.controlnet,
            prompts,
            image,
            self.placement,
            conditioning_scale=preset.conditioning_scale,
            once=preset.steps == 1,
        )
        return Guided(networks, preset.guidance_scale)

    def _start(
        self,
        latents: LatentCanvas,
        canvas: Canvas,
        rows: list[list[Window]],
        preset: SamplingPreset,
        scheduler: Scheduler,
        noise: NoiseSource,
        stages: Stages,
    ) -> None:
        """Write what sampling starts from, a row of blocks at a time."""
        _, height, width = latents.shape
        with stages("encode", len(rows)):
            encode = None if preset.start is StartLatent.NOISE else self.codec.encoder(canvas.image, height, width)
            for row in rows:
                blocks = [
                    start_latents(preset, scheduler, noise, block, *(encode(block) if encode else (None, None)))
                    for block in row
                ]
                latents.write(Window(row[0].y, 0, row[0].h, width), torch.cat(blocks, dim=3))
                stages.progress.advance()
            latents.turn()

    def _check_zero_latent(self) -> None:
        if not self.codec.residual:
            raise UsageError(
                f"A zero latent means nothing to {self.components.name}: its latents are not residuals.",
                "Use it with a model such as xpsr-mini.",
            )


def _check_regions(info: PhotoInfo, settings: UpscaleSettings) -> None:
    """:class:`PhotoError` for a prompt of a place that the photo does not have: its caption may be another photo's."""
    for region in settings.region_prompts:
        if region.left + region.width > info.width or region.top + region.height > info.height:
            place = f"{region.width} x {region.height} pixels at {region.left}, {region.top}"
            raise PhotoError(
                f"The caption of {info.name} speaks of {place}, and the photo is {info.width} x {info.height} pixels.",
                "Correct its regions, or describe the photo anew.",
            )


def _doing(info: PhotoInfo, settings: UpscaleSettings) -> tuple[str, str]:
    """What is being done, and what may help, when the memory does not suffice."""
    return (
        f"{info.name} ({info.width} x {info.height} pixels) at scale {settings.scale:g}",
        "Try a smaller --tile-size, --tile-batch 1 or a smaller --scale.",
    )


def _done(latents: LatentCanvas, plan: Plan) -> int:
    """Windows that an interrupted run has evaluated already."""
    rows = len({window.y for window in plan.windows})
    return len(plan.windows) * latents.step + len(plan.windows) // rows * latents.band


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Choices by their words instead of their enum members."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in settings.items()}
