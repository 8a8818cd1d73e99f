"""Parts of a large photo that get a high-level text of their own: a dog in one corner must not grow dogs in all."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from xpsr_cli.captioning.captions import Box

if TYPE_CHECKING:
    from xpsr_cli.photos.photo import PhotoInfo

REGION_PX = 384
"""Usual side of a region: three windows of 512 pixels in a photo enlarged four times."""


def region_boxes(info: PhotoInfo, side_px: int = REGION_PX) -> list[Box]:
    """Equal parts of about ``side_px`` a side that cover the photo, row by row; none where there would be one only."""
    columns, rows = (max(1, round(side / side_px)) for side in info.size)
    if columns * rows == 1:
        return []
    lefts = [info.width * column // columns for column in range(columns + 1)]
    tops = [info.height * row // rows for row in range(rows + 1)]
    return [
        Box(left, top, right - left, bottom - top) for top, bottom in pairwise(tops) for left, right in pairwise(lefts)
    ]
