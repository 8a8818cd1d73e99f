"""What a model in training makes of held-out photos: through the sampler people use, measured, and side by side.

This is the only part of training that runs the user's own :class:`~xpsr_cli.upscaling.upscaler.Upscaler`, so that
what it shows is what ``xpsr upscale`` would give with the model folder of that step.
"""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xpsr_cli.device import memory_errors
from xpsr_cli.errors import PhotoError, XpsrError
from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.training.dataset import SCALE, TrainingPhoto
from xpsr_cli.training.degradation import Degrader, to_u8
from xpsr_cli.training.listeners import MetricsFile, TensorBoard
from xpsr_cli.training.loop import Listener
from xpsr_cli.training.pictures import Window
from xpsr_cli.training.preview import Row, draw_sheet, save_picture
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.texts import high_text
from xpsr_cli.training.training_photo import one_line
from xpsr_cli.training.words import low_prompt

log = logging.getLogger(__name__)

MOST_PHOTOS = 8
SMALLEST_CROP_PX = 256
_SEED = 0x5EED
Scores = Sequence[dict[str, float]]
_WORDS = {"psnr": "PSNR {:.2f}", "ssim": "SSIM {:.3f}", "gmsd": "GMSD {:.3f}", "sharpness": "sharpness {:.2f}"}


@dataclass(frozen=True)
class HeldOut:
    """The middle of a photo that is not trained on, its small photo, and the words for both."""

    name: str
    large: np.ndarray
    small: np.ndarray
    high: str
    low: str

    @property
    def scale(self) -> float:
        """How much smaller the small one is."""
        return self.large.shape[1] / self.small.shape[1]

    @property
    def enlarged(self) -> np.ndarray:
        """The small one at the size of the large one, by Pillow's bicubic as in training."""
        size = self.large.shape[1::-1]
        return np.asarray(Image.fromarray(self.small).resize(size, Image.Resampling.BICUBIC))


def hold_out(
    photos: Sequence[TrainingPhoto], recipe: Recipe, captions: Mapping[str, str] | None = None
) -> list[HeldOut]:
    """At most eight photographs, each made small once and for all: by its place in the list, or as its pair says.

    They are not sharpened, whatever is trained on: this is what people have. One that cannot be read is named in the
    log and left out.
    """
    first = {photo.photo_id: photo for photo in reversed(photos)}  # one file of each photograph
    chosen = [first[photo_id] for photo_id in sorted(first)][:MOST_PHOTOS]
    degrader = Degrader(recipe.data.degradations, SCALE)
    held_out = []
    for place, photo in enumerate(chosen):
        try:
            if captions is not None:
                caption = captions.get(photo.picture.place.sha256(), photo.high)
                photo = replace(photo, high=one_line(caption))
            held_out.append(_held_out(photo, recipe, degrader, place))
        except PhotoError as error:
            log.warning("%s is left out of the validation: %s", photo.file, error.message)
    return held_out


def _held_out(photo: TrainingPhoto, recipe: Recipe, degrader: Degrader, place: int) -> HeldOut:
    rng = np.random.default_rng([_SEED, place])
    scale = SCALE if photo.small is None else photo.small.scale
    middle = _middle(photo, max(SMALLEST_CROP_PX, recipe.data.crop_px), math.lcm(SCALE, scale))
    (large,) = photo.picture.windows([middle])
    if photo.small is None:
        photo_01 = torch.from_numpy(large.transpose(2, 0, 1).astype(np.float32) / 255)[None]
        degraded = degrader(photo_01, [degrader.draw([_SEED, place])])
        small = to_u8(degraded.small_01[0].permute(1, 2, 0).numpy())
        low = low_prompt(degraded.drawn[0], rng)
    else:
        (small,) = photo.small.picture.windows([Window(*(length // scale for length in middle))])
        low = photo.small.low
    return HeldOut(photo.file, large, np.ascontiguousarray(small), high_text(photo, recipe.data.captions, rng), low)


def _middle(photo: TrainingPhoto, side: int, multiple: int) -> Window:
    """The square in the middle, ``side`` pixels or what there is, its place and size in multiples."""
    height, width = photo.picture.height, photo.picture.width
    side = min(side, height, width) // multiple * multiple
    top, left = ((length - side) // 2 // multiple * multiple for length in (height, width))
    return Window(top, left, side, side)


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
                results = enlarge(self.photos, model_folder, self._device)
            scores = [measure(result, photo.large) for result, photo in zip(results, self.photos, strict=True)]
            plain_scores = [measure(photo.enlarged, photo.large) for photo in self.photos]
            save_picture(self._sheet(results, scores, plain_scores), self.folder / f"step-{step:06d}.png")
        except XpsrError as error:
            log.warning("step %d is not validated: %s", step, error.message)
            return
        means, plain = _means(scores), _means(plain_scores)
        self._metrics.write(step, {"validation": {**means, "bicubic": plain}})
        if self._board is not None:
            self._board.write(step, {f"validation/{name}": value for name, value in means.items()})
        log.info("held-out photos at step %d: %s; bicubic %s", step, told_measures(means), told_measures(plain))

    def _sheet(self, results: Sequence[np.ndarray], scores: Scores, plain_scores: Scores) -> Image.Image:
        rows = [
            Row(
                [photo.enlarged, result, photo.large],
                [
                    photo.name,
                    f"this model: {told_measures(score)}",
                    f"bicubic: {told_measures(plain)}",
                    f"content: {photo.high or '-'}",
                    f"quality: {photo.low or '-'}",
                ],
            )
            for photo, result, score, plain in zip(self.photos, results, scores, plain_scores, strict=True)
        ]
        return draw_sheet(rows, titles=("small, bicubic", "this model", "original"))


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


def _means(scores: Scores) -> dict[str, float]:
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
