"""What exploration needs of an image model: stages, each of which predicts the noise of a picture of its size.

A cascade has several stages in pixels, each of which sees what the one before made (Imagen's form: DeepFloyd IF,
unCLIP and the prior that ships); a latent model has one, and an autoencoder around it.
"""

# shapes: H W pixels of a stage's picture, c h w its canvas (3 H W in pixels), L text tokens, D text width

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from xpsr_cli.exploring.operators import Size
from xpsr_cli.exploring.text_score import TextScorer

Predict = Callable[[Tensor, int], Tensor]
"""(1, c, h, w) float32 at a timestep to the prediction of its scheduler's type, guided; differentiable."""


@dataclass(frozen=True)
class Request:
    """What one sample is to show: words, how much they count, and its seed.

    ``guidance_scale`` is that of the first stage or ``None`` for each stage's own. ``image_weight`` 0 to 1 is how much
    the given picture counts beside the words, for priors that have image embeddings (unCLIP).
    """

    prompt: str
    negative_prompt: str = ""
    guidance_scale: float | None = None
    seed: int = 0
    image_weight: float = 0.0


class PriorStage(Protocol):
    """One diffusion model of a prior, for pictures of one size."""

    @property
    def name(self) -> str:
        """Such as ``base``."""

    @property
    def size(self) -> Size:
        """(H, W) of its pictures in pixels."""

    @property
    def channels(self) -> int:
        """Of its canvas: 3 in pixels."""

    @property
    def cell_px(self) -> int:
        """Pixels per cell of the canvas: 1, or 8 for Stable Diffusion's latents."""

    @property
    def steps(self) -> int:
        """How many it takes unless told otherwise."""

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """The ``scheduler_config.json`` of its model; ``prediction_type`` is epsilon or v_prediction."""

    def predictor(self, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        """What is predicted for a request.

        ``given_pm1`` (1, 3, h, w) is the small picture, ``before_pm1`` (1, 3, .., ..) what the stage before made, both
        in [-1, 1]. Everything that is the same in every step is computed here.
        """

    def decode(self, canvas: Tensor) -> Tensor:
        """(1, c, h, w) clean canvas to pixels (1, 3, H, W) in about [-1, 1], float32; itself in pixels."""

    def encode(self, pixels: Tensor) -> Tensor:
        """The canvas of pixels; itself in pixels."""


class Prior(Protocol):
    """An image model that exploration draws from."""

    @property
    def name(self) -> str:
        """As ``--prior`` takes it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model, hash of its weights, device and precision: what decides the bytes of a sample besides the request."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The words it was trained on; empty where any text means something."""

    @property
    def scorers(self) -> Mapping[str, TextScorer]:
        """Who says how well pictures fit words, as ``judge`` and as ``scorer``; either may be missing."""

    def stages(self, small: Size, large: Size) -> list[PriorStage]:
        """The stages from a small picture (h, w) to a large one (H, W), the last of size ``large``.

        Raises :class:`~xpsr_cli.errors.UsageError` for a size that the prior cannot make.
        """
