"""How sharp a photo is: the Gaussian blur that explains how fast the power of its details falls with frequency.

Edges, the details of photos, have a power spectrum of one over frequency squared (Field 1987); a blur multiplies it by
its own, noise adds a constant, JPEG rounds. All of it is put together and compared with the most detailed blocks.
"""

# shapes: N blocks, 64 frequencies in the order of rows of an 8 x 8 block, S blurs, A amplitudes

from __future__ import annotations

from functools import cache

import numpy as np

from xpsr_cli.captioning.block_spectrum import FREQUENCY_SQUARED, ORDER, rounded_power, spectrum
from xpsr_cli.captioning.sample_windows import Blocks
from xpsr_cli.photos.photo import Floats

_SIGMAS_PX = np.concatenate([np.linspace(0, 1.6, 33), np.linspace(1.7, 4, 24)])
_AMPLITUDES = np.geomspace(1, 1e5, 40)
_BANDS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 8), (9, 10), (11, 14))  # orders, both ends included
_DETAILED = 0.3  # of the blocks
_FEWEST = 4  # blocks
_USUAL_PX, _SPREAD_PX = 0.65, 0.25  # of the blur of photos, the heavy tails of a Cauchy distribution beyond
_MORE_NOISE = (1.0, 1.4)  # than can be seen through JPEG: where there is detail less of it is rounded away
_FLAT = 1.0  # power of the slowest frequency, in 1/255 squared, below which there is nothing to judge by
_ROUNDING = 0.1  # variance of rounding to 8 bits, and a little
_SOFTENING = 0.5  # added to powers before their logarithm
_TOLERANCE = 1.0  # squared difference of logarithms, summed over the bands, that photos show anyway


def has_detail(blocks: Blocks) -> bool:
    """Whether there is anything to judge sharpness by."""
    return bool(_detailed_power(blocks)[ORDER == 1].mean() >= _FLAT)


def blur_sigma(blocks: Blocks, steps: Floats | None, luma_noise: float) -> float:
    """Standard deviation of the blur in pixels, 0 to 4.

    ``steps`` (64,) are those JPEG rounded to, ``luma_noise`` the noise in 1/255.
    """
    observed = _detailed_power(blocks)
    prior = np.gradient(_SIGMAS_PX) / (1 + ((_SIGMAS_PX - _USUAL_PX) / _SPREAD_PX) ** 2)
    noises = [luma_noise * more for more in (_MORE_NOISE if steps is not None else (1.0,))]
    mismatch = np.stack([_mismatch(observed, noise, steps) for noise in noises])  # (noises, A, S)
    likelihood = np.exp((mismatch.min() - mismatch) / _TOLERANCE).sum(axis=(0, 1)) * prior
    return float((likelihood * _SIGMAS_PX).sum() / likelihood.sum())


def _detailed_power(blocks: Blocks) -> Floats:
    """(64,) mean power of the most detailed blocks."""
    power = np.square(spectrum(blocks.luma))
    detail = power[:, 1:].sum(axis=1)
    count = max(_FEWEST, int(len(blocks) * _DETAILED))
    return power[np.argsort(-detail, kind="stable")[:count]].mean(axis=0)


def _mismatch(observed: Floats, noise: float, steps: Floats | None) -> np.ndarray:
    """(A, S) squared differences of the logarithms of observed (64,) and expected power, summed over the bands."""
    expected = rounded_power(_details() + noise**2 + _ROUNDING, steps)
    mismatch = np.zeros(expected.shape[:2])
    for low, high in _BANDS:
        band = np.isin(ORDER, range(low, high + 1))
        difference = np.log(expected[..., band].mean(axis=-1) + _SOFTENING) - np.log(
            observed[band].mean() + _SOFTENING
        )
        mismatch += difference**2
    return mismatch


@cache
def _details() -> np.ndarray:
    """(A, S, 64) power of blurred edges."""
    edges = np.concatenate([[0.0], 1 / 64 / FREQUENCY_SQUARED[1:]])  # 1 at two half waves in eight pixels
    transfer = np.exp(-4 * np.pi**2 * np.square(_SIGMAS_PX)[:, None] * FREQUENCY_SQUARED)
    return _AMPLITUDES[:, None, None] * edges * transfer
