"""What is in training makes of held-out photos: measured, and side by side with what it is compared with.

For a model this runs the user's own :class:`~xpsr_cli.upscaling.upscaler.Upscaler`, the only part of training that
does, so that what it shows is what ``xpsr upscale`` would give with the model folder of that step. Add-ons and
activators are looked at in short runs, see :mod:`xpsr_cli.training.looks`.
"""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xpsr_cli.device import memory_errors
from xpsr_cli.errors import XpsrError
from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.training.held_out import HeldOut
from xpsr_cli.training.listeners import MetricsFile, TensorBoard
from xpsr_cli.training.loop import Listener
from xpsr_cli.training.preview import Row, draw_sheet, save_picture
from xpsr_cli.training.recipe import Recipe, ReferenceRecipe, TunerRecipe

log = logging.getLogger(__name__)

_WORDS = {"psnr": "PSNR {:.2f}", "ssim": "SSIM {:.3f}", "gmsd": "GMSD {:.3f}", "sharpness": "sharpness {:.2f}"}
OURS = "ours"
COMPARED = {
    "bicubic": "bicubic",
    "reference": "the reference",
    "plain": "the base alone",
    "wrong": "with another picture's reference",
    "oracle": "with the original as reference",
}
"""What is trained is compared with these: their names in ``metrics.jsonl``, and what people read."""
_MEASURED_ONLY = ("wrong", "oracle")  # and not on the sheet

Looks = Mapping[str, Sequence[np.ndarray]]
"""Held-out photos in their order and at their size, as made by what is trained (:data:`OURS`) and by some of
:data:`COMPARED`; on a sheet they stand in this order."""
Look = Callable[[Path], Looks]
"""Makes them with the folder that people would use at this step."""


class Validation(Listener):
    """Writes ``validation/step-000500.png`` and a line of means in ``metrics.jsonl`` whenever a run asks for it.

    Args:
        photos: what is shown and measured, see :func:`~xpsr_cli.training.held_out.hold_out`.
        look: what becomes of ``photos``.
        folder: receives the sheets.
        metrics: receives the means of PSNR, SSIM, GMSD and sharpness and, each under its name, those of what is
            compared, the plain enlargement (bicubic) at least.
        ours: what people read for :data:`OURS`.
        board: hears of the means too.
    """

    def __init__(
        self,
        photos: Sequence[HeldOut],
        look: Look,
        folder: Path,
        metrics: MetricsFile,
        *,
        ours: str = "this model",
        board: TensorBoard | None = None,
    ) -> None:
        self.photos = photos
        self.folder = folder
        self._look = look
        self._metrics = metrics
        self._titles = {OURS: ours, **COMPARED}
        self._board = board

    def validate(self, step: int, model_folder: Path) -> None:
        """A failure here, such as memory that does not suffice for two models, is told and costs no training."""
        try:
            with torch.random.fork_rng():  # the run's own random numbers go on as if nobody had looked
                looks = self._look(model_folder)
            looks = {"bicubic": [photo.enlarged for photo in self.photos], **looks}
            scores = {who: self._measured(pictures) for who, pictures in looks.items()}
            save_picture(self._sheet(looks, scores), self.folder / f"step-{step:06d}.png")
        except XpsrError as error:
            log.warning("step %d is not validated: %s", step, error.message)
            return
        means = {who: _means(measured) for who, measured in scores.items()}
        others = {who: theirs for who, theirs in means.items() if who != OURS}
        self._metrics.write(step, {"validation": {**means[OURS], **others}})
        if self._board is not None:
            for who, values in means.items():
                group = "validation" if who == OURS else f"validation {who}"
                self._board.write(step, {f"{group}/{name}": value for name, value in values.items()})
        told = [f"{self._titles[who]} {told_measures(theirs)}" for who, theirs in others.items()]
        log.info("held-out photos at step %d: %s", step, "; ".join([told_measures(means[OURS]), *told]))

    def _measured(self, pictures: Sequence[np.ndarray]) -> list[dict[str, float]]:
        return [measure(picture, photo.large) for picture, photo in zip(pictures, self.photos, strict=True)]

    def _sheet(self, looks: Looks, scores: Mapping[str, Sequence[dict[str, float]]]) -> Image.Image:
        shown = [who for who in looks if who not in _MEASURED_ONLY]
        rows = []
        for place, photo in enumerate(self.photos):
            words = [
                photo.name,
                *(f"{self._titles[who]}: {told_measures(scores[who][place])}" for who in looks),
                f"content: {photo.high or '-'}",
                f"quality: {photo.low or '-'}",
            ]
            rows.append(Row([*(looks[who][place] for who in shown), photo.large], words))
        titles = [f"small, {COMPARED['bicubic']}", *(self._titles[who] for who in shown[1:]), "original"]
        return draw_sheet(rows, titles=titles)


def title_of(recipe: Recipe) -> str:
    """What people read for :data:`OURS` of this recipe."""
    if isinstance(recipe.model, ReferenceRecipe):
        return "with the reference"
    return "the tuner's picture" if isinstance(recipe.model, TunerRecipe) else "this model"


def look_at_model(photos: Sequence[HeldOut], device: str = "auto") -> Look:
    """What becomes of ``photos`` with a whole model, on a torch device or ``auto``: see :func:`enlarge`."""
    return lambda model_folder: {OURS: enlarge(photos, model_folder, device)}


def enlarge(photos: Sequence[HeldOut], model_folder: Path, device: str = "auto") -> list[np.ndarray]:
    """The small photos through the model as people run it, with its own preset and the true words."""
    from xpsr_cli.upscaling.upscaler import Upscaler

    with memory_errors("a second model beside the one in training", "Set output.validate_steps=0."):
        upscaler = Upscaler.from_components(load_components(model_folder), device)
        settings = [UpscaleSettings(scale=photo.scale, prompt=photo.high, low_prompt=photo.low) for photo in photos]
        return [
            upscaler.upscale(Photo(pixels=photo.small), setting).photo().pixels
            for photo, setting in zip(photos, settings, strict=True)
        ]


def measure(result: np.ndarray, original: np.ndarray) -> dict[str, float]:
    """PSNR, SSIM, GMSD of luma and sharpness (RMS gradient over that of the original)."""
    from xpsr_cli.evaluation.metrics import METRICS

    values = {name: metric(result, original) for name, metric in METRICS.items()}
    return {"sharpness" if name == "gradient_ratio" else name: float(value) for name, value in values.items()}


def told_measures(scores: Mapping[str, Any]) -> str:
    """``PSNR 24.13, SSIM 0.712, ...``, of those that are there."""
    return ", ".join(words.format(scores[name]) for name, words in _WORDS.items() if scores.get(name) is not None)


def _means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
