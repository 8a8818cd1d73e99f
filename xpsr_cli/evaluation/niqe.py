"""NIQE: how far the statistics of a picture's blocks are from those of pristine photos (Mittal et al. 2013).

A no-reference measure; lower is better. Luma is normalised by its local mean and deviation; the blocks of 96 pixels,
and those of 48 of the picture at half its size, are described by 18 parameters each of generalised Gaussians fitted to
the values and to the products of neighbours. The score is the distance between the Gaussian of these 36 parameters and
the one of 125 pristine photos, which the authors published (``niqe_pristine.txt``).

As the tables of super-resolution have it (``niqe`` of pyiqa): luma is 0.299 R + 0.587 G + 0.114 B in single
precision, rounded, no border is cropped, and the half-size picture is that of MATLAB's ``imresize``.
"""

# shapes: a plane is (H, W) float64 in [0, 255]; n blocks; blocks are (n, h, w); features are (n, 18) for each scale

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.special import gamma

from xpsr_cli.photos.photo import Pixels

BLOCK_PX = 96
PRISTINE = "niqe_pristine.npz"
_WINDOW_SIGMA = 7 / 6
_LUMA = (0.299, 0.587, 0.114)
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns by which the blocks are moved for the products of neighbours."""

Array = NDArray[np.float64]


def niqe(photo_u8: Pixels) -> float:
    """NIQE of a photo (H, W, 3); lower is better.

    NaN where the statistics do not exist: a photo with less than two blocks of 96 pixels, or flat ones.
    """
    red, green, blue = np.moveaxis(photo_u8.astype(np.float32) / 255, -1, 0)
    luma = (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]) * 255  # which way halves are rounded hangs on this
    return niqe_of_plane(np.round(luma).astype(np.float64))


def niqe_of_plane(plane: Array) -> float:
    """NIQE of luma (H, W) in [0, 255] as it is; see :func:`niqe`."""
    rows, columns = (side // BLOCK_PX for side in plane.shape)
    if rows * columns < 2:
        return math.nan
    plane = plane[: rows * BLOCK_PX, : columns * BLOCK_PX]
    with np.errstate(divide="ignore", invalid="ignore"):
        features = [
            _features(_blocks(_normalised(plane), BLOCK_PX)),
            _features(_blocks(_normalised(_halved(plane)), BLOCK_PX // 2)),
        ]
    return _distance(np.concatenate(features, axis=1))


def _distance(features: Array) -> float:
    """Between the Gaussian of the blocks (n, 36) and the pristine one (equation 10).

    As the authors have it, a block without some parameter counts for the mean of the others, not for the covariance.
    """
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        return math.nan
    pristine_mean, pristine_covariance = _pristine()
    apart = pristine_mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((pristine_covariance + np.cov(whole, rowvar=False)) / 2)
    return float(np.sqrt(apart @ inverse @ apart))


@cache
def _pristine() -> tuple[Array, Array]:
    """Mean (36,) and covariance (36, 36) of the parameters of pristine photos."""
    with (files(__package__) / PRISTINE).open("rb") as file, np.load(file) as model:
        return model["mean"], model["covariance"]


def _normalised(plane: Array) -> Array:
    """Mean-subtracted, contrast-normalised values (equation 1), with a 7 x 7 Gaussian window.

    In flat areas the score hangs on the sign of what rounding leaves of value less mean. In the tables that is always
    negative: their window is one of single precision, whose weights add up to a little more than 1. So do these.
    """
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * _WINDOW_SIGMA**2))
    taps /= taps.sum()
    taps *= math.sqrt(np.outer(taps, taps).astype(np.float32).sum(dtype=np.float64))

    def local_mean(values: Array) -> Array:
        return correlate1d(correlate1d(values, taps, 0, mode="nearest"), taps, 1, mode="nearest")

    mean = local_mean(plane)
    deviation = np.sqrt(np.abs(local_mean(plane * plane) - mean * mean))
    return (plane - mean) / (deviation + 1)


def _halved(plane: Array) -> Array:
    """Half the size, as MATLAB's ``imresize`` makes it: cubic (a = -0.5) stretched to eight taps, borders mirrored."""
    x = np.abs(np.arange(-3.5, 4)) / 2
    taps = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    taps /= taps.sum()
    for axis in (0, 1):  # origin -1: the taps of row k are those from k - 3 to k + 4
        plane = correlate1d(plane, taps, axis, mode="reflect", origin=-1)
        plane = plane[::2] if axis == 0 else plane[:, ::2]
    return plane


def _blocks(plane: Array, side: int) -> Array:
    """The plane (H, W) cut into (n, side, side), without rest."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    return plane.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def _features(blocks: Array) -> Array:
    """(n, h, w) to (n, 18): shape and spread of the values; shape, mean and spreads of four products of neighbours."""
    shape, left, right = _fitted(blocks)
    features = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _fitted(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)  # equation 8
        features += [shape, mean, left, right]
    return np.stack(features, axis=1)


@cache
def _shapes() -> tuple[Array, Array]:
    """Shape parameters of a generalised Gaussian from 0.2 to 10, and their squared mean over mean square."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))


def _fitted(values: Array) -> tuple[Array, Array, Array]:
    """Shape, left and right scale of the asymmetric generalised Gaussian of each block, by its moments (equation 7).

    A scale is NaN where a block has no value on that side; the shape is the first of the table then, as in MATLAB.
    """
    squares = values * values
    negative, positive = values < 0, values > 0
    left = np.sqrt(np.sum(squares, axis=(1, 2), where=negative) / negative.sum(axis=(1, 2)))
    right = np.sqrt(np.sum(squares, axis=(1, 2), where=positive) / positive.sum(axis=(1, 2)))
    ratio = left / right
    moments = np.mean(np.abs(values), axis=(1, 2)) ** 2 / np.mean(squares, axis=(1, 2))
    wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, table = _shapes()  # the table rises
    above = np.clip(np.searchsorted(table, wanted), 1, len(table) - 1)
    nearest = np.where(wanted - table[above - 1] <= table[above] - wanted, above - 1, above)
    shape = shapes[np.where(np.isnan(wanted), 0, nearest)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
