"""The prior that ships: a small pixel cascade in the form of Imagen and DeepFloyd IF, drawn from words.

Its base makes whole pictures of up to 64 pixels, its refiner makes them four times as large, as often as it takes.
"""

# shapes: H W pixels of a stage's picture, R guidance rows (1, or 2: negative, positive), L text tokens

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import DDIMScheduler
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.exploring.operators import Size
from xpsr_cli.exploring.priors import Predict, PriorStage, Request
from xpsr_cli.exploring.stages import GuidedNetwork, PixelStage, guidance_texts, words_only
from xpsr_cli.exploring.text_score import TextScorer
from xpsr_cli.integrity import hash_file
from xpsr_cli.models.pixel_cascade import BASE, REFINER, PixelCascade, conditions, load_parts
from xpsr_cli.sampling.noise import window_noise
from xpsr_cli.sampling.tiles import Blend, Window, window_grid

ENLARGEMENT = 4
"""How much larger the refiner makes a picture at most."""
MOST_PX = 2048
TILE_PX, OVERLAP_PX = 512, 64
"""The refiner sees larger pictures in parts."""
_LEVEL_NOISE = 2**32 - 1
"""Number of the draw of the noise that a refiner's smaller picture gets; sampling counts from 0."""


def load_cascade(folder: Path, placement: Placement) -> CascadePrior:
    """The pixel cascade in ``folder``, its networks at ``placement``.

    Raises:
        WeightsError: it is none, has no refiner, or something is missing, damaged or of another shape.
    """
    cascade = load_parts(folder)
    for stage in (BASE, REFINER):
        if stage not in cascade.unets:
            raise WeightsError(f"{folder} has no {stage}/ folder.", f"Train one with --config xpsr-explore-{stage}.")
    return CascadePrior(cascade, placement)


class CascadePrior:
    """A pixel cascade as :class:`~xpsr_cli.exploring.priors.Prior`."""

    def __init__(self, cascade: PixelCascade, placement: Placement) -> None:
        self._cascade = cascade
        self._placement = placement
        for network in (cascade.text_encoder, *cascade.unets.values()):
            placement.place(network)
        self._signals = DDIMScheduler.from_config(cascade.scheduler_config).alphas_cumprod

    @property
    def name(self) -> str:
        """As its card says."""
        return self._cascade.name

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Name, SHA-256 over the weights, device and precision."""
        hashes = "".join(hash_file(path) for path in self._cascade.weights_files)
        return {
            "model": self.name,
            "weights": hashlib.sha256(hashes.encode()).hexdigest(),
            "device": self._placement.device.type,
            "precision": str(self._placement.dtype).removeprefix("torch."),
        }

    @property
    def vocabulary(self) -> Sequence[str]:
        """The words it was trained on."""
        return self._cascade.vocabulary

    @cached_property
    def scorers(self) -> Mapping[str, TextScorer]:
        """Those in its folder."""
        device, tokenizer = self._placement.device, self._cascade.tokenizer
        return {
            name: TextScorer(clip.to(device), tokenizer, f"{self.name}/{name}")
            for name, clip in self._cascade.scorers.items()
        }

    def stages(self, small: Size, large: Size) -> list[PriorStage]:
        """The base unless the small picture is as large as its own, then refiners up to ``large``.

        Raises:
            UsageError: a side of ``large`` of more than 2048 pixels.
        """
        longest = max(large)
        if longest > MOST_PX:
            raise UsageError(
                f"{self.name} makes pictures of up to {MOST_PX} pixels on a side, not {large[1]} x {large[0]}.",
                "Choose a smaller scale.",
            )
        base_px = self._cascade.cards[BASE].picture_px
        if longest <= base_px:
            return [self._stage(BASE, large)]
        stages, reached = [], max(small)
        size = self._fitted(base_px, large)
        if all(few < many for few, many in zip(small, size, strict=True)):
            stages, reached = [self._stage(BASE, size)], base_px
        while reached * ENLARGEMENT < longest:
            reached *= ENLARGEMENT
            stages.append(self._stage(REFINER, self._fitted(reached, large)))
        return [*stages, self._stage(REFINER, large)]

    def _fitted(self, longest: int, large: Size) -> Size:
        """The shape of ``large`` with this longest side, in cells that the networks can halve."""
        cell = 2 ** (len(self._cascade.unets[BASE].config.block_out_channels) - 1)
        height, width = (max(cell, round(side * longest / max(large) / cell) * cell) for side in large)
        return height, width

    def _stage(self, name: str, size: Size) -> PixelStage:
        make = partial(self._base if name == BASE else self._refiner, size)
        return PixelStage(name, size, self._cascade.cards[name].steps, self._cascade.scheduler_config, make)

    def _base(self, size: Size, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        words_only(request, self.name)
        card = self._cascade.cards[BASE]
        scale = card.guidance_scale if request.guidance_scale is None else request.guidance_scale
        tokens = self._tokens(request, scale)
        return GuidedNetwork(
            self._cascade.unets[BASE],
            self._placement,
            scale=scale,
            conditions=conditions(BASE, self._cascade.text_encoder, tokens),
            rows=len(tokens),
        )

    def _refiner(self, size: Size, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        """Of the enlarged picture before, noised a little; the given one, where none is before, stays as it is.

        The words count as much as the request says where no base has heard it, else as the card does.
        """
        words_only(request, self.name)
        card = self._cascade.cards[REFINER]
        asked = request.guidance_scale if before_pm1 is None else None
        scale = card.guidance_scale if asked is None else asked
        smaller = given_pm1 if before_pm1 is None else before_pm1
        level = 0 if before_pm1 is None else card.noise_level
        enlarged = F.interpolate(smaller.float(), size, mode="bilinear", align_corners=False)
        signal = self._signals[level]
        noise = window_noise(Window(0, 0, *size), 3, seed=request.seed, draw=_LEVEL_NOISE)
        seen = signal.sqrt() * enlarged + (1 - signal).sqrt() * noise
        tokens = self._tokens(request, scale)
        levels = torch.full((len(tokens),), level, device=self._placement.device)
        told = conditions(REFINER, self._cascade.text_encoder, tokens, levels)

        def part(window: Window) -> GuidedNetwork:
            return GuidedNetwork(
                self._cascade.unets[REFINER],
                self._placement,
                scale=scale,
                conditions=told,
                beside=window.crop(seen),
                rows=len(tokens),
            )

        return _in_parts(part, size)

    def _tokens(self, request: Request, scale: float) -> Tensor:
        """(R, L) of the texts, on the device."""
        tokenizer = self._cascade.tokenizer
        tokens: Tensor = tokenizer(
            guidance_texts(request.prompt, request.negative_prompt, scale),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )["input_ids"]
        return tokens.to(self._placement.device)


def _in_parts(part: Any, size: Size) -> Predict:
    """Predictions of overlapping parts of a picture, blended; a picture that is no larger than one is seen whole."""
    windows = window_grid(*size, TILE_PX, OVERLAP_PX)
    parts = [(window, part(window)) for window in windows]
    if len(parts) == 1:
        whole: Predict = parts[0][1]
        return whole
    blend = Blend(windows)

    def predict(canvas: Tensor, timestep: int) -> Tensor:
        total = torch.zeros_like(canvas)
        for window, network in parts:
            share = network(window.crop(canvas), timestep) * blend.share(window)
            total = total + F.pad(
                share,
                (window.x, size[1] - window.x - window.w, window.y, size[0] - window.y - window.h),
            )
        return total

    return predict
