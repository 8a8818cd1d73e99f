"""What a model in training makes of held-out photos: through the sampler people use, measured, and side by side.

This is the only part of training that runs the user's own :class:`~xpsr_cli.upscaling.upscaler.Upscaler`, so that
what it shows is what ``xpsr upscale`` would give with the model folder of that step.
"""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xpsr_cli.errors import XpsrError
from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.training.dataset import SCALE, TrainingPhoto
from xpsr_cli.training.degradation import degrade
from xpsr_cli.training.listeners import MetricsFile, TensorBoard
from xpsr_cli.training.loop import Listener
from xpsr_cli.training.preview import Row, draw_sheet, save_picture
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.words import high_prompt, low_prompt

log = logging.getLogger(__name__)

MOST_PHOTOS = 8
SMALLEST_CROP_PX = 256
_SEED = 0x5EED
_WORDS = {"psnr": "PSNR {:.2f}", "ssim": "SSIM {:.3f}", "gmsd": "GMSD {:.3f}", "sharpness": "sharpness {:.2f}"}


@dataclass(frozen=True)
class HeldOut:
    """The middle of a photo that is not trained on, made small once and for all, and the words for it."""

    name: str
    large: np.ndarray
    small: np.ndarray
    high: str
    low: str


def hold_out(photos: Sequence[TrainingPhoto], recipe: Recipe) -> list[HeldOut]:
    """At most eight photographs, each degraded in a way that depends on nothing but its place in the list."""
    first = {photo.photo_id: photo for photo in reversed(photos)}  # one crop of each photograph
    chosen = [first[photo_id] for photo_id in sorted(first)][:MOST_PHOTOS]
    return [_degraded(photo, recipe, np.random.default_rng([_SEED, place])) for place, photo in enumerate(chosen)]


def _degraded(photo: TrainingPhoto, recipe: Recipe, rng: np.random.Generator) -> HeldOut:
    large = _middle(photo.pixels, max(SMALLEST_CROP_PX, recipe.data.crop_px))
    share = recipe.data.degradations.get("xpsr", 0.0)
    small, drawn = degrade(large.astype(np.float32) / 255, rng, scale=SCALE, second_order_probability=share)
    high = high_prompt(photo.category, photo.name, rng)
    return HeldOut(photo.file, large, small, high, low_prompt(drawn, rng))


def _middle(pixels: np.ndarray, side: int) -> np.ndarray:
    """The square in the middle, ``side`` pixels or what there is, in multiples of the scale."""
    side = min(side, *pixels.shape[:2]) // SCALE * SCALE
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


class Validation(Listener):
    """Writes ``validation/step-000500.png`` and a line of means in ``metrics.jsonl`` whenever a run asks for it.

    Args:
        photos: what is shown and measured, see :func:`hold_out`.
        folder: receives the sheets.
        metrics: receives the means of PSNR, SSIM, GMSD and sharpness, and those of the plain enlargement (bicubic).
        board: hears of them too.
        device: where the model runs, a torch device or ``auto``.
    """

    def __init__(
        self,
        photos: Sequence[HeldOut],
        folder: Path,
        metrics: MetricsFile,
        *,
        board: TensorBoard | None = None,
        device: str = "auto",
    ) -> None:
        self.photos = photos
        self.folder = folder
        self._metrics = metrics
        self._board = board
        self._device = device

    def validate(self, step: int, model_folder: Path) -> None:
        """A failure here, such as memory that does not suffice for two models, is told and costs no training."""
        try:
            with torch.random.fork_rng():  # the run's own random numbers go on as if nobody had looked
                results = enlarge(self.photos, model_folder, device=self._device)
        except XpsrError as error:
            log.warning("step %d is not validated: %s %s", step, error.message, error.hint)
            return
        scores = [measure(result, photo.large) for result, photo in zip(results, self.photos, strict=True)]
        means = _means(scores)
        plain = _means([measure(enlarged(photo.small), photo.large) for photo in self.photos])
        save_picture(self._sheet(results, scores), self.folder / f"step-{step:06d}.png")
        self._metrics.write(step, {"validation": {**means, "bicubic": plain}})
        if self._board is not None:
            self._board.write(step, {f"validation/{name}": value for name, value in means.items()})
        log.info("held-out photos at step %d: %s; bicubic %s", step, told_measures(means), told_measures(plain))

    def _sheet(self, results: Sequence[np.ndarray], scores: Sequence[dict[str, float]]) -> Image.Image:
        rows = [
            Row(
                [enlarged(photo.small), result, photo.large],
                [
                    f"{photo.name}: {told_measures(score)}",
                    f"content: {photo.high or '-'}   quality: {photo.low or '-'}",
                ],
            )
            for photo, result, score in zip(self.photos, results, scores, strict=True)
        ]
        return draw_sheet(rows, titles=("small, bicubic", "this model", "original"))


def enlarge(photos: Sequence[HeldOut], model_folder: Path, device: str = "auto") -> list[np.ndarray]:
    """The small photos through the model as people run it, with its own preset and the true words."""
    from xpsr_cli.upscaling.upscaler import Upscaler

    upscaler = Upscaler.from_components(load_components(model_folder), device)
    settings = [UpscaleSettings(scale=float(SCALE), prompt=photo.high, low_prompt=photo.low) for photo in photos]
    return [
        upscaler.upscale(Photo(pixels=photo.small), setting).photo().pixels
        for photo, setting in zip(photos, settings, strict=True)
    ]


def enlarged(small: np.ndarray) -> np.ndarray:
    """Pillow's bicubic enlargement, the model's input as it is trained with."""
    size = (small.shape[1] * SCALE, small.shape[0] * SCALE)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


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
