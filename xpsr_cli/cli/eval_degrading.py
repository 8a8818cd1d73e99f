"""What makes small photos of large ones, for the sets that have none: training's own degradations."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpsr_cli.photos.photo import Pixels


def degrader(preset: str, scale: int) -> Callable[[Pixels, Sequence[int]], Pixels]:
    """A function of a large photo, whose sides are multiples of ``scale``, and of the numbers its draws come from.

    :class:`~xpsr_cli.errors.UsageError` for a preset that does not exist.
    """
    import numpy as np
    import torch

    from xpsr_cli.training.degradation import Degrader, to_u8

    degrade = Degrader({preset: 1.0}, scale)

    def small(large: Pixels, seed: Sequence[int]) -> Pixels:
        photo_01 = torch.from_numpy(np.ascontiguousarray(large.transpose(2, 0, 1))).float()[None] / 255
        pair = degrade(photo_01, [degrade.draw(seed)])
        return to_u8(pair.small_01[0].permute(1, 2, 0).numpy())

    return small
