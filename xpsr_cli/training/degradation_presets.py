"""The presets of degradation as tables: which blurs, sizes, noises and JPEG qualities are drawn, and how often.

``xpsr`` is what XPSR was trained on, the second-order pipeline of Real-ESRGAN (XPSR section 4.1); ``light`` is for
photos that are merely soft, a little noisy or compressed; ``bicubic`` shrinks and does nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Range = tuple[float, float]
"""Lowest and highest value of a uniform draw."""

MODES = ("area", "bilinear", "bicubic")
FAMILIES = ("iso", "aniso", "generalised_iso", "generalised_aniso", "plateau_iso", "plateau_aniso")
KERNEL_SIZES_PX = tuple(range(7, 22, 2))
JPEG_QUALITY = (30.0, 95.0)


@dataclass(frozen=True)
class KernelTable:
    """Which kernel a blur has: a ringing one with ``sinc_probability``, otherwise one of the families."""

    sigma_px: Range
    families: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # probabilities, in the order of FAMILIES
    sizes_px: tuple[int, ...] = KERNEL_SIZES_PX
    angle: Range = (-math.pi, math.pi)
    generalised_beta: Range = (0.5, 4.0)  # half of them below one, half above
    plateau_beta: Range = (1.0, 2.0)  # likewise, so half of them are one
    sinc_probability: float = 0.1
    sinc_cutoff: Range = (math.pi / 5, math.pi)  # radians per pixel
    small_sinc_cutoff: Range = (math.pi / 3, math.pi)  # of kernels that are smaller than small_sinc_px
    small_sinc_px: int = 13


@dataclass(frozen=True)
class ResizeTable:
    """A random factor times the size of the photo, or of the small photo that is wanted."""

    of_small: bool
    up_down_keep: tuple[float, float, float] = (0.0, 0.0, 1.0)
    up: Range = (1.0, 1.0)
    down: Range = (1.0, 1.0)
    modes: tuple[str, ...] = MODES  # equally likely
    antialias: bool = False


@dataclass(frozen=True)
class NoiseTable:
    """Gaussian noise, or Poisson noise, which grows with the light; of the brightness alone or of every colour."""

    gaussian_sigma: Range  # in 1/255
    poisson_scale: Range  # 1 is the noise of 256 photons in white
    gaussian_probability: float = 0.5
    grey_probability: float = 0.4


@dataclass(frozen=True)
class Stage:
    """One pass of blur, resize, noise and JPEG; what is None does not happen."""

    resize: ResizeTable
    kernel: KernelTable | None = None
    blur_probability: float = 1.0
    noise: NoiseTable | None = None
    noise_probability: float = 1.0
    jpeg_quality: Range | None = None
    jpeg_probability: float = 1.0


@dataclass(frozen=True)
class Final:
    """The end of two stages: to the final size and through a ringing filter, then JPEG; or JPEG first."""

    jpeg_last_probability: float = 0.5
    jpeg_quality: Range = JPEG_QUALITY
    modes: tuple[str, ...] = MODES
    sinc_probability: float = 0.8
    sinc_cutoff: Range = (math.pi / 3, math.pi)
    sizes_px: tuple[int, ...] = KERNEL_SIZES_PX


@dataclass(frozen=True)
class Preset:
    """Stages in order; without a :class:`Final` the last of them resizes to the small photo."""

    stages: tuple[Stage, ...]
    final: Final | None = None


PRESETS = {
    "xpsr": Preset(
        stages=(
            Stage(
                kernel=KernelTable(sigma_px=(0.2, 3.0)),
                resize=ResizeTable(of_small=False, up_down_keep=(0.2, 0.7, 0.1), up=(1.0, 1.5), down=(0.15, 1.0)),
                noise=NoiseTable(gaussian_sigma=(1.0, 30.0), poisson_scale=(0.05, 3.0)),
                jpeg_quality=JPEG_QUALITY,
            ),
            Stage(
                kernel=KernelTable(sigma_px=(0.2, 1.5)),
                blur_probability=0.8,
                resize=ResizeTable(of_small=True, up_down_keep=(0.3, 0.4, 0.3), up=(1.0, 1.2), down=(0.3, 1.0)),
                noise=NoiseTable(gaussian_sigma=(1.0, 25.0), poisson_scale=(0.05, 2.5)),
            ),
        ),
        final=Final(),
    ),
    "light": Preset(
        stages=(
            Stage(
                kernel=KernelTable(
                    sigma_px=(0.5, 3.2),
                    families=(0.51, 0.34, 0.09, 0.06, 0.0, 0.0),
                    sizes_px=KERNEL_SIZES_PX[-1:],
                    sinc_probability=0.0,
                ),
                resize=ResizeTable(of_small=True, antialias=True),
                noise=NoiseTable(gaussian_sigma=(0.5, 8.0), poisson_scale=(0.14, 0.55), gaussian_probability=0.7),
                noise_probability=0.6,
                jpeg_quality=(60.0, 98.0),
                jpeg_probability=0.4,
            ),
        )
    ),
    "bicubic": Preset(stages=(Stage(resize=ResizeTable(of_small=True, modes=("bicubic",), antialias=True)),)),
}
"""By the names that recipes use."""
