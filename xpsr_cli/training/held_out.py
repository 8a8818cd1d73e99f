"""Photos that are not trained on, as a run is shown on them: the same crops, made small the same way, each time."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from xpsr_cli.errors import PhotoError
from xpsr_cli.training.dataset import SCALE, TrainingPhoto
from xpsr_cli.training.degradation import Degrader, to_u8
from xpsr_cli.training.pictures import Window
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.recipe_limits import CROP_MULTIPLE_PX
from xpsr_cli.training.texts import high_text
from xpsr_cli.training.training_photo import one_line
from xpsr_cli.training.words import low_prompt

log = logging.getLogger(__name__)

MOST_PHOTOS = 8
SMALLEST_CROP_PX = 256
_SEED = 0x5EED


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
    middle = _middle(photo, max(SMALLEST_CROP_PX, recipe.data.crop_px), math.lcm(CROP_MULTIPLE_PX, scale))
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
