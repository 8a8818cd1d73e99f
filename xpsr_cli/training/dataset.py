"""Training pairs: a crop of a large photo, the small photo it is to be made from, and the words for both.

Every pair is a pure function of recipe, photos and index: workers, restarts and batch order cannot change it.
"""

# shapes: S crop side in pixels; crops are (S, S, 3) float32 in [0, 1]

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from xpsr_cli.photos.photo import Floats, Pixels
from xpsr_cli.training.crops import Crops
from xpsr_cli.training.degradation import Degradation, Degrader, blur, gaussian_kernel
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.sources import PhotoSet, read_photos, read_source
from xpsr_cli.training.splits import split_photos
from xpsr_cli.training.texts import check_texts, prompts, with_captions
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto
from xpsr_cli.training.words import low_prompt, negative_prompt

__all__ = [
    "SCALE",
    "LeftOut",
    "PhotoSet",
    "TrainingPairs",
    "TrainingPhoto",
    "read_photos",
    "read_source",
    "split_photos",
]

SCALE = 4


class TrainingPairs(Dataset):
    """Endless training pairs: item ``index`` is drawn from (recipe, photos, index) alone.

    An item holds ``target_pm1`` (3, S, S) and ``enlarged_pm1`` (3, S, S) float32, and the two prompts ``high`` and
    ``low``. Large photos are degraded on the fly, with the words for what was drawn; prepared pairs come with their
    own small photos and texts. With ``clean_condition`` the small photo is the target itself, and the words are those
    of a clean photo (specs D3). With ``negative_probability`` the target is a blurred photo under the negative prompt
    (SUPIR section 3.4), so that guidance away from that prompt is guidance towards sharpness.

    Args:
        photos: what is trained on, see :func:`~xpsr_cli.training.sources.read_source`.
        recipe: its ``data`` section says everything else.
        prompt_suffix: the words that ask for quality, most times added to the high-level prompt.
        negative_low_prompt: what negative samples say of their quality half of the time.
        captions: what is in a photo, by the SHA-256 of its file, where ``data.captions`` is ``store``; ``None`` where
            the photos have their texts already.

    Raises:
        UsageError: a degradation that does not exist, or ``data.captions`` is ``store`` and no photo has a caption.
    """

    def __init__(
        self,
        photos: Sequence[TrainingPhoto],
        recipe: Recipe,
        *,
        prompt_suffix: str,
        negative_low_prompt: str,
        captions: Mapping[str, str] | None = None,
    ) -> None:
        if recipe.data.captions == "store":
            photos = photos if captions is None else with_captions(photos, captions)
            check_texts(photos)
        self.photos = photos
        self.recipe = recipe
        self.prompt_suffix = prompt_suffix
        self.negative_low_prompt = negative_low_prompt
        self._crops = Crops(photos, recipe)
        self._degrader = Degrader(recipe.data.degradations, SCALE, recipe.data.sharpen_target)
        sigma = recipe.data.negative_blur_px
        self._negative_kernel = gaussian_kernel(sigma, sigma, 0.0)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        data = self.recipe.data
        photo, crop, rng = self._crops.read(index)
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        target = _turned(crop.large, turns, mirrored)
        if photo.small is None or crop.small is None:
            target, small, drawn = self._degraded(target, rng)
            low = low_prompt(drawn, rng, data.low_phrase_dropout)
        else:
            small, low = _turned(crop.small, turns, mirrored), photo.small.low
        condition = _enlarged(small, data.crop_px)

        if rng.random() < data.negative_probability:
            high = negative_prompt(rng)
            low = self.negative_low_prompt if rng.random() < 0.5 else low
            target = blur(target, self._negative_kernel)
        else:
            if data.clean_condition and rng.random() < data.clean_condition:
                condition, low = target, photo.low or low_prompt(Degradation(), rng, data.low_phrase_dropout)
            high, low = prompts(photo, low, data, self.prompt_suffix, rng)
        return {"target_pm1": _to_pm1(target), "enlarged_pm1": _to_pm1(condition), "high": high, "low": low}

    def unreadable(self) -> list[LeftOut]:
        """Photos that were wanted since the start, by any worker, and could not be read; others were drawn instead."""
        return self._crops.unreadable()

    def _degraded(self, large: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Degradation]:
        """(target, small photo, what was done) of a crop: where the recipe's degradations are applied."""
        photo_01 = torch.from_numpy(large.transpose(2, 0, 1).copy())[None]
        pairs = self._degrader(photo_01, [self._degrader.draw([int(rng.integers(2**63))])])
        target, small = (photos[0].permute(1, 2, 0).numpy() for photos in (pairs.target_01, pairs.small_01))
        return target, small, pairs.drawn[0]


def _turned(pixels: Pixels, turns: int, mirrored: bool) -> Floats:
    pixels = np.rot90(pixels, turns)
    if mirrored:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)


def _enlarged(small: Floats, side: int) -> Floats:
    """A small photo at the size of the crop, by Pillow's bicubic, as it is enlarged before it is upscaled."""
    picture = Image.fromarray((small * 255 + 0.5).astype(np.uint8))
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / np.float32(255)


def _to_pm1(photo: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))) * 2 - 1
