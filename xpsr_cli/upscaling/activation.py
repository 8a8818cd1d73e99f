"""The first stage of mode ``cassr``: an activator makes a reference, which the model then reads beside the photo.

After CasSR (Chen et al. 2024), of which only the abstract is public: to improve the picture that conditions a model is
easier than to describe it. Who makes it is a name, ``--activate NAME``.
"""

# shapes: H W pixels of the result, h rows of a band

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from xpsr_cli import __version__
from xpsr_cli.activator_names import BICUBIC, DFC, SCEDIT, SPANDREL, XPSR, ActivatorName
from xpsr_cli.device import Placement, memory_errors
from xpsr_cli.errors import UsageError
from xpsr_cli.models.degradation_free import clean_photo
from xpsr_cli.models.loading import Components
from xpsr_cli.models.reference_loading import ACTIVATOR
from xpsr_cli.models.tuner_loading import TunerActivator, load_tuner
from xpsr_cli.photos.photo import Floats, PhotoSource
from xpsr_cli.progress import Progress
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import ColorFix, Mode, SchedulerName, Sizing, UpscaleSettings, output_size
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.enlargement import ColorMatched
from xpsr_cli.upscaling.records import digest
from xpsr_cli.upscaling.reference_store import (
    Reference,
    ReferenceStore,
    content_digest,
    keep_reference,
    open_reference,
)
from xpsr_cli.upscaling.resample import PART_PX, Picture

if TYPE_CHECKING:
    from xpsr_cli.upscaling.upscaler import Upscaler

USUAL_STEPS = 4
"""Steps of a short run with a model that has no add-on to say how many."""
BAND_PX = 256
"""Rows of a reference that are made at a time."""
STAGE_TOTAL = 100
"""Advances of the stage ``reference``, whoever makes it."""
_SAMPLING_SHARE = 0.8
_HEAD_REACH_PX = 64
"""At least as far as the finest pixel head sees, in whole cells; two residual-in-residual blocks are its 40."""


class Activator(Protocol):
    """Makes references: deterministic, at the size of the result, in bands, whatever the size of the photo."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides what it makes, besides the photo and the scale: JSON-like values, ``name`` among them."""

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None
    ) -> Iterator[Floats]:
        """The reference of a photo, (h, W, 3) float32 in [0, 1] from top to bottom, its colours those of the photo.

        W and the sum of the h are :func:`~xpsr_cli.settings.output_size` of the photo. ``progress`` is told of
        advances alone, whose number nobody knows beforehand. What an interruption may find again lies in
        ``work_folder``.
        """


def chosen_activator(components: Components, settings: UpscaleSettings) -> ActivatorName:
    """Who makes the references: whom the settings name, else whom the add-on was trained with, else ``xpsr``."""
    add_on = components.reference
    return ActivatorName.parse(settings.activate or (add_on.activator if add_on else XPSR))


def make_activator(upscaler: Upscaler, settings: UpscaleSettings) -> Activator | None:
    """The activator that the settings ask for; ``None`` for ``none``.

    Raises:
        UsageError: an unknown name, or what this model cannot do.
        WeightsError: weights that are not there, damaged, or another model's.
        MissingExtraError: spandrel is not installed.
    """
    name = chosen_activator(upscaler.components, settings)
    if name.word == BICUBIC:
        return Enlarged()
    if name.word == DFC:
        return PixelHead(upscaler.components, upscaler.placement)
    if name.word == XPSR:
        return ShortRun(upscaler, settings, _usual_steps(upscaler.components))
    if name.word == SCEDIT:
        folder = name.path or _tuner_folder(upscaler.components)
        tuner, steered = upscaler.loaded(folder, lambda: _steered(upscaler, folder))
        return ShortRun(steered, settings, tuner.steps)
    if name.word == SPANDREL and name.path is not None:
        from xpsr_cli.upscaling.restorers import load_restorer  # needs an extra

        file = name.path
        return upscaler.loaded(file, lambda: load_restorer(file, upscaler.placement))
    return None


def _usual_steps(components: Components) -> int:
    return components.reference.steps if components.reference else min(USUAL_STEPS, components.preset.steps)


def _steered(upscaler: Upscaler, folder: Path) -> tuple[TunerActivator, Upscaler]:
    tuner = load_tuner(folder, upscaler.components)
    return tuner, upscaler.steered_by(tuner)


def _tuner_folder(components: Components) -> Path:
    """Where the add-on keeps the activator that it brings."""
    folder = components.reference.folder / ACTIVATOR if components.reference else None
    if folder is None or not folder.is_dir():
        raise UsageError(f"{components.name} has no skip tuner of its own.", "Name its folder: scedit:FOLDER.")
    return folder


class Enlarged:
    """No activation: the photo itself, enlarged."""

    identity: Mapping[str, Any] = {"name": BICUBIC}

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None
    ) -> Iterator[Floats]:
        """See :meth:`Activator.bands`."""
        canvas = Canvas(source, scale, Sizing.PAD)
        width, height = canvas.size
        for top in range(0, height, BAND_PX):
            yield _pixels(canvas.enlarged(top, min(BAND_PX, height - top)))


class PixelHead:
    """What the ControlNet's finest pixel head makes of a photo: the degradation-free constraint has trained it."""

    def __init__(self, components: Components, placement: Placement) -> None:
        """:class:`UsageError` for a model whose ControlNet has no such heads."""
        if not components.controlnet.config.return_rgbs:
            raise UsageError(f"Activator dfc asks pixel heads, and {components.name} has none.", "Use xpsr.")
        self._controlnet = components.controlnet
        self._placement = placement
        self.identity: Mapping[str, Any] = {
            "name": DFC,
            "weights": components.fingerprint,
            "device": placement.device.type,
            "precision": str(placement.dtype),
        }

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None
    ) -> Iterator[Floats]:
        """See :meth:`Activator.bands`."""
        canvas = Canvas(source, scale, Sizing.PAD)
        matched = ColorMatched(_Cleaned(canvas, self._clean), ColorFix.WAVELET_CHROMA)
        with memory_errors(source.info.name, "Try a smaller --scale."):
            yield from _bands_of(matched)

    @torch.no_grad()
    def _clean(self, image: Tensor) -> Tensor:
        return self._placement.fetch(clean_photo(self._controlnet, self._placement.put(image)))


class ShortRun:
    """A few steps of the model itself, or of its UNet that a skip tuner steers, without guidance."""

    def __init__(self, upscaler: Upscaler, settings: UpscaleSettings, steps: int) -> None:
        self.steps = steps
        self._upscaler = upscaler
        self._settings = replace(
            settings,
            mode=Mode.XPSR,
            activate=None,
            start=None,
            strength=None,
            steps=steps,
            guidance_scale=1.0,
            scheduler=SchedulerName.DDIM,
            color_fix=None,
            fidelity=0.0,
            verify=False,
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :attr:`Activator.identity`: all settings of the run, and the model."""
        settings = replace(self._settings, tile_batch=None, in_memory_mp=0.0)  # which change no byte
        return {"name": XPSR, **self._upscaler.identity, **asdict(settings)}

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None
    ) -> Iterator[Floats]:
        """See :meth:`Activator.bands`."""
        settings = replace(self._settings, scale=scale)
        made = self._upscaler.upscale(source, settings, progress, work_folder=work_folder)
        for region in made.bands():
            yield region.colour


class _Cleaned:
    """An enlarged photo as a network sees it less degraded, window by window."""

    def __init__(self, canvas: Canvas, clean: Callable[[Tensor], Tensor]) -> None:
        self.width, self.height = canvas.size
        self._canvas = canvas
        self._clean = clean

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        cell = _HEAD_REACH_PX
        y, x = top // cell * cell, left // cell * cell
        inner = Window(y, x, -(-(top + height - y) // cell) * cell, -(-(left + width - x) // cell) * cell)
        outer = inner.grown(cell, self._canvas.height, self._canvas.width)
        cleaned = self._clean(self._canvas.image(outer))
        return Window(top, left, height, width).within(outer).crop(cleaned)[0]

    def reference(self, top: int, left: int, height: int, width: int) -> Tensor:
        """The same window of the enlarged input, (3, height, width)."""
        return self._canvas.image(Window(top, left, height, width))[0]


def _bands_of(picture: Picture) -> Iterator[Floats]:
    """A picture that is read from top to bottom, in bands, a part of the columns at a time."""
    for top in range(0, picture.height, BAND_PX):
        rows = min(BAND_PX, picture.height - top)
        lefts = range(0, picture.width, PART_PX)
        parts = [picture.read(top, left, rows, min(PART_PX, picture.width - left)) for left in lefts]
        yield _pixels(torch.cat(parts, dim=2).clamp(0, 1))


def _pixels(picture: Tensor) -> Floats:
    pixels: Floats = picture.permute(1, 2, 0).contiguous().numpy()
    return pixels


def make_reference(
    activator: Activator,
    source: PhotoSource,
    scale: float,
    store: ReferenceStore | None,
    progress: Progress,
    work_folder: Path | None,
) -> Reference:
    """The reference of a photo from the ``store``, or made and kept there, else in ``work_folder`` or in memory.

    ``progress`` is told of :data:`STAGE_TOTAL` advances. Raises what making it raises, and
    :class:`~xpsr_cli.errors.PhotoError` where the disk refuses it.
    """
    size = output_size(*source.info.size, scale)
    machine = [torch.__version__, torch.get_num_threads()]  # what sums in another order rounds otherwise
    key = digest([content_digest(source), scale, dict(activator.identity), machine, __version__])
    share = _Share(progress)
    found = store.find(key, size) if store else None
    place = store.place(key, size) if store and found is None else None
    path = place
    if found is None and place is None and work_folder is not None:
        path = work_folder / f"reference-{key[:16]}.rgb"
        found = open_reference(path, size)
    if found is None:
        run_folder = work_folder / "reference" if work_folder else None
        bands = activator.bands(source, scale, share, run_folder)
        found = keep_reference(share.of_rows(bands, size[1]), size, path)
        if run_folder is not None:
            shutil.rmtree(run_folder, ignore_errors=True)
        if store and place:
            store.tidy(place)
    share.finish()
    return found


class _Share:
    """The progress of a first stage as one stage of :data:`STAGE_TOTAL` advances: a network's steps, then the rows."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._sampling = self._done = 0.0
        self._unit, self._told = 0.0, 0

    def stage(self, name: str, total: int) -> None:
        """See :class:`xpsr_cli.progress.Progress`: only sampling counts."""
        self._unit = 0.0
        if name == "sample":
            self._sampling = _SAMPLING_SHARE * STAGE_TOTAL
            self._unit = self._sampling / max(total, 1)

    def advance(self, count: int = 1) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self._tell(self._done + self._unit * count)

    def skip(self, count: int) -> None:
        """See :class:`xpsr_cli.progress.Progress`."""
        self.advance(count)

    def of_rows(self, bands: Iterator[Floats], height: int) -> Iterator[Floats]:
        """The bands, each told when it is there."""
        rows = 0
        for band in bands:
            rows += band.shape[0]
            yield band
            self._tell(self._sampling + (STAGE_TOTAL - self._sampling) * rows / height)

    def finish(self) -> None:
        """All of it is there."""
        self._tell(STAGE_TOTAL)

    def _tell(self, done: float) -> None:
        self._done = done
        if int(done) > self._told:
            self._progress.advance(int(done) - self._told)
            self._told = int(done)
