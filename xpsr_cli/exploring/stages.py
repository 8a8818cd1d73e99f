"""What the stages of published priors share: guidance over one network, and the sizes of a cascade."""

# shapes: R guidance rows (1, or 2: negative, positive), c channels of the canvas, H W its cells

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.operators import Size
from xpsr_cli.exploring.priors import Predict, Request


class GuidedNetwork:
    """A network's guided prediction of the noise (or velocity) in a canvas; keeps nothing of a call.

    All rows are one batch: ``negative + scale * (positive - negative)``. Of twice as many channels as the canvas has,
    the second half is a learned variance, which is left out.

    Args:
        network: a UNet of diffusers, already at ``placement``.
        scale: guidance; used with two rows only.
        conditions: arguments of the network that are the same in every step, on the device, R rows each.
        beside: (1, .., H, W) pictures that the network sees beside the canvas.
        rows: R.
    """

    def __init__(
        self,
        network: Any,
        placement: Placement,
        *,
        scale: float = 1.0,
        conditions: Mapping[str, Tensor] | None = None,
        beside: Tensor | None = None,
        rows: int = 1,
    ) -> None:
        self.network = network
        self.placement = placement
        self.scale = scale
        self.conditions = dict(conditions or {})
        self.beside = beside
        self.rows = rows

    def __call__(self, canvas: Tensor, timestep: int) -> Tensor:
        """(1, c, H, W) float32 to the same, in memory; differentiable."""
        channels, height, width = canvas.shape[1:]
        seen = canvas if self.beside is None else torch.cat([canvas, self.beside], dim=1)
        seen = _padded(seen, 2 ** (len(self.network.config.block_out_channels) - 1))
        batch = self.placement.put(seen.expand(self.rows, -1, -1, -1))
        predicted = self.network(batch, timestep, return_dict=False, **self.conditions)[0]
        predicted = self.placement.fetch(predicted)[:, :channels, :height, :width]
        if self.rows == 1:
            return predicted
        negative, positive = predicted.chunk(2)
        return negative + self.scale * (positive - negative)


@dataclass(frozen=True)
class PixelStage:
    """A stage of a cascade, in pixels: see :class:`~xpsr_cli.exploring.priors.PriorStage`.

    ``make_predictor`` takes what :meth:`predictor` does.
    """

    name: str
    size: Size
    steps: int
    scheduler_config: Mapping[str, Any]
    make_predictor: Callable[[Request, Tensor, Tensor | None], Predict]
    channels: int = 3
    cell_px: int = 1

    def predictor(self, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        """See :class:`~xpsr_cli.exploring.priors.PriorStage`."""
        with torch.no_grad():
            return self.make_predictor(request, given_pm1, before_pm1)

    def decode(self, canvas: Tensor) -> Tensor:
        """The canvas itself."""
        return canvas

    def encode(self, pixels: Tensor) -> Tensor:
        """The pixels themselves."""
        return pixels


def guidance_texts(prompt: str, negative_prompt: str, scale: float) -> list[str]:
    """The texts of the rows that guidance of ``scale`` needs: at 1, the prompt alone."""
    return [prompt] if scale == 1 else [negative_prompt, prompt]


def words_only(request: Request, name: str) -> None:
    """:class:`UsageError` for a request that mixes the picture into the words, of a prior that cannot."""
    if request.image_weight:
        raise UsageError(
            f"image_weight is {request.image_weight:g}, but {name} has no image embeddings to mix with the words.",
            "Leave it at 0, or use an unCLIP prior.",
        )


def cascade_sizes(small: Size, large: Size, native: Sequence[int], name: str) -> list[Size | None]:
    """The size at which each model of a cascade works, or ``None`` for one that is left out.

    ``native`` are the longest sides in pixels that the models were trained at, in their order. The last one used makes
    ``large``; those before keep its shape at their own size, and are left out where they would not enlarge ``small``.

    Raises:
        UsageError: ``large`` is larger than the last model makes.
    """
    longest = max(large)
    if longest > native[-1]:
        raise UsageError(
            f"{name} makes pictures of up to {native[-1]} pixels on a side, not {large[1]} x {large[0]}.",
            "Choose a smaller scale, or another prior.",
        )
    last = next(k for k, side in enumerate(native) if longest <= side)
    sizes: list[Size | None] = []
    for side in native[:last]:
        height, width = (max(few, round(many * side / longest)) for few, many in zip(small, large, strict=True))
        sizes.append(None if side <= max(small) else (height, width))
    return [*sizes, large, *[None] * (len(native) - last - 1)]


def _padded(x: Tensor, multiple: int) -> Tensor:
    """``x`` continued at the right and the bottom to sides that a network of several levels can halve."""
    down, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if not (down or right):
        return x
    reflects = down < x.shape[-2] and right < x.shape[-1]
    return F.pad(x, (0, right, 0, down), mode="reflect" if reflects else "replicate")
