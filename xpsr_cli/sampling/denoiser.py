"""The denoiser of a window: XPSR's networks, and classifier-free guidance over them.

Every network call has the same shape, one window with its guidance rows, because kernels round differently for
different batch sizes: a photo must not depend on how many windows are evaluated at a time.
"""

# shapes: R guidance rows (1, or 2: negative, positive), c latent channels, h w latent cells of a window,
#         f pixels per latent cell (8), L text tokens, D text width

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.sampling.tiles import CanvasImage, Window

FEATURE_BYTES = 2**28
"""Image features kept between steps; windows beyond that have theirs computed again at every step."""


_log = logging.getLogger(__name__)


WindowPrompts = Callable[[Window], PromptPair]
"""The text embeddings for a window, (R, L, D) each, in memory: see :func:`xpsr_cli.sampling.prompts.guidance_rows`."""


class WindowDenoiser(Protocol):
    """Predicts the noise (or velocity) in the latents of one window."""

    def __call__(self, latents: Tensor, timestep: int, window: Window) -> Tensor:
        """(1, c, h, w) float32 in memory to the same, or to (R, c, h, w) before guidance."""


class XpsrDenoiser:
    """ControlNet and UNet on one window, all guidance rows in one batch.

    What does not change from step to step is computed once: prompts arrive encoded, and the image pyramid of a window
    is kept, that of the reference too. The degradation-free heads are never evaluated. A window that overflows in half
    precision is predicted again in float32.

    Args:
        unet, controlnet: networks, already at ``placement``.
        prompts: the rows of text embeddings, which may differ from window to window.
        image: the condition photo, a window of f pixels per latent cell at a time.
        conditioning_scale: factor on the ControlNet's residuals.
        once: whether every window is evaluated only once, so that nothing of it need be kept.
        reference: what an activator made of the photo, of the same canvas as ``image``; for a model that has reference
            attention. All guidance rows read it: it is a condition of fidelity, as the photo itself.
    """

    def __init__(
        self,
        unet: XpsrUNet,
        controlnet: XpsrControlNet,
        prompts: WindowPrompts,
        image: CanvasImage,
        placement: Placement,
        *,
        conditioning_scale: float = 1.0,
        once: bool = False,
        reference: CanvasImage | None = None,
    ) -> None:
        self.unet = unet
        self.controlnet = controlnet
        self.prompts = prompts
        self.image = image
        self.placement = placement
        self.conditioning_scale = conditioning_scale
        self.reference = reference
        self._features: dict[tuple[bool, Window], Tensor] = {}  # by whether it is the reference's
        self._kept_bytes, self._most_bytes = 0, 0 if once else FEATURE_BYTES
        self._in_float32: XpsrDenoiser | None = None
        self._lock = Lock()

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timestep: int, window: Window) -> Tensor:
        texts = self.prompts(window)
        high = self.placement.put(texts.high)
        low = None if texts.low is None else self.placement.put(texts.low)
        sample = self.placement.put(latents.expand(high.shape[0], -1, -1, -1))
        features = self._image_features(window)  # (1, C_0, h, w): the same for every row
        reference = None if self.reference is None else self._reference_features(self.reference, window, features)
        control = self.controlnet(
            sample,
            timestep,
            high,
            low,
            image_features=features,
            conditioning_scale=self.conditioning_scale,
            reference=reference,
        )
        prediction = self.placement.fetch(self.unet(sample, timestep, high, control, reference))
        if self.placement.dtype is not torch.float32 and not bool(torch.isfinite(prediction).all()):
            _log.warning("A window overflowed in %s and is computed again in float32.", self.placement.dtype)
            return self._exact()(latents, timestep, window)
        return prediction

    def _exact(self) -> XpsrDenoiser:
        """The same denoiser in float32, made when it is first needed."""
        with self._lock:
            if self._in_float32 is None:
                placement = replace(self.placement, dtype=torch.float32)
                self._in_float32 = XpsrDenoiser(
                    placement.place(copy.deepcopy(self.unet)),
                    placement.place(copy.deepcopy(self.controlnet)),
                    self.prompts,
                    self.image,
                    placement,
                    conditioning_scale=self.conditioning_scale,
                    once=True,
                    reference=self.reference,
                )
            return self._in_float32

    def _image_features(self, window: Window) -> Tensor:
        """The image pyramid of a window, from the first step that asked for it."""
        return self._kept(
            (False, window), lambda: self.controlnet.encode_image(self.placement.put(self._pixels(self.image, window)))
        )

    def _reference_features(self, reference: CanvasImage, window: Window, features: Tensor) -> Tensor:
        """What attention reads of the reference in a window, alike; ``features`` are the photo's."""
        encode, exact = self.controlnet.encode_reference, replace(self.placement, dtype=torch.float32)

        def make() -> Tensor:
            seen, photo = (exact.put(self._pixels(image, window)) for image in (reference, self.image))
            return encode(seen, photo, features)

        return self._kept((True, window), make)

    def _pixels(self, image: CanvasImage, window: Window) -> Tensor:
        return image(window.scaled(self.controlnet.pyramid.downscale))

    def _kept(self, key: tuple[bool, Window], make: Callable[[], Tensor]) -> Tensor:
        """Features that are there already, or else made, and kept if there is room."""
        kept = self._features.get(key)
        if kept is not None:
            return kept
        features = make()
        with self._lock:
            if self._kept_bytes + features.nbytes <= self._most_bytes:
                self._kept_bytes += features.nbytes
                self._features[key] = features
        return features


class TunedDenoiser:
    """The UNet of a window without its ControlNet, steered by a skip tuner: what the activator ``scedit`` runs.

    The hints of a window are made at every step: they are cheap beside the UNet, and many.

    Args:
        unet, tuner: networks, already at ``placement``.
        prompts: the rows of text embeddings; only the high-level ones are read.
        image: the photo, a window of pixels at a time.
    """

    def __init__(
        self, unet: XpsrUNet, tuner: SkipTuner, prompts: WindowPrompts, image: CanvasImage, placement: Placement
    ) -> None:
        self.unet = unet
        self.tuner = tuner
        self.prompts = prompts
        self.image = image
        self.placement = placement

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timestep: int, window: Window) -> Tensor:
        high = self.placement.put(self.prompts(window).high)
        sample = self.placement.put(latents.expand(high.shape[0], -1, -1, -1))
        image = self.placement.put(self.image(window.scaled(self.tuner.downscale)))
        return self.placement.fetch(self.unet(sample, timestep, high, self.tuner.steering(image)))


class Guided:
    """Classifier-free guidance: ``negative + scale * (positive - negative)`` over a two-row denoiser (spec C2).

    At scale 1 that is the positive row, which is then the only one worth evaluating.
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
