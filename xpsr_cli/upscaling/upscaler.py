"""The whole of ``xpsr upscale`` for one photo: photo, prompts, latents, windows, sampler, latents, colour, photo.

In mode ``cassr`` another picture of the photo, a reference, is made first, and the networks read both.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from xpsr_cli.device import Fitting, Placement, choose_placement, memory_errors
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.models.tuner_loading import TunerActivator
from xpsr_cli.photos.photo import PhotoInfo, PhotoSource
from xpsr_cli.progress import Progress
from xpsr_cli.sampling.denoiser import Guided, TunedDenoiser, WindowDenoiser, WindowPrompts, XpsrDenoiser
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.latents import Decode, make_codec
from xpsr_cli.sampling.noise import CanvasNoise, NoiseSource
from xpsr_cli.sampling.prompts import PromptEncoder
from xpsr_cli.sampling.sampler import sample, start_latents
from xpsr_cli.sampling.schedulers import Scheduler, make_scheduler
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import CanvasImage, CanvasLatents, Window, window_grid
from xpsr_cli.settings import (
    MIN_SIDE_PX,
    Mode,
    Precision,
    SamplingPreset,
    StartLatent,
    UpscaleSettings,
    output_size,
)
from xpsr_cli.upscaling.activation import (
    STAGE_TOTAL,
    Activator,
    ShortRun,
    chosen_activator,
    make_activator,
    make_reference,
)
from xpsr_cli.upscaling.canvas import Canvas, canvas_size
from xpsr_cli.upscaling.enlargement import Enlargement, decoding_rows
from xpsr_cli.upscaling.modes import first_working_step, reads_reference, working_preset
from xpsr_cli.upscaling.plan import Plan
from xpsr_cli.upscaling.reference_store import ReferenceStore
from xpsr_cli.upscaling.region_prompts import check_regions, window_prompts
from xpsr_cli.upscaling.stages import Stages

Loaded = TypeVar("Loaded")


class Upscaler:
    """Enlarges photos with one model. Nothing but photo, settings and model has a say in the result."""

    def __init__(self, components: Components, placement: Placement, references: ReferenceStore | None = None) -> None:
        """``references`` is where the first stage of mode ``cassr`` keeps what it makes, if it does."""
        for network in (components.text_encoder, components.unet, components.controlnet):
            placement.place(network)
        self.components = components
        self.placement = placement
        self.references = references
        self.tuner: SkipTuner | None = None
        self._loaded: dict[Path, Any] = {}
        self.prompts = PromptEncoder(components.tokenizer, components.text_encoder, placement)
        self.codec = make_codec(components.vae, placement)

    @classmethod
    def from_components(
        cls, components: Components, device: str | torch.device = "auto", precision: Precision = Precision.AUTO
    ) -> Upscaler:
        """An upscaler on a device; ``auto`` is the best one there is. The components are moved there."""
        return cls(components, choose_placement(str(device), precision))

    def steered_by(self, activator: TunerActivator) -> Upscaler:
        """The same with its UNet steered by a skip tuner, in place of the ControlNet."""
        steered = copy.copy(self)
        steered.tuner = self.placement.place(activator.tuner)
        steered.components = replace(
            self.components, weights_files=(*self.components.weights_files, activator.weights_file)
        )
        return steered

    def loaded(self, path: Path, load: Callable[[], Loaded]) -> Loaded:
        """What ``load`` makes of an activator's files, read once however many photos there are."""
        if path not in self._loaded:
            self._loaded[path] = load()
        made: Loaded = self._loaded[path]
        return made

    @property
    def identity(self) -> dict[str, Any]:
        """Model, weights and machine: work begun with one is only taken up with the same."""
        add_on = self.components.reference
        return {
            "model": self.components.name,
            "weights": self.components.fingerprint,
            "device": self.placement.device.type,
            "precision": str(self.placement.dtype),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **({"add_on": add_on.name, "add_on_weights": add_on.fingerprint} if add_on else {}),
        }

    def plan(self, info: PhotoInfo, settings: UpscaleSettings) -> Plan:
        """What enlarging a photo takes; raises as :meth:`upscale` does for photos and settings it refuses."""
        if min(info.size) < MIN_SIDE_PX:
            raise PhotoError(
                f"{info.name} is {info.width} x {info.height} pixels.", f"Each side takes {MIN_SIDE_PX} at least."
            )
        check_regions(info, settings)
        preset, cell = working_preset(self.components, settings), self.codec.factor  # pixels
        size = output_size(info.width, info.height, settings.scale)
        width, height = (side // cell for side in canvas_size(size, preset.sizing))
        windows = window_grid(height, width, preset.tile_size // cell, preset.tile_overlap // cell)
        latent_bytes = 2 * 4 * self.codec.channels * height * width
        in_files = size[0] * size[1] > settings.in_memory_mp * 1e6
        steps = 0 if settings.mode is Mode.ACTIVATOR else preset.steps - first_working_step(settings, preset)
        return Plan(size, (height, width), windows, steps, latent_bytes, in_files)

    def reference_steps(self, settings: UpscaleSettings) -> int:
        """How many times the networks look at a window before the second stage begins; 0 where that is no matter."""
        activator = None if settings.mode is Mode.XPSR else make_activator(self, settings)
        return activator.steps if isinstance(activator, ShortRun) else 0

    @torch.no_grad()
    def seconds_per_window(self, settings: UpscaleSettings) -> float:
        """How long one window takes at one step, measured on a grey one after another that warms up."""
        preset = working_preset(self.components, settings)
        side = preset.tile_size // self.codec.factor
        window, latents = Window(0, 0, side, side), torch.zeros(1, self.codec.channels, side, side)
        prompts = window_prompts(self.prompts, settings, preset)

        def grey(place: Window) -> Tensor:
            return torch.full((1, 3, place.h, place.w), 0.5)

        reference = grey if reads_reference(self.components, settings) else None
        denoise = self.denoiser(grey, prompts, preset, reference=reference)
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
        activator: Activator | None = None,
        zero_latent: bool = False,
    ) -> Enlargement:
        """The photo of ``source`` enlarged by ``settings.scale``: its latents now, its pixels as they are asked for.

        With a ``work_folder``, the latents of a large photo (``settings.in_memory_mp``) lie in files there; called
        again after an interruption, with the same photo, settings and :attr:`identity`, the work goes on where it
        was. An ``activator`` of one's own takes the place of the one that the settings name. ``zero_latent`` decodes a
        latent of zeros instead of the sampled one, which shows what sampling adds; only models whose latents are
        residuals have such a thing.

        Raises:
            PhotoError: the photo is too small or damaged, or the work folder's disk is full.
            UsageError: a setting that this model cannot follow.
            OutOfMemoryError: the device's memory does not suffice, now or when the pixels are made.
        """
        settings = settings or UpscaleSettings()
        preset = working_preset(self.components, settings)
        plan = self.plan(source.info, settings)
        canvas = Canvas(source, settings.scale, preset.sizing)
        rows, stages = decoding_rows(plan.cells, self.codec.factor, self.codec.lowest), Stages(progress)
        if zero_latent:
            decoder = self.codec.decoder(self._zero_latents(), canvas.image, *plan.cells)
        else:
            if activator is None and settings.mode is not Mode.XPSR:
                activator = make_activator(self, settings)
            reference = self._reference(activator, source, canvas, stages, work_folder)
            if settings.mode is Mode.ACTIVATOR:
                assert reference is not None  # none is refused in the settings
                decoder = _at_cells(reference, self.codec.factor)
            else:
                with memory_errors(*_doing(source.info, settings)):
                    latents = self._sampled(canvas, reference, settings, preset, plan, rows, stages, work_folder)
                decoder = self.codec.decoder(latents.read, canvas.image, *plan.cells)

        def decode(window: Window) -> Tensor:
            with memory_errors(*_doing(source.info, settings)):
                return decoder(window)

        used = _plain({**asdict(settings), **asdict(preset)})
        if settings.mode is not Mode.XPSR:
            used["activate"] = str(chosen_activator(self.components, settings))
        del used["captions"]  # who the model is best told by, which is not who wrote these prompts
        return Enlargement(source.info, canvas, plan, decode, rows, stages, used)

    def _sampled(
        self,
        canvas: Canvas,
        reference: CanvasImage | None,
        settings: UpscaleSettings,
        preset: SamplingPreset,
        plan: Plan,
        rows: list[list[Window]],
        stages: Stages,
        work_folder: Path | None,
    ) -> LatentCanvas:
        """The latents of the enlarged photo: prompts, start, and windows through the networks step by step."""
        scheduler = make_scheduler(preset.scheduler, self.components.scheduler_config, preset.steps)
        noise = CanvasNoise(settings.seed, self.codec.channels)
        with stages("prompts", 1):
            cells_per_px = canvas.visible[0] / canvas.photo.width / self.codec.factor
            prompts = window_prompts(self.prompts, settings, preset, cells_per_px)
            read = reference if reads_reference(self.components, settings) else None
            denoiser = self.denoiser(canvas.image, prompts, preset, reference=read)
            stages.progress.advance()
        folder, first = work_folder if plan.in_files else None, preset.steps - plan.steps
        latents = LatentCanvas(self.codec.channels, *plan.cells, folder, first)
        if not latents.begun:
            self._start(latents, canvas, reference, rows, preset, scheduler, noise, stages)
        with stages("sample", plan.work):
            stages.progress.skip(_done(latents, plan))
            at_a_time = settings.tile_batch or Fitting(self.placement.device)
            tiled = Tiled(denoiser, plan.windows, at_a_time=at_a_time, progress=stages.progress)
            sample(tiled, latents, scheduler, noise)
        return latents

    def denoiser(
        self,
        image: CanvasImage,
        prompts: WindowPrompts,
        preset: SamplingPreset,
        *,
        reference: CanvasImage | None = None,
    ) -> WindowDenoiser:
        """The networks with prompts and guidance: what a window of latents goes through at every step."""
        if self.tuner is not None:
            tuned = TunedDenoiser(self.components.unet, self.tuner, prompts, image, self.placement)
            return Guided(tuned, preset.guidance_scale)
        networks = XpsrDenoiser(
            self.components.unet,
            self.components.controlnet,
            prompts,
            image,
            self.placement,
            conditioning_scale=preset.conditioning_scale,
            once=preset.steps == 1,
            reference=reference,
        )
        return Guided(networks, preset.guidance_scale)

    def _reference(
        self,
        activator: Activator | None,
        source: PhotoSource,
        canvas: Canvas,
        stages: Stages,
        work_folder: Path | None,
    ) -> CanvasImage | None:
        """What the mode's first stage makes of the photo, on its canvas."""
        if activator is None:
            return None
        with stages("reference", STAGE_TOTAL):
            made = make_reference(activator, source, canvas.scale, self.references, stages.progress, work_folder)
        return canvas.seen(made)

    def _start(
        self,
        latents: LatentCanvas,
        canvas: Canvas,
        reference: CanvasImage | None,
        rows: list[list[Window]],
        preset: SamplingPreset,
        scheduler: Scheduler,
        noise: NoiseSource,
        stages: Stages,
    ) -> None:
        """Write what sampling starts from, a row of blocks at a time."""
        _, height, width = latents.shape
        with stages("encode", len(rows)):
            seen = reference if preset.start is StartLatent.REFERENCE else None
            encode = self.codec.encoder(canvas.image, height, width, reference=seen)
            for row in rows:
                blocks = []
                for block in row:
                    mean, deviation = (None, None) if preset.start is StartLatent.NOISE else encode(block)
                    blocks.append(start_latents(preset, scheduler, noise, block, mean, deviation, latents.first))
                latents.write(Window(row[0].y, 0, row[0].h, width), torch.cat(blocks, dim=3))
                stages.progress.advance()
            latents.turn()

    def _zero_latents(self) -> CanvasLatents:
        if not self.codec.residual:
            raise UsageError(
                f"A zero latent means nothing to {self.components.name}: its latents are not residuals.",
                "Use it with a model such as xpsr-mini.",
            )
        return lambda window: torch.zeros(1, self.codec.channels, window.h, window.w)


def _doing(info: PhotoInfo, settings: UpscaleSettings) -> tuple[str, str]:
    """What is being done, and what may help, when the memory does not suffice."""
    return (
        f"{info.name} ({info.width} x {info.height} pixels) at scale {settings.scale:g}",
        "Try a smaller --tile-size, --tile-batch 1 or a smaller --scale.",
    )


def _done(latents: LatentCanvas, plan: Plan) -> int:
    """Windows that an interrupted run has evaluated already."""
    rows = len({window.y for window in plan.windows})
    return len(plan.windows) * (latents.step - latents.first) + len(plan.windows) // rows * latents.band


def _at_cells(image: CanvasImage, factor: int) -> Decode:
    """A picture of the canvas by windows of latent cells."""
    return lambda window: image(window.scaled(factor))


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Choices by their words instead of their enum members."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in settings.items()}
