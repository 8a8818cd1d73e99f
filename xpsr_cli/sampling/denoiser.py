"""The denoiser, in three layers: XPSR on windows, guidance over it, a tiled canvas over that.

Every network call has the same shape, one window with its guidance rows, because kernels round differently for
different batch sizes: a photo must not depend on how many windows are evaluated at a time.
"""

# shapes: R guidance rows (1, or 2: negative, positive), c latent channels, H W canvas and h w window latent cells,
#         f pixels per latent cell (8), L text tokens, D text width

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.sampling.tiles import Blend, Centre, Window, gaussian_weights

FEATURE_BYTES = 2 * 2**30
"""Image features kept between steps; windows beyond that have theirs computed again at every step."""


class Denoiser(Protocol):
    """Predicts the noise (or velocity) in latents of the whole canvas."""

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        """(1, c, H, W) float32 in memory to the same."""


class WindowDenoiser(Protocol):
    """Predicts the noise (or velocity) in the latents of one window."""

    def __call__(self, latents: Tensor, timestep: int, window: Window) -> Tensor:
        """(1, c, h, w) float32 in memory to the same, or to (R, c, h, w) before guidance."""


class XpsrDenoiser:
    """ControlNet and UNet on one window, all guidance rows in one batch.

    What does not change from step to step is computed once: prompts arrive encoded, and the image pyramid of a window
    is kept. The degradation-free heads are never evaluated.

    Args:
        unet, controlnet: networks, already at ``placement``.
        prompts: one pair of text embeddings (1, L, D) per guidance row.
        image_01: the condition photo, (1, 3, f*H, f*W) in [0, 1], in memory.
        conditioning_scale: factor on the ControlNet's residuals.
    """

    def __init__(
        self,
        unet: XpsrUNet,
        controlnet: XpsrControlNet,
        prompts: Sequence[PromptPair],
        image_01: Tensor,
        placement: Placement,
        *,
        conditioning_scale: float = 1.0,
    ) -> None:
        self.unet = unet
        self.controlnet = controlnet
        self.image_01 = image_01
        self.placement = placement
        self.conditioning_scale = conditioning_scale
        self.high = placement.put(torch.cat([pair.high for pair in prompts]))  # (R, L, D)
        lows = [pair.low for pair in prompts if pair.low is not None]
        self.low = placement.put(torch.cat(lows)) if lows else None
        self._features: dict[Window, Tensor] = {}
        self._kept_bytes = 0

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timestep: int, window: Window) -> Tensor:
        rows = self.high.shape[0]
        sample = self.placement.put(latents.expand(rows, -1, -1, -1))
        control = self.controlnet(
            sample,
            timestep,
            self.high,
            self.low,
            image_features=self._image_features(window),  # (1, C_0, h, w): the same for every row
            conditioning_scale=self.conditioning_scale,
        )
        return self.placement.fetch(self.unet(sample, timestep, self.high, control))

    def _image_features(self, window: Window) -> Tensor:
        """The image pyramid of a window, from the first step that asked for it."""
        kept = self._features.get(window)
        if kept is not None:
            return kept
        factor = self.controlnet.pyramid.downscale
        features = self.controlnet.encode_image(self.placement.put(window.scaled(factor).crop(self.image_01)))
        if self._kept_bytes + features.nbytes <= FEATURE_BYTES:
            self._kept_bytes += features.nbytes
            self._features[window] = features
        return features


class Guided:
    """Classifier-free guidance: ``negative + scale * (positive - negative)`` over a two-row denoiser (spec C2).

    At scale 1 that is the positive row, which is then the only one worth evaluating: see :func:`guidance_rows`.
    """

    def __init__(self, denoiser: WindowDenoiser, scale: float) -> None:
        self.denoiser = denoiser
        self.scale = scale

    def __call__(self, latents: Tensor, timestep: int, window: Window) -> Tensor:
        rows = self.denoiser(latents, timestep, window)
        if rows.shape[0] == 1:
            return rows
        negative, positive = rows.chunk(2)
        return negative + self.scale * (positive - negative)


def guidance_rows(scale: float, negative: PromptPair, positive: PromptPair) -> list[PromptPair]:
    """The prompt pairs that guidance of ``scale`` needs.

    Only scale 1 is without the negative row. Below 1, where the released script silently ignores the scale, the
    formula is followed: 0 is the negative prompt alone.
    """
    return [positive] if scale == 1.0 else [negative, positive]


class Tiled:
    """A window denoiser over a whole canvas: predictions are blended at every step, before the scheduler sees them.

    ``at_a_time`` windows are evaluated concurrently, each in its own call, so the result does not depend on it.
    """

    def __init__(
        self,
        denoiser: WindowDenoiser,
        windows: Sequence[Window],
        *,
        centre: Centre = Centre.MIDDLE,
        at_a_time: int = 1,
    ) -> None:
        self.denoiser = denoiser
        self.blend = Blend(windows, lambda window: gaussian_weights(window, centre))
        self.at_a_time = at_a_time

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        def predict(window: Window) -> Tensor:
            return self.denoiser(window.crop(latents), timestep, window)

        canvas = self.blend.empty(*latents.shape[:2])
        windows = self.blend.windows
        if self.at_a_time == 1 or len(windows) == 1:
            for index, window in enumerate(windows):
                self.blend.add(canvas, index, predict(window))
            return canvas
        with ThreadPoolExecutor(self.at_a_time) as pool:
            for first in range(0, len(windows), self.at_a_time):  # in groups, so that few predictions are held
                group = windows[first : first + self.at_a_time]
                for index, prediction in enumerate(pool.map(predict, group), start=first):
                    self.blend.add(canvas, index, prediction)
        return canvas
