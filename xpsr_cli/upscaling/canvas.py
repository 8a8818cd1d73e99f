"""The working canvas: the photo enlarged to a size the networks take, and the way back to the exact size asked for."""

# shapes: H W pixels

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from xpsr_cli.photos.photo import Photo, Pixels
from xpsr_cli.settings import Sizing

MULTIPLE_PX = 8
"""Sides of a canvas are multiples of this: a latent cell of Stable Diffusion, two of a small model."""
SMALLEST_PX = 128
"""Smallest side of a padded canvas: below that the networks' coarsest features would be a few cells."""
PROCESS_SIZE_PX = 512
"""Smallest side of a resized canvas (the released script's ``process_size``)."""


def output_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height of the result, in pixels."""
    return round(width * scale), round(height * scale)


@dataclass(frozen=True)
class Canvas:
    """The enlarged input at working size, ``pixels`` (H, W, 3), and the ``size`` (width, height) asked for.

    Of a padded canvas only the top left part of that size is the photo; a resized one is the photo as a whole.
    """

    pixels: Pixels
    size: tuple[int, int]
    sizing: Sizing

    @property
    def image_01(self) -> Tensor:
        """The canvas as the ControlNet and the colour fix see it, (1, 3, H, W) in [0, 1]."""
        return to_image_01(self.pixels)

    def visible(self, image: Tensor) -> Tensor:
        """The part of (1, 3, H, W) that is photo and not padding."""
        if self.sizing is Sizing.RESIZE:
            return image
        width, height = self.size
        return image[..., :height, :width]

    def fit(self, pixels: Pixels) -> Pixels:
        """The visible part at the size asked for; only a resized canvas is not there yet."""
        return resize(pixels, self.size, Image.Resampling.BICUBIC)


def make_canvas(photo: Photo, scale: float, sizing: Sizing) -> Canvas:
    """Enlarge a photo by ``scale`` and bring it to working size."""
    size = output_size(photo.width, photo.height, scale)
    enlarged = resize(_filled(photo), size, Image.Resampling.BICUBIC)
    pixels = _resized(enlarged, PROCESS_SIZE_PX) if sizing is Sizing.RESIZE else _padded(enlarged)
    return Canvas(pixels, size, sizing)


def _padded(pixels: Pixels) -> Pixels:
    """Edges repeated to the right and below, up to the next multiple."""
    height, width = (max(-(-side // MULTIPLE_PX) * MULTIPLE_PX, SMALLEST_PX) for side in pixels.shape[:2])
    return np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), mode="edge")


def _resized(pixels: Pixels, process_size: int) -> Pixels:
    """The released script's rule (spec C3): at least ``process_size``, then down to a multiple."""
    height, width = pixels.shape[:2]
    short, long = min(height, width), max(height, width)
    if short < process_size:
        long = int(process_size * long / short)
        size = (process_size, long) if width <= height else (long, process_size)
        pixels = resize(pixels, size, Image.Resampling.BILINEAR)
        width, height = size
    width, height = (side // MULTIPLE_PX * MULTIPLE_PX for side in (width, height))
    return resize(pixels, (width, height), Image.Resampling.BICUBIC)


def _filled(photo: Photo) -> Pixels:
    """Pixels whose colours under full transparency, which would bleed into edges, are the nearest visible ones."""
    if photo.alpha is None or not (hidden := photo.alpha == 0).any() or hidden.all():
        return photo.pixels
    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return photo.pixels[rows, columns]


def resize(pixels: Pixels, size: tuple[int, int], filter_: Image.Resampling) -> Pixels:
    """(H, W, 3) or (H, W) pixels at ``size`` (width, height); Pillow's filters widen when they shrink."""
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, filter_))


def to_image_01(pixels: Pixels) -> Tensor:
    """(H, W, 3) pixels to (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def to_pixels(image_01: Tensor) -> Pixels:
    """(1, 3, H, W) in [0, 1] to (H, W, 3) pixels, clamped and rounded."""
    return (image_01[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
