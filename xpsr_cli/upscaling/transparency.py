"""Colours under (nearly) full transparency: whatever a file holds there must not bleed into what is seen."""

# shapes: H W pixels

from __future__ import annotations

import numpy as np

from xpsr_cli.photos.photo import Floats

REACH_PX = 16
"""How far into the hidden part the visible colours are carried, in pixels of the input."""


HIDDEN_BELOW = 8 / 255
"""Opacity below which a colour counts as hidden: files that stored it premultiplied no longer know it."""


def fill_hidden(colour: Floats, alpha: Floats) -> Floats:
    """``colour`` (H, W, 3) with the hidden pixels near visible ones taking their colours.

    A hidden pixel (``alpha`` (H, W) below :data:`HIDDEN_BELOW`) takes the mean of its neighbours that have a colour,
    ring by ring, up to :data:`REACH_PX` rings. A pixel depends on nothing farther away than that, so windows agree on
    it.
    """
    known = alpha >= HIDDEN_BELOW
    if known.all() or not known.any():
        return colour
    colour = colour.copy()
    for _ in range(REACH_PX):
        total, count = _around(np.where(known[..., None], colour, 0)), _around(known[..., None].astype(np.float32))
        ring = ~known & (count[..., 0] > 0)
        if not ring.any():
            break
        colour[ring] = total[ring] / count[ring]
        known |= ring
    return colour


def _around(values: Floats) -> Floats:
    """The sum of the eight neighbours of every pixel of (H, W, C), always in the same order."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
    height, width = values.shape[:2]
    total = np.zeros_like(values)
    for y in range(3):
        for x in range(3):
            if (y, x) != (1, 1):
                total += padded[y : y + height, x : x + width]
    return total
