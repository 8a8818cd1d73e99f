"""The way from sampled latents to pixels: decoded block row by block row, colours tied to the input, exact size."""

# shapes: H W pixels of the canvas, h rows of a band

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.photos.photo import Photo, PhotoInfo, Region, quantize
from xpsr_cli.sampling.tiles import Window, block_rows
from xpsr_cli.settings import ColorFix
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.color import WAVELET_REACH_PX, Moments, adain, wavelet
from xpsr_cli.upscaling.plan import Plan
from xpsr_cli.upscaling.resample import Picture, Resized
from xpsr_cli.upscaling.seams import SeamMeter, SeamReport
from xpsr_cli.upscaling.stages import Stages

BAND_PX = 128
"""Rows of the result that are made at a time."""


class Decoded:
    """The photo at working size, (3, H, W) in [0, 1], decoded from top to bottom.

    ``decode`` makes the pixels of a block of latent cells (1, 3, ..), and ``rows`` are the blocks. Rows are to be read
    from top to bottom: those above the last read are forgotten.
    """

    def __init__(
        self, canvas: Canvas, decode: Callable[[Window], Tensor], rows: list[list[Window]], stages: Stages
    ) -> None:
        self.width, self.height = canvas.visible
        self._canvas = canvas
        self._decode = decode
        self._rows = rows
        self._stages = stages
        self._strips = self.strips()
        self._top, self._kept = 0, torch.empty(3, 0, self.width)

    def strips(self) -> Iterator[Tensor]:
        """All of it, a row of blocks (3, h, W) at a time, without the padding of the canvas."""
        top = 0
        for row in self._rows:
            strip = torch.cat([self._decode(block)[0] for block in row], dim=2)
            self._stages.progress.advance()
            if top < self.height:
                yield strip[:, : self.height - top, : self.width]
            top += strip.shape[1]

    def reference(self, top: int, height: int) -> Tensor:
        """Rows of the enlarged input, (3, height, W)."""
        return self._canvas.image(Window(top, 0, height, self.width))[0]

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        while self._top + self._kept.shape[1] < top + height:
            self._kept = torch.cat([self._kept[:, max(top - self._top, 0) :], next(self._strips)], dim=1)
            self._top = max(self._top, top)
        return self._kept[:, top - self._top : top - self._top + height, left : left + width]


class ColorMatched:
    """A decoded photo with the colour fix ``adain`` or ``wavelet``."""

    def __init__(self, decoded: Decoded, fix: ColorFix) -> None:
        self.width, self.height = decoded.width, decoded.height
        self._decoded = decoded
        self._moments = _measure(decoded) if fix is ColorFix.ADAIN else None

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        columns = slice(left, left + width)
        if self._moments:
            return adain(self._decoded.read(top, 0, height, self.width), *self._moments)[..., columns]
        above = max(top - WAVELET_REACH_PX, 0)
        rows = min(top + height + WAVELET_REACH_PX, self.height) - above
        fixed = wavelet(self._decoded.read(above, 0, rows, self.width), self._decoded.reference(above, rows))
        return fixed[:, top - above : top - above + height, columns]


def _measure(decoded: Decoded) -> tuple[Moments, Moments]:
    """Moments of the whole decoded photo and of the enlarged input."""
    ours, wanted, top = Moments(), Moments(), 0
    for strip in decoded.strips():
        ours.add(strip)
        wanted.add(decoded.reference(top, strip.shape[1]))
        top += strip.shape[1]
    return ours, wanted


class Enlargement:
    """An enlarged photo whose pixels are made as they are asked for, and how it came about.

    ``info`` is the input's with the new size. ``settings`` has every setting as it was used, as plain values.
    ``seams`` is known, where it was asked for, once all bands are made.
    """

    def __init__(
        self,
        info: PhotoInfo,
        canvas: Canvas,
        plan: Plan,
        decode: Callable[[Window], Tensor],
        block: int,
        stages: Stages,
        settings: dict[str, Any],
    ) -> None:
        width, height = canvas.size
        self.info = replace(info, width=width, height=height)
        self.settings = settings
        self.windows = len(plan.windows)
        self.seams: SeamReport | None = None
        self._canvas = canvas
        self._plan = plan
        self._decode = decode
        self._rows = block_rows(*plan.cells, block)
        self._stages = stages

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return int(self.settings["seed"])

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, as far as they have come: prompts, encode, sample, decode."""
        return self._stages.seconds

    def bands(self) -> Iterator[Region]:
        """The enlarged photo from top to bottom, :data:`BAND_PX` rows at a time."""
        picture = self._picture()
        meter = SeamMeter(self._places(), *self.info.size) if self.settings["verify"] else None
        for top in range(0, self.info.height, BAND_PX):
            with self._stages.clock("decode"), torch.no_grad():
                rows = min(BAND_PX, self.info.height - top)
                band = picture.read(top, 0, rows, self.info.width)
                if meter is not None:
                    meter.add(top, band, self._canvas.enlarged(top, rows))
                region = self._region(band, top)
            yield region
        if meter is not None:
            self.seams = meter.report()

    def photo(self) -> Photo:
        """All of it in memory, in the input's type."""
        bands, info = list(self.bands()), self.info
        colour = quantize(np.concatenate([band.colour for band in bands]), info.depth)
        alphas = [band.alpha for band in bands if band.alpha is not None]
        alpha = quantize(np.concatenate(alphas), info.depth) if alphas else None
        return Photo(colour, alpha, info.metadata, info.name, info.grey, info.path, info.cmyk)

    def _picture(self) -> Picture:
        fix = ColorFix(self.settings["color_fix"])
        self._stages.progress.stage("decode", len(self._rows) * (2 if fix is ColorFix.ADAIN else 1))
        with self._stages.clock("decode"), torch.no_grad():
            decoded = Decoded(self._canvas, self._decode, self._rows, self._stages)
            matched = decoded if fix is ColorFix.NONE else ColorMatched(decoded, fix)
        return matched if self._canvas.visible == self.info.size else Resized(matched, self.info.size)

    def _region(self, band: Tensor, top: int) -> Region:
        """A band (3, h, W) with its transparency; a photo without colour stays without."""
        if self.info.grey:
            band = band.mean(dim=0, keepdim=True).expand(3, -1, -1)
        alpha = self._canvas.alpha(top, band.shape[1])
        colour = band.clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
        return Region(colour, None if alpha is None else alpha.numpy())

    def _places(self) -> list[Window]:
        """The windows in pixels of the result."""
        (height, width), (wanted_width, wanted_height) = self._plan.cells, self.info.size
        down = self._canvas.height / height * wanted_height / self._canvas.visible[1]
        across = self._canvas.width / width * wanted_width / self._canvas.visible[0]
        places = []
        for window in self._plan.windows:
            y, x = round(window.y * down), round(window.x * across)
            bottom = min(round((window.y + window.h) * down), wanted_height)
            right = min(round((window.x + window.w) * across), wanted_width)
            places.append(Window(y, x, bottom - y, right - x))
        return places
