"""Blur kernels: Gaussians, round and long, with heavier or lighter tails; with a plateau; and low-pass ones that ring.

The families of Real-ESRGAN (ICCVW 2021, section 3.1 and equation 6), drawn with the probabilities of a preset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

KERNEL_PX = 21
"""Kernels are this wide and high, smaller ones with zeros around them."""

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Kernel:
    """A kernel that was drawn: its family, and the parameters that the family has."""

    family: str  # iso, aniso, generalised_iso, generalised_aniso, plateau_iso, plateau_aniso or sinc
    size_px: int  # odd, KERNEL_PX at most
    sigma_x_px: float = 0.0
    sigma_y_px: float = 0.0
    angle: float = 0.0  # radians
    beta: float = 1.0  # exponent of the squared distance
    cutoff: float = 0.0  # of sinc, radians per pixel

    def weights(self) -> Weights:
        """The (21, 21) kernel, which sums to one."""
        if self.family == "sinc":
            return sinc_kernel(self.cutoff, self.size_px)
        make = plateau_kernel if self.family.startswith("plateau") else gaussian_kernel
        return make(self.sigma_x_px, self.sigma_y_px, self.angle, self.beta, self.size_px)


def gaussian_kernel(
    sigma_x: float, sigma_y: float, angle: float, beta: float = 1.0, size_px: int = KERNEL_PX
) -> Weights:
    """``exp(-0.5 d^(2 beta))``, d the Mahalanobis distance: a Gaussian where ``beta`` is 1."""
    return _padded(np.exp(-0.5 * _squared_distance(sigma_x, sigma_y, angle, size_px) ** beta))


def plateau_kernel(
    sigma_x: float, sigma_y: float, angle: float, beta: float = 1.0, size_px: int = KERNEL_PX
) -> Weights:
    """``1 / (1 + d^(2 beta))``, d the Mahalanobis distance: flat in the middle, more so with a large ``beta``."""
    return _padded(1 / (1 + _squared_distance(sigma_x, sigma_y, angle, size_px) ** beta))


def sinc_kernel(cutoff: float, size_px: int = KERNEL_PX) -> Weights:
    """What passes only frequencies below ``cutoff`` in radians per pixel, and rings at edges (equation 6)."""
    x, y = _grid(size_px)
    radius = np.hypot(x, y)
    radius[size_px // 2, size_px // 2] = 1  # the limit there is set below
    kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size_px // 2, size_px // 2] = cutoff**2 / (4 * np.pi)
    return _padded(kernel)


def spread_px(kernel: Weights) -> float:
    """How far a kernel blurs: the standard deviation of the Gaussian that lets as much white noise through.

    Of a Gaussian it is the geometric mean of its two deviations. Kernels that are cut off, have other tails or ring
    look like Gaussians of this deviation, too, where their nominal sigma is off by a factor of up to three.
    """
    return 1 / math.sqrt(4 * math.pi * float((kernel.astype(np.float64) ** 2).sum()))


def _grid(size_px: int) -> list[NDArray[np.float64]]:
    span = np.arange(size_px, dtype=np.float64) - size_px // 2
    return list(np.meshgrid(span, span))


def _squared_distance(sigma_x: float, sigma_y: float, angle: float, size_px: int) -> NDArray[np.float64]:
    x, y = _grid(size_px)
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma_x
    across = (-x * math.sin(angle) + y * math.cos(angle)) / sigma_y
    return along**2 + across**2


def _padded(kernel: NDArray[np.float64]) -> Weights:
    edge = (KERNEL_PX - len(kernel)) // 2
    return np.pad(kernel / kernel.sum(), edge).astype(np.float32)
