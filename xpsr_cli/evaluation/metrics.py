"""Measures of a result against the large original and against the small input.

Protocol of the published RealSR tables (OSEDiff's script): luma is BT.601 limited range, PSNR on unrounded luma, SSIM
on rounded luma with the contrast-structure map clamped at zero, no border crop, mean of per-image values.
"""

# shapes: photos are (H, W, 3) uint8; luma is (H, W) float64 in [16, 235]

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, uniform_filter


def luma(photo_u8: np.ndarray) -> np.ndarray:
    """BT.601 limited-range Y, not rounded."""
    rgb = photo_u8.astype(np.float64)
    return 16 + (65.481 * rgb[..., 0] + 128.553 * rgb[..., 1] + 24.966 * rgb[..., 2]) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two arrays whose peak is 255; higher is better."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255.0**2 / error)


def psnr_y(result: np.ndarray, original: np.ndarray) -> float:
    """PSNR of luma in dB; higher is better, and it rewards blur."""
    return psnr(luma(result), luma(original))


def ssim_y(result: np.ndarray, original: np.ndarray) -> float:
    """SSIM of rounded luma (Wang et al. 2004), 11 x 11 Gaussian of 1.5 pixels, valid windows; higher is better."""
    a, b = np.round(luma(result)), np.round(luma(original))

    def local_mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a, var_b = local_mean(a * a) - mean_a**2, local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast_structure = np.maximum((2 * covariance + c2) / (var_a + var_b + c2), 0)
    return float(np.mean((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast_structure))


def _gradient(values: np.ndarray) -> np.ndarray:
    """Prewitt gradient magnitude."""
    kernel = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]) / 3
    return np.hypot(convolve(values, kernel, mode="constant"), convolve(values, kernel.T, mode="constant"))


def gmsd_y(result: np.ndarray, original: np.ndarray) -> float:
    """Gradient magnitude similarity deviation of luma (Xue et al. 2014), halved first; lower is better."""
    gradients = []
    for photo in (result, original):
        full = luma(photo)
        gradients.append(_gradient(uniform_filter(full, 2)[1::2, 1::2]))
    a, b = gradients
    similarity = (2 * a * b + 170) / (a * a + b * b + 170)
    return float(similarity.std())


def gradient_ratio(result: np.ndarray, original: np.ndarray) -> float:
    """RMS luma gradient of the result over that of the original; 1 is as sharp, but noise raises it too."""

    def rms(photo: np.ndarray) -> float:
        y = luma(photo)
        return float(np.sqrt(np.mean(np.diff(y, axis=0) ** 2) + np.mean(np.diff(y, axis=1) ** 2)))

    return rms(result) / rms(original)


def consistency_psnr(result: np.ndarray, small: np.ndarray) -> float:
    """RGB PSNR in dB between the small input and the result reduced to its size (Pillow bicubic)."""
    reduced = Image.fromarray(result).resize((small.shape[1], small.shape[0]), Image.Resampling.BICUBIC)
    return psnr(np.asarray(reduced), small)


METRICS = {"psnr": psnr_y, "ssim": ssim_y, "gmsd": gmsd_y, "gradient_ratio": gradient_ratio}
"""Measures of (result, original) by name."""
