"""What happens to a photo before it becomes too small: blur, shrinking, noise, JPEG, once or twice.

The second-order pipeline of Real-ESRGAN (ICCVW 2021) as XPSR uses it (section 4.1), with a first-order ``light``
variant for photos that are merely soft. Each sample is drawn from its own seed, and what was drawn is known, so that
the low-level prompt of a training pair can be true.
"""

# shapes: arrays are (H, W, 3) float32 in [0, 1] unless a name ends in _u8

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.signal import fftconvolve
from scipy.special import j1

KERNEL_PX = 21  # blur kernels are KERNEL_PX x KERNEL_PX (specs D1)
_FILTERS = {"area": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Stage:
    """Ranges of one blur-resize-noise-JPEG pass. Ranges are (low, high), probabilities are 0 to 1."""

    blur_probability: float = 1.0
    blur_sigma_px: tuple[float, float] = (0.2, 3.0)
    sinc_probability: float = 0.1
    resize_up_down_keep: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_up: tuple[float, float] = (1.0, 1.5)
    resize_down: tuple[float, float] = (0.15, 1.0)
    noise_probability: float = 1.0
    gaussian_probability: float = 0.5  # otherwise Poisson
    gaussian_sigma: tuple[float, float] = (1.0, 30.0)  # in 1/255
    poisson_scale: tuple[float, float] = (0.05, 3.0)
    grey_noise_probability: float = 0.4
    jpeg_probability: float = 1.0
    jpeg_quality: tuple[float, float] = (30.0, 95.0)


KEEP = (0.0, 0.0, 1.0)  # a stage that does not resize
XPSR_FIRST = Stage()
XPSR_SECOND = Stage(
    blur_probability=0.8,
    blur_sigma_px=(0.2, 1.5),
    resize_up_down_keep=(0.3, 0.4, 0.3),
    resize_up=(1.0, 1.2),
    resize_down=(0.3, 1.0),
    gaussian_sigma=(1.0, 25.0),
    poisson_scale=(0.05, 2.5),
)
LIGHT = Stage(
    blur_sigma_px=(0.5, 3.2),
    sinc_probability=0.0,
    resize_up_down_keep=KEEP,
    noise_probability=0.6,
    gaussian_probability=0.7,
    gaussian_sigma=(0.5, 8.0),
    poisson_scale=(0.02, 0.3),
    jpeg_probability=0.4,
    jpeg_quality=(60.0, 98.0),
)


@dataclass
class Degradation:
    """What was done to one photo, summed over the stages, in the units words are chosen by."""

    blur_px: float = 0.0  # standard deviation of all blurs together, in pixels of the large photo
    noise: float = 0.0  # standard deviation in 1/255, of the small photo
    jpeg_quality: float = 100.0  # lowest


def gaussian_kernel(sigma_x: float, sigma_y: float, angle: float, shape: float = 2.0) -> np.ndarray:
    """A (21, 21) kernel that sums to one: ``exp(-0.5 d^shape)``, d the Mahalanobis distance (shape 2: Gaussian)."""
    span = np.arange(KERNEL_PX) - KERNEL_PX // 2
    x, y = np.meshgrid(span, span)
    u = (x * math.cos(angle) + y * math.sin(angle)) / sigma_x
    v = (-x * math.sin(angle) + y * math.cos(angle)) / sigma_y
    kernel = np.exp(-0.5 * (u**2 + v**2) ** (shape / 2))
    return (kernel / kernel.sum()).astype(np.float32)


def sinc_kernel(cutoff: float) -> np.ndarray:
    """A (21, 21) low-pass kernel that rings, ``cutoff`` in radians per pixel (Real-ESRGAN eq. 6)."""
    span = np.arange(KERNEL_PX) - KERNEL_PX // 2
    x, y = np.meshgrid(span, span)
    radius = np.hypot(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[KERNEL_PX // 2, KERNEL_PX // 2] = cutoff**2 / (4 * np.pi)
    return (kernel / kernel.sum()).astype(np.float32)


def blur(photo: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve every channel, borders reflected."""
    edge = KERNEL_PX // 2
    padded = np.pad(photo, ((edge, edge), (edge, edge), (0, 0)), mode="reflect")
    return fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)).astype(np.float32)


def resize(photo: np.ndarray, width: int, height: int, filter_name: str) -> np.ndarray:
    """Pillow's antialiased resize in floating point; ``filter_name`` is area, bilinear or bicubic."""
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(photo[:, :, c])).resize((width, height), _FILTERS[filter_name])
        )
        for c in range(3)
    ]
    return np.stack(channels, axis=2)


def jpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    """Through a JPEG file of that quality and back."""
    buffer = io.BytesIO()
    Image.fromarray(to_u8(photo)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32) / 255


def to_u8(photo: np.ndarray) -> np.ndarray:
    """[0, 1] floats to rounded bytes."""
    return (photo.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _draw_kernel(rng: np.random.Generator, stage: Stage, drawn: Degradation, pixel_px: float) -> np.ndarray:
    if rng.random() < stage.sinc_probability:
        cutoff = rng.uniform(np.pi / 3, np.pi)
        drawn.blur_px = math.hypot(drawn.blur_px, pixel_px * np.pi / cutoff)
        return sinc_kernel(cutoff)
    sigma_x, angle, shape = rng.uniform(*stage.blur_sigma_px), rng.uniform(-np.pi, np.pi), 2.0
    sigma_y = sigma_x if rng.random() < 0.6 else rng.uniform(*stage.blur_sigma_px)
    if rng.random() < 0.15:
        shape = 2 * (rng.uniform(0.5, 1) if rng.random() < 0.5 else rng.uniform(1, 4))  # beta_gen, specs D1
    drawn.blur_px = math.hypot(drawn.blur_px, pixel_px * math.sqrt(sigma_x * sigma_y))
    return gaussian_kernel(sigma_x, sigma_y, angle, shape)


def _add_noise(photo: np.ndarray, rng: np.random.Generator, stage: Stage, drawn: Degradation) -> np.ndarray:
    grey = rng.random() < stage.grey_noise_probability
    size = (*photo.shape[:2], 1 if grey else 3)
    if rng.random() < stage.gaussian_probability:
        sigma = rng.uniform(*stage.gaussian_sigma) / 255
        noise = rng.standard_normal(size, dtype=np.float32) * sigma
    else:
        scale = rng.uniform(*stage.poisson_scale)
        signal = photo.mean(axis=2, keepdims=True) if grey else photo
        counts = 255.0 / scale  # photons of white: Real-ESRGAN's scale divides the noise, not the light
        noise = (rng.poisson(signal.clip(0, 1) * counts) / counts - signal.clip(0, 1)).astype(np.float32)
    drawn.noise = math.hypot(drawn.noise, float(noise.std()) * 255)
    return photo + noise


def _apply(
    photo: np.ndarray,
    rng: np.random.Generator,
    stage: Stage,
    drawn: Degradation,
    large_px: int,
    shrink_to: tuple[int, int] | None,
) -> np.ndarray:
    """One pass; ``shrink_to`` (width, height) replaces the random resize when given."""
    if rng.random() < stage.blur_probability:
        photo = blur(photo, _draw_kernel(rng, stage, drawn, large_px / photo.shape[0]))
    filter_name = rng.choice(list(_FILTERS))
    if shrink_to is not None:
        photo = resize(photo, *shrink_to, str(filter_name))
    else:
        kind = rng.choice(3, p=stage.resize_up_down_keep)
        factor = (rng.uniform(*stage.resize_up), rng.uniform(*stage.resize_down), 1.0)[kind]
        if factor != 1.0:
            drawn.blur_px = math.hypot(drawn.blur_px, 0.5 * large_px / photo.shape[0] / min(factor, 1.0))
            width, height = (max(8, round(side * factor)) for side in photo.shape[1::-1])
            photo = resize(photo, width, height, str(filter_name))
    if rng.random() < stage.noise_probability:
        photo = _add_noise(photo, rng, stage, drawn)
    if rng.random() < stage.jpeg_probability:
        quality = round(rng.uniform(*stage.jpeg_quality))
        drawn.jpeg_quality = min(drawn.jpeg_quality, quality)
        photo = jpeg(photo, quality)
    return photo


def degrade(
    photo: np.ndarray, rng: np.random.Generator, *, scale: int = 4, second_order_probability: float = 0.25
) -> tuple[np.ndarray, Degradation]:
    """Make the small photo of a training pair.

    Args:
        photo: (H, W, 3) float32 in [0, 1], sides multiples of ``scale``.
        rng: the source of every draw: one seed, one result.
        scale: how much smaller the result is.
        second_order_probability: how often the full two-stage pipeline is used instead of ``LIGHT``.

    Returns:
        (H/scale, W/scale, 3) uint8, and what was drawn.
    """
    height, width = photo.shape[:2]
    small = (width // scale, height // scale)
    drawn = Degradation()
    if rng.random() < second_order_probability:
        photo = _apply(photo, rng, XPSR_FIRST, drawn, height, None)
        photo = _apply(photo, rng, XPSR_SECOND, drawn, height, small)
    else:
        photo = _apply(photo, rng, LIGHT, drawn, height, small)
    return to_u8(photo), drawn
