"""Folders of large photos, degraded on the fly into training pairs.

Every pair is a pure function of (seed, index): workers, restarts and batch order cannot change it.
"""

# shapes: B batch, S crop side in pixels

from __future__ import annotations

import csv
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from xpsr_cli.errors import PhotoError
from xpsr_cli.training.degradation import blur, degrade, gaussian_kernel
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.words import CATEGORIES, high_prompt, low_prompt, negative_prompt

log = logging.getLogger(__name__)
SCALE = 4
SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class TrainingPhoto:
    """A large photo in memory with what is known about it."""

    file: str
    pixels: np.ndarray  # (H, W, 3) uint8
    photo_id: str  # crops of one photograph share it
    category: str
    name: str  # words of the file name, may be empty


def read_photos(folder: Path) -> list[TrainingPhoto]:
    """All photos of a folder; ``MANIFEST.csv`` beside them may name ``photo_id``, ``category`` and caption words.

    A file that cannot be read is named in the log and left out.

    Raises:
        PhotoError: the folder holds no readable photo.
    """
    manifest: dict[str, dict[str, str]] = {}
    if (folder / "MANIFEST.csv").is_file():
        with (folder / "MANIFEST.csv").open(newline="", encoding="utf-8") as rows:
            manifest = {row["file"]: row for row in csv.DictReader(rows)}
    photos = []
    for path in sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES):
        try:
            pixels = np.asarray(Image.open(path).convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            log.warning("left out %s: %s", path.name, error)
            continue
        row = manifest.get(path.name, {})
        words = re.sub(r"[^a-z ]+", " ", row.get("caption_from_filename", "").lower())
        category = row.get("category", "")
        photos.append(
            TrainingPhoto(
                file=path.name,
                pixels=pixels,
                photo_id=row.get("photo_id", path.stem),
                category=category if category in CATEGORIES else "object",
                name=" ".join(word for word in words.split() if len(word) > 2)[:60],
            )
        )
    if not photos:
        raise PhotoError(f"No photo could be read in {folder}.", f"Training reads {', '.join(SUFFIXES)} files.")
    return photos


def split_photos(photos: list[TrainingPhoto], recipe: Recipe) -> tuple[list[TrainingPhoto], list[TrainingPhoto]]:
    """(training, held out): whole photographs with all their crops, some named and some drawn by the recipe's seed."""
    ids = sorted({photo.photo_id for photo in photos})
    drawn = np.random.default_rng(recipe.seed).permutation(ids)[: recipe.data.held_out_photos]
    chosen = {*drawn, *recipe.data.held_out_ids}
    return [p for p in photos if p.photo_id not in chosen], [p for p in photos if p.photo_id in chosen]


class TrainingPairs(Dataset):
    """Endless training pairs: item ``index`` is drawn from (seed, index) alone.

    An item holds ``target_pm1`` (3, S, S) and ``enlarged_pm1`` (3, S, S) float32, and the two prompts. With
    ``negative_probability`` the target is a blurred photo under the negative prompt (SUPIR section 3.4), so that
    guidance away from that prompt is guidance towards sharpness.
    """

    def __init__(
        self, photos: list[TrainingPhoto], recipe: Recipe, *, prompt_suffix: str, negative_low_prompt: str
    ) -> None:
        self.photos = photos
        self.recipe = recipe
        self.prompt_suffix = prompt_suffix
        self.negative_low_prompt = negative_low_prompt
        sigma = recipe.data.negative_blur_px
        self._negative_kernel = gaussian_kernel(sigma, sigma, 0.0)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        rng = np.random.default_rng([self.recipe.seed, index])
        photo = self.photos[rng.integers(len(self.photos))]
        large = _augmented_crop(photo.pixels, self.recipe.data.crop_px, rng)
        small, drawn = degrade(
            large, rng, scale=SCALE, second_order_probability=self.recipe.data.degradations.get("xpsr", 0.0)
        )
        side = self.recipe.data.crop_px
        enlarged = (
            np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        )
        high, low, negative = self._prompts(photo, low_prompt(drawn, rng), rng)
        target = blur(large, self._negative_kernel) if negative else large
        return {"target_pm1": _to_pm1(target), "enlarged_pm1": _to_pm1(enlarged), "high": high, "low": low}

    def _prompts(self, photo: TrainingPhoto, low: str, rng: np.random.Generator) -> tuple[str, str, bool]:
        data = self.recipe.data
        if rng.random() < data.negative_probability:
            return negative_prompt(rng), self.negative_low_prompt if rng.random() < 0.5 else low, True
        high = "" if rng.random() < data.high_dropout else high_prompt(photo.category, photo.name, rng)
        if rng.random() < 0.8:
            high = f"{high} {self.prompt_suffix}".strip()
        return high, "" if rng.random() < data.low_dropout else low, False


def _augmented_crop(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A random square crop in [0, 1], flipped and turned at random."""
    top = rng.integers(pixels.shape[0] - side + 1)
    left = rng.integers(pixels.shape[1] - side + 1)
    crop = pixels[top : top + side, left : left + side]
    crop = np.rot90(crop, int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop, dtype=np.float32) / 255


def _to_pm1(photo: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))) * 2 - 1
