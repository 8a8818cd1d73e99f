"""Measures of a result against the large original and against the small input that need no trained network."""

# shapes: photos are (H, W, 3) uint8; luma is (H, W) float64 in [16, 235]; a plane is (H, W) float64 in [0, 255]

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, uniform_filter

from xpsr_cli.evaluation.protocols import PROTOCOLS, Channels, Protocol
from xpsr_cli.photos.photo import Pixels

Plane = NDArray[np.float64]

SSIM_WINDOW_PX = 11


def luma(photo_u8: Pixels) -> Plane:
    """BT.601 limited-range Y, not rounded."""
    rgb = photo_u8.astype(np.float64)
    return 16 + (65.481 * rgb[..., 0] + 128.553 * rgb[..., 1] + 24.966 * rgb[..., 2]) / 255


def psnr(a: np.ndarray, b: np.ndarray, mse_floor: float = 0.0) -> float:
    """Peak signal-to-noise ratio in dB of two arrays whose peak is 255; higher is better.

    ``mse_floor`` is added to the mean squared error of values scaled to [0, 1]; without it equal arrays have infinity.
    Arrays without values have NaN.
    """
    if a.size == 0:
        return math.nan
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)) / 255.0**2 + mse_floor
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Plane, b: Plane, clamped: bool = False) -> float:
    """SSIM of two planes (Wang et al. 2004), 11 x 11 Gaussian of 1.5 pixels, valid windows; higher is better.

    ``clamped`` raises negative values of the contrast-structure map to 0. NaN where no window fits.
    """
    if min(a.shape) < SSIM_WINDOW_PX:
        return math.nan

    def local_mean(values: Plane) -> Plane:
        return gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    mean_a, mean_b = local_mean(a), local_mean(b)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance, variances = local_mean(a * b) - product, local_mean(a * a + b * b) - squares
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast_structure = (2 * covariance + c2) / (variances + c2)
    if clamped:
        contrast_structure = np.maximum(contrast_structure, 0)
    return float(np.mean((2 * product + c1) / (squares + c1) * contrast_structure))


def _cropped(photo: Pixels, pixels: int) -> Pixels:
    return photo[pixels : photo.shape[0] - pixels, pixels : photo.shape[1] - pixels] if pixels else photo


def protocol_psnr(result: Pixels, original: Pixels, protocol: Protocol, crop_px: int = 0) -> float:
    """PSNR in dB as a protocol has it; higher is better, and it rewards blur."""
    pair = _cropped(result, crop_px), _cropped(original, crop_px)
    if protocol.channels is Channels.LUMA:
        return psnr(luma(pair[0]), luma(pair[1]), protocol.mse_floor)
    return psnr(*pair, protocol.mse_floor)


def protocol_ssim(result: Pixels, original: Pixels, protocol: Protocol, crop_px: int = 0) -> float:
    """SSIM as a protocol has it; higher is better."""
    a, b = _cropped(result, crop_px), _cropped(original, crop_px)
    if protocol.channels is Channels.RGB:
        channels = (ssim(a[..., c].astype(np.float64), b[..., c].astype(np.float64)) for c in range(3))
        return sum(channels) / 3
    planes = luma(a), luma(b)
    if protocol.ssim_rounded:
        planes = np.round(planes[0]), np.round(planes[1])
    return ssim(*planes, protocol.ssim_clamped)


def psnr_y(result: Pixels, original: Pixels) -> float:
    """PSNR of luma, nothing left out; infinite for equal pictures, as there is no floor, unlike in ``osediff``."""
    return psnr(luma(result), luma(original))


def ssim_y(result: Pixels, original: Pixels) -> float:
    """SSIM under the protocol ``osediff``."""
    return protocol_ssim(result, original, PROTOCOLS["osediff"])


def _gradient(values: Plane) -> Plane:
    """Prewitt gradient magnitude."""
    kernel = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]) / 3
    return np.hypot(convolve(values, kernel, mode="constant"), convolve(values, kernel.T, mode="constant"))


def gmsd_y(result: Pixels, original: Pixels) -> float:
    """Gradient magnitude similarity deviation of luma (Xue et al. 2014), halved first; lower is better."""
    gradients = []
    for photo in (result, original):
        full = luma(photo)
        gradients.append(_gradient(uniform_filter(full, 2)[1::2, 1::2]))
    a, b = gradients
    similarity = (2 * a * b + 170) / (a * a + b * b + 170)
    return float(similarity.std())


def gradient_ratio(result: Pixels, original: Pixels) -> float:
    """RMS luma gradient of the result over that of the original; 1 is as sharp, but noise raises it too.

    NaN for an original without any gradient.
    """

    def rms(photo: Pixels) -> float:
        y = luma(photo)
        return float(np.sqrt(np.mean(np.diff(y, axis=0) ** 2) + np.mean(np.diff(y, axis=1) ** 2)))

    sharpness = rms(original)
    return rms(result) / sharpness if sharpness > 0 else math.nan


def consistency_psnr(result: Pixels, small: Pixels) -> float:
    """RGB PSNR in dB between the small input and the result reduced to its size (Pillow bicubic)."""
    reduced = Image.fromarray(result).resize((small.shape[1], small.shape[0]), Image.Resampling.BICUBIC)
    return psnr(np.asarray(reduced), small)


METRICS = {"psnr": psnr_y, "ssim": ssim_y, "gmsd": gmsd_y, "gradient_ratio": gradient_ratio}
"""Measures of (result, original) by name."""
