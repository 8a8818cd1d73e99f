"""Noise that belongs to a place: one seed gives one picture, however the work is cut up.

A counter-based generator (Philox 4x32-10; Salmon et al., SC 2011) is keyed by the seed and addressed by draw, channel
and canvas cell. Nothing is consumed, so the noise of a window is the crop of the canvas' noise, and neither window
order, window batch, the position of a photo in a folder nor a restart can change it.
"""

# shapes: C channels, h w latent cells of a window

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpsr_cli.sampling.tiles import Window

POSTERIOR, FIRST, SECOND, STEP_0 = 0, 1, 2, 3
"""Numbers of the draws: the autoencoder's sample, first and second noising of the start latent, then one per step."""

Words = NDArray[np.uint64]  # 32-bit words, held in 64 bits so that products do not overflow

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


class NoiseSource(Protocol):
    """Standard normal noise for the whole canvas, by number of the draw."""

    def __call__(self, draw: int, window: Window) -> Tensor:
        """The cells under ``window``, (1, C, h, w) float32; the same draw always gives the same values."""


class CanvasNoise:
    """The noise of one photo, which is a :class:`NoiseSource` made from a seed."""

    def __init__(self, seed: int, channels: int) -> None:
        self.seed = seed
        self.channels = channels

    def __call__(self, draw: int, window: Window) -> Tensor:
        """See :class:`NoiseSource`."""
        return window_noise(window, self.channels, seed=self.seed, draw=draw)


def window_noise(window: Window, channels: int, *, seed: int, draw: int) -> Tensor:
    """Standard normal noise (1, C, h, w) float32 of the cells under ``window``.

    ``seed`` is 0 to 2**64 - 1, ``draw`` 0 to 2**32 - 1. Four channels share a call of Philox, which gives four words.
    """
    groups = -(-channels // 4)
    counter = np.broadcast_arrays(
        np.arange(window.x, window.x + window.w, dtype=np.uint64)[None, None, :],
        np.arange(window.y, window.y + window.h, dtype=np.uint64)[None, :, None],
        np.arange(groups, dtype=np.uint64)[:, None, None],
        np.uint64(draw),
    )
    key = (np.uint64(seed) & _LOW, np.uint64(seed) >> _HALF)
    a, b, c, d = philox(counter[0], counter[1], counter[2], counter[3], key)  # each (groups, h, w)
    normal = np.stack([*_box_muller(a, b), *_box_muller(c, d)], axis=1)  # (groups, 4, h, w)
    noise = normal.reshape(1, 4 * groups, window.h, window.w)[:, :channels]
    return torch.from_numpy(noise.astype(np.float32))


def philox(a: Words, b: Words, c: Words, d: Words, key: tuple[np.uint64, np.uint64]) -> tuple[Words, ...]:
    """Ten rounds of Philox 4x32: four counter words and two key words to four random words."""
    k0, k1 = key
    for _ in range(_ROUNDS):
        left, right = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b, c, d = (right >> _HALF) ^ b ^ k0, right & _LOW, (left >> _HALF) ^ d ^ k1, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return a, b, c, d


def _box_muller(a: Words, b: Words) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two random words to two independent standard normal numbers (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log((a + 0.5) / 2**32))
    angle = 2 * np.pi * (b / 2**32)
    return radius * np.cos(angle), radius * np.sin(angle)
