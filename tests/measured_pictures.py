"""Sharp pictures that are made up, and what is done to them so that the right measure is known."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

_FINER = 3  # pictures are drawn so much larger and averaged: edges without steps


def dead_leaves(width, height, seed, count=1500):
    """(height, width, 3) uint8: discs of all sizes and colours that cover each other, as things in photos do."""
    generator = np.random.default_rng(seed)
    size = width * _FINER, height * _FINER
    picture = Image.new("RGB", size, (120, 120, 120))
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        radius = max(2.0, 0.3 * min(size) / (1 + 6 * generator.pareto(1.5)))
        x, y = generator.uniform(0, size[0]), generator.uniform(0, size[1])
        colour = tuple(int(value) for value in generator.integers(30, 226, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def page_of_text(width, height, seed):
    """(height, width, 3) uint8: grey lines of letters on light paper."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (width * _FINER, height * _FINER), (225, 222, 215))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14 * _FINER)
    for top in range(4 * _FINER, height * _FINER, 18 * _FINER):
        letters = "".join(generator.choice(list("abcdefghiklmnoprstuvwxyz    "), 60))
        draw.text((5 * _FINER, top), letters, fill=(40, 40, 48), font=font)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def blurred(pixels, sigma_px):
    """Convolved with a Gaussian."""
    return to_bytes(gaussian_filter(pixels.astype(np.float64), (sigma_px, sigma_px, 0)))


def noisy(pixels, sigma, seed=0, grey=False):
    """With white noise of that standard deviation in 1/255, the same in all channels if ``grey``."""
    shape = (*pixels.shape[:2], 1 if grey else 3)
    return to_bytes(pixels + np.random.default_rng(seed).normal(0, sigma, shape))


def compressed(pixels, quality, **options):
    """Through a JPEG and back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, **options)
    return np.asarray(Image.open(file))


def enlarged(pixels, factor):
    """By bicubic interpolation."""
    size = [round(side * factor) for side in pixels.shape[1::-1]]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def to_bytes(values):
    """Rounded and clipped to 0 to 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
