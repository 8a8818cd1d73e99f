"""How an enlarged picture becomes the photo again, and back, along one side and near any place of it.

The reduction is the antialiased bicubic one of ``xpsr explore`` (``exploring/operators.py``), there as a full matrix
per side. Here it is taps: every value needs the few around it, so a photo of any size can go through it in rows. That
holds for the inverse of ``R R^T`` too, whose weights fall by a factor of 3 from pixel to pixel.
"""

# shapes: N outputs of the enlarged side, n of the photo's

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from xpsr_cli.upscaling.resample import Axis, bicubic

SMALLEST = 1e-6
"""Weights of the inverse below this part of the largest one are left out; float32 could hardly tell."""
_BLOCK = 64
"""Rows of the inverse that are computed at a time, from the part of ``R R^T`` around them."""


class Reduction:
    """One side of ``large`` pixels and the same of ``small``, with ``R`` (n, N) the reduction.

    ``reduce`` is ``R``, ``spread`` its transpose, ``solve`` the inverse of ``R R^T``. Near scale 1 the inverse reaches
    far, 100 pixels and more, as ``R`` there all but loses the finest detail in places; from scale 1.1 on it is 12.
    """

    def __init__(self, large: int, small: int) -> None:
        self.reduce = Axis.resizing(large, small, bicubic)
        self.spread = _transposed(self.reduce, large)
        self.solve = _inverse(self.reduce, small)


def _transposed(axis: Axis, length: int) -> Axis:
    """Of ``length`` outputs, which are the inputs of ``axis``."""
    weights, indices = axis.taps()
    outputs, taps = torch.nonzero(weights, as_tuple=True)  # of which outputs rise
    inputs, values = indices[outputs, taps], weights[outputs, taps].double()
    first = torch.full((length,), len(weights)).scatter_reduce(0, inputs, outputs, "amin")
    place = outputs - first[inputs]
    count = int(place.max()) + 1
    turned = torch.zeros(length, count, dtype=torch.float64)
    turned[inputs, place] = values
    return Axis(turned, (first[:, None] + torch.arange(count)).clamp_max(len(weights) - 1))


def _inverse(axis: Axis, length: int) -> Axis:
    """The inverse of ``R R^T`` for the ``R`` (n, N) of ``axis``, whose ``length`` is n."""
    reach = 16
    while True:
        rows = np.concatenate([_inverse_rows(axis, first, length, reach) for first in range(0, length, _BLOCK)])
        heaviest = np.abs(rows).max(axis=0)  # by distance
        (counting,) = np.nonzero(heaviest > SMALLEST * heaviest.max())
        needed = int(np.abs(counting - reach).max())
        if needed < reach or reach >= length:
            break
        reach *= 2
    rows = rows[:, reach - needed : reach + needed + 1]
    indices = torch.arange(length)[:, None] + torch.arange(-needed, needed + 1)
    return Axis(torch.from_numpy(rows), indices.clamp(0, length - 1))


def _inverse_rows(axis: Axis, first: int, length: int, reach: int) -> NDArray[np.float64]:
    """Some rows of the inverse, (rows, 2 reach + 1) by distance; 0 beyond the sides of the picture."""
    last = min(first + _BLOCK, length)
    begin, end = max(first - 2 * reach, 0), min(last + 2 * reach, length)
    weights, indices = (part[begin:end].numpy() for part in axis.taps())
    nearest = int(indices.min())
    matrix = np.zeros((end - begin, int(indices.max()) + 1 - nearest))
    np.add.at(matrix, (np.arange(end - begin)[:, None], indices - nearest), weights)
    inverse = np.linalg.inv(matrix @ matrix.T)[first - begin : last - begin]
    padded = np.pad(inverse, ((0, 0), (reach, reach)))
    return np.stack([row[start : start + 2 * reach + 1] for start, row in enumerate(padded, first - begin)])
