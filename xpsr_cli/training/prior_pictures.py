"""What a pixel cascade is trained on: whole photos made small, and the words for them.

Every item is a pure function of recipe, photos and index: workers, restarts and batch order cannot change it.
"""

# shapes: S side of what is trained on in pixels, P side of the whole picture

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from xpsr_cli.errors import PhotoError
from xpsr_cli.training.crops import UnreadableError
from xpsr_cli.training.detail_words import detail_words
from xpsr_cli.training.pictures import Window
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe, ScorerRecipe
from xpsr_cli.training.texts import check_texts, high_text, with_captions
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto

log = logging.getLogger(__name__)

ENLARGEMENT = 4
"""How much larger a refiner's pictures are than those it is given, as in Imagen and IF."""
_LEAST_SHARE = 0.6  # of a photo's shorter side
_ATTEMPTS = 100
_SAID = 2 / 3  # how often a text has its photo's own words, and each word for its detail


class PriorPictures(Dataset):
    """Endless pictures: item ``index`` is drawn from (recipe, photos, index) alone.

    A square of at least 0.6 of the shorter side of a photo, mirrored half the time, is reduced to the recipe's
    ``picture_px``. ``target_pm1`` (3, S, S) is that picture or, for smaller crops, a part of it; ``enlarged_pm1`` the
    same place of the picture reduced four times and enlarged again; ``high`` its words and those for its detail,
    all left out with ``data.high_dropout``, and ``low`` none.

    Raises:
        UsageError: ``data.captions`` is ``store`` and no photo has a caption.
    """

    def __init__(
        self, photos: Sequence[TrainingPhoto], recipe: Recipe, captions: Mapping[str, str] | None = None
    ) -> None:
        assert isinstance(recipe.model, PriorModelRecipe | ScorerRecipe)
        if recipe.data.captions == "store":
            photos = photos if captions is None else with_captions(photos, captions)
            check_texts(photos)
        self.photos = photos
        self.recipe = recipe
        self.picture_px = recipe.model.picture_px
        self._unreadable = torch.zeros(len(photos), dtype=torch.uint8).share_memory_()  # workers tell the main process

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        data = self.recipe.data
        photo, pixels, rng = self._read(index)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        picture = _resized(Image.fromarray(np.ascontiguousarray(pixels)), self.picture_px, Image.Resampling.BICUBIC)
        smaller = _resized(picture, self.picture_px // ENLARGEMENT, Image.Resampling.BICUBIC)
        enlarged = _resized(smaller, self.picture_px, Image.Resampling.BILINEAR)
        top, left = (int(rng.integers(self.picture_px - data.crop_px + 1)) for _ in range(2))
        crops = [whole.crop((left, top, left + data.crop_px, top + data.crop_px)) for whole in (picture, enlarged)]
        text = "" if rng.random() < data.high_dropout else self._text(photo, crops, rng)
        return {"target_pm1": _to_pm1(crops[0]), "enlarged_pm1": _to_pm1(crops[1]), "high": text, "low": ""}

    def unreadable(self) -> list[LeftOut]:
        """Photos that were wanted, by any worker, and could not be read; others were drawn instead."""
        numbers = self._unreadable.nonzero().flatten().tolist()
        return [LeftOut(self.photos[number].file, "It could not be read.") for number in numbers]

    def _text(self, photo: TrainingPhoto, crops: Sequence[Image.Image], rng: np.random.Generator) -> str:
        """What is in a photo, and of what kind the detail of a crop is; either may be left out."""
        data = self.recipe.data
        if data.captions == "none":
            return ""
        if photo.category:
            photo = replace(photo, name="")  # which says less of a small picture than it distracts
        said = [high_text(photo, data.captions, rng), *detail_words(*crops)]
        kept = [words for words in said if words and rng.random() < _SAID]
        return ", ".join(kept or said[:1])

    def _read(self, index: int) -> tuple[TrainingPhoto, np.ndarray, np.random.Generator]:
        """A photo, a square of it (side, side, 3) uint8, and the random numbers for the rest of the item."""
        for attempt in range(_ATTEMPTS):
            sequence = np.random.SeedSequence([self.recipe.seed, index], spawn_key=(attempt,) * (attempt > 0))
            rng = np.random.default_rng(sequence)
            number = int(rng.integers(len(self.photos)))
            photo = self.photos[number]
            height, width = photo.picture.height, photo.picture.width
            least = max(self.picture_px, round(_LEAST_SHARE * min(height, width)))
            side = int(rng.integers(least, min(height, width) + 1))
            window = Window(int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side, side)
            try:
                return photo, photo.picture.windows([window])[0], rng
            except PhotoError as error:
                why = error.message
                if not self._unreadable[number]:
                    log.warning("left out %s: %s", photo.file, why)
                self._unreadable[number] = 1
        raise UnreadableError(f"{_ATTEMPTS} photos in a row cannot be read. {why}")


def _resized(picture: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    return picture.resize((side, side), how)


def _to_pm1(picture: Image.Image) -> Tensor:
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(127.5) - 1
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
