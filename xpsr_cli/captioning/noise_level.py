"""How noisy a photo is: what is left in the fastest frequencies of its flattest blocks.

Noise is the same in all frequencies, detail fades towards the fast ones. JPEG takes the fast ones away: there, noise
and detail are told apart by how often coefficients were rounded to 0, 1, 2 or more of their steps.
"""

# shapes: N blocks, 64 frequencies in the order of rows of an 8 x 8 block

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from xpsr_cli.captioning.block_spectrum import ORDER, flattest, spectrum
from xpsr_cli.captioning.sample_windows import Blocks
from xpsr_cli.photos.photo import Floats

_FEWEST = 6  # blocks
_SHARE, _SHARE_JPEG = 0.07, 0.05  # of the blocks
_FASTEST = ORDER >= 12
_JPEG_USED = ORDER >= 2
_ROUNDING = 1 / 12  # variance of rounding to whole numbers

_SIGMAS = np.concatenate([[0.0], np.geomspace(0.3, 50, 45)])
_DETAILS = np.concatenate([[0.0], np.geomspace(0.5, 400, 40)])
_FADING = 0.24  # detail in flat blocks falls by exp(-0.24) with each step of order (shrunk photos)
_STRAY = 0.02  # share of coefficients that fit nothing
_RATIOS = np.geomspace(0.02, 60, 500)


class NoiseLevel(NamedTuple):
    """Standard deviations in 1/255: ``noise`` of a channel on average, ``luma_noise`` as it is seen in brightness."""

    noise: float
    luma_noise: float


def noise_level(blocks: Blocks, steps: Floats | None, *, rounded: bool) -> NoiseLevel:
    """Noise of a photo from its blocks; ``steps`` (64,) if JPEG rounded them, ``rounded`` if to 8 bits."""
    coefficients = spectrum(blocks.luma)
    if steps is None:
        chosen = flattest(blocks.luma, coefficients, _SHARE, _FEWEST)
        channels = [spectrum(blocks.colour[chosen][..., channel])[:, _FASTEST] for channel in range(3)]
        rounding = _ROUNDING if rounded else 0.0
        power = float(np.mean(np.square(channels)))
        luma_power = float(np.mean(np.square(coefficients[chosen][:, _FASTEST])))
        return NoiseLevel(max(power - rounding, 0.0) ** 0.5, max(luma_power - rounding, 0.0) ** 0.5)
    luma_noise = _through_jpeg(coefficients[flattest(blocks.luma, coefficients, _SHARE_JPEG, _FEWEST)], steps)
    return NoiseLevel(_in_colour(luma_noise), luma_noise)


def _in_colour(luma_noise: float) -> float:
    """Noise of the channels, of which JPEG leaves little but the brightness.

    Fitted to training pairs: noise that differs between channels cancels in part, and strong noise is cut.
    """
    return luma_noise**1.3


def _through_jpeg(coefficients: Floats, steps: Floats) -> float:
    """The noise in (N, 64) rounded coefficients: median of its likelihood, with any amount of fading detail."""
    multiples = np.minimum(np.rint(np.abs(coefficients) / steps), 3).astype(int)
    likelihood = np.zeros((len(_SIGMAS), len(_DETAILS)))
    for frequency in np.flatnonzero(_JPEG_USED):
        counts = np.bincount(multiples[:, frequency], minlength=4)
        detail = _DETAILS * np.exp(-_FADING * ORDER[frequency])
        ratio = np.hypot(_SIGMAS[:, None], detail) / steps[frequency]
        index = np.searchsorted(_RATIOS, ratio).clip(max=len(_RATIOS) - 1)
        likelihood += np.tensordot(counts, _log_shares()[:, index], axes=1)
    by_sigma = np.exp(likelihood - likelihood.max()).sum(axis=1)
    return float(np.interp(0.5, np.cumsum(by_sigma) / by_sigma.sum(), _SIGMAS))


@cache
def _log_shares() -> np.ndarray:
    """(4, ratios) logs of how often a normal variable is rounded to 0, 1, 2 and more steps."""
    within = [2 * ndtr(limit / _RATIOS) - 1 for limit in (0.5, 1.5, 2.5)]
    shares = [within[0], within[1] - within[0], within[2] - within[1], 1 - within[2]]
    anywhere = [0.8, 0.1, 0.04, 0.06]
    return np.log([(1 - _STRAY) * share + _STRAY * rest for share, rest in zip(shares, anywhere, strict=True)])
