"""The way from sampled latents to pixels: decoded block row by block row, colours tied to the input, exact size."""

# shapes: H W pixels of the canvas, h rows of a band

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.photos.photo import Floats, Photo, PhotoInfo, Region, quantize
from xpsr_cli.sampling.tiles import Window, block_rows
from xpsr_cli.settings import ColorFix
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.color import WAVELET_REACH_PX, Moments, adain, wavelet, wavelet_chroma
from xpsr_cli.upscaling.fidelity import AgreementMeter, Faithful
from xpsr_cli.upscaling.plan import Plan
from xpsr_cli.upscaling.resample import PART_PX, Picture, Resized
from xpsr_cli.upscaling.seams import SeamMeter, SeamReport
from xpsr_cli.upscaling.stages import Stages

STRIP_BYTES, BAND_BYTES = 2**25, 2**23
"""What the rows of decoded blocks, and of the result, that are made at a time may take: the wider, the fewer."""
HIGHEST_PX, WIDTH_PX = 512, 1024
"""Pixels of a block of the canvas: at most from top to bottom, and from left to right. With its halo, Stable
Diffusion's autoencoder then takes about what it takes for 1024 x 1024 pixels at once."""


def decoding_rows(cells: tuple[int, int], factor: int, lowest: int) -> list[list[Window]]:
    """The blocks in which a canvas of ``cells`` (height, width) goes through its autoencoder, row by row.

    ``factor`` is pixels per cell, ``lowest`` the fewest cells from top to bottom that are worth it.
    """
    height, width = cells
    fitting = STRIP_BYTES // (12 * factor**2 * width)
    return block_rows(height, width, (min(max(fitting, lowest), HIGHEST_PX // factor), WIDTH_PX // factor))


class Streamed:
    """Strips of a picture, first row and pixels (c, h, W), from top to bottom, which are read in that order.

    Those that lie above the last read are forgotten.
    """

    def __init__(self, strips: Iterator[tuple[int, Tensor]]) -> None:
        self._coming = strips
        self._kept: deque[tuple[int, Tensor]] = deque()

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        while not self._kept or self._bottom < top + height:
            self._kept.append(next(self._coming))
        while self._kept[0][0] + self._kept[0][1].shape[1] <= top:
            self._kept.popleft()
        columns = slice(left, left + width)
        parts = [strip[:, max(top - first, 0) : max(top + height - first, 0), columns] for first, strip in self._kept]
        return torch.cat(parts, dim=1)

    @property
    def _bottom(self) -> int:
        first, strip = self._kept[-1]
        return first + strip.shape[1]


class Decoded:
    """The photo at working size, (3, H, W) in [0, 1], decoded from top to bottom.

    ``decode`` makes the pixels of a block of latent cells (1, 3, ..), ``factor`` pixels per cell, and ``rows`` are the
    blocks. Rows are to be read from top to bottom: strips of blocks that lie above the last read are forgotten.
    """

    def __init__(
        self,
        canvas: Canvas,
        decode: Callable[[Window], Tensor],
        rows: list[list[Window]],
        factor: int,
        stages: Stages,
    ) -> None:
        self.width, self.height = canvas.visible
        self._canvas = canvas
        self._decode = decode
        self._rows = rows
        self._factor = factor
        self._stages = stages
        self._strips = Streamed(self.strips())

    def strips(self) -> Iterator[tuple[int, Tensor]]:
        """All of it, first row and pixels (3, h, W) of a row of blocks at a time, without the canvas' padding."""
        for row in self._rows:
            top = row[0].y * self._factor
            strip = torch.empty(3, min(row[0].h * self._factor, self.height - top), self.width)
            for block in row:
                there = strip[..., block.x * self._factor : (block.x + block.w) * self._factor]
                there.copy_(self._decode(block)[0, :, : there.shape[1], : there.shape[2]])
            self._stages.progress.advance()
            yield top, strip

    def reference(self, top: int, left: int, height: int, width: int) -> Tensor:
        """The same window of the enlarged input, (3, height, width)."""
        return self._canvas.image(Window(top, left, height, width))[0]

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        return self._strips.read(top, left, height, width)


class Referenced(Picture, Protocol):
    """A picture that was made of a photo, and knows it."""

    def reference(self, top: int, left: int, height: int, width: int) -> Tensor:
        """The same window of the enlarged photo, (3, h, w) in [0, 1]."""


class ColorMatched:
    """A picture with one of the wavelet colour fixes."""

    def __init__(self, picture: Referenced, fix: ColorFix) -> None:
        self.width, self.height = picture.width, picture.height
        self._picture = picture
        self._fix = {ColorFix.WAVELET: wavelet, ColorFix.WAVELET_CHROMA: wavelet_chroma}[fix]

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        y, x = max(top - WAVELET_REACH_PX, 0), max(left - WAVELET_REACH_PX, 0)
        h = min(top + height + WAVELET_REACH_PX, self.height) - y
        w = min(left + width + WAVELET_REACH_PX, self.width) - x
        fixed = self._fix(self._picture.read(y, x, h, w), self._picture.reference(y, x, h, w))
        return fixed[:, top - y : top - y + height, left - x : left - x + width]


class StatisticsMatched:
    """A decoded photo with mean and variance of the enlarged input."""

    def __init__(self, decoded: Decoded) -> None:
        self.width, self.height = decoded.width, decoded.height
        self._decoded = decoded
        self._moments = _measure(decoded)

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        return adain(self._decoded.read(top, left, height, width), *self._moments)


def _matched(decoded: Decoded, fix: ColorFix) -> Picture:
    if fix is ColorFix.NONE:
        return decoded
    return StatisticsMatched(decoded) if fix is ColorFix.ADAIN else ColorMatched(decoded, fix)


def _measure(decoded: Decoded) -> tuple[Moments, Moments]:
    """Moments of the whole decoded photo and of the enlarged input."""
    ours, wanted = Moments(), Moments()
    for top, strip in decoded.strips():
        for left in range(0, decoded.width, PART_PX):
            part = strip[..., left : left + PART_PX]
            ours.add(part)
            wanted.add(decoded.reference(top, left, *part.shape[1:]))
    return ours, wanted


class Enlargement:
    """An enlarged photo whose pixels are made as they are asked for, and how it came about.

    ``info`` is the input's with the new size. ``settings`` has every setting as it was used, as plain values.
    ``seams`` is known, where it was asked for, once all bands are made, and so is ``agreement`` of a result that was
    moved towards the photo (``fidelity``): PSNR in dB between the photo and the result reduced to its size.
    """

    def __init__(
        self,
        info: PhotoInfo,
        canvas: Canvas,
        plan: Plan,
        decode: Callable[[Window], Tensor],
        rows: list[list[Window]],
        stages: Stages,
        settings: dict[str, Any],
    ) -> None:
        width, height = canvas.size
        self.info = replace(info, width=width, height=height)
        self.settings = settings
        self.windows = len(plan.windows)
        self.seams: SeamReport | None = None
        self.agreement: float | None = None
        self._canvas = canvas
        self._plan = plan
        self._decode = decode
        self._factor = canvas.height // plan.cells[0]  # pixels per latent cell
        self._rows = [row for row in rows if row[0].y * self._factor < canvas.visible[1]]  # the others are padding
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
        """The enlarged photo from top to bottom, some rows at a time."""
        picture, band_rows = self._picture(), min(max(BAND_BYTES // (12 * self.info.width), 32), 256)
        meter = SeamMeter(self._places(), *self.info.size) if self.settings["verify"] else None
        agreement = AgreementMeter(self._canvas.photo, self.info) if self.settings["fidelity"] else None
        for top in range(0, self.info.height, band_rows):
            with self._stages.clock("decode"), torch.no_grad():
                rows = min(band_rows, self.info.height - top)
                colour = np.empty((rows, self.info.width, 3), np.float32)
                for left in range(0, self.info.width, PART_PX):
                    part = colour[:, left : left + PART_PX]
                    pixels = picture.read(top, left, rows, part.shape[1])
                    torch.from_numpy(part).copy_(pixels.permute(1, 2, 0))
                colour = self._final(colour)
                if meter is not None:
                    meter.add(top, torch.from_numpy(colour).permute(2, 0, 1), self._canvas.enlarged(top, rows))
                if agreement is not None:
                    agreement.add(colour)
                alpha = self._canvas.alpha(top, rows)
                region = Region(colour, None if alpha is None else alpha.numpy())
                del colour
            yield region
            del region  # nothing of it is held while the next one is made
        if meter is not None:
            self.seams = meter.report()
        if agreement is not None:
            self.agreement = agreement.report()

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
            decoded = Decoded(self._canvas, self._decode, self._rows, self._factor, self._stages)
            matched = _matched(decoded, fix)
        picture = matched if self._canvas.visible == self.info.size else Resized(matched, self.info.size)
        fidelity = self.settings["fidelity"]
        return Faithful(picture, self._canvas.photo, fidelity, grey=self.info.grey) if fidelity else picture

    def _final(self, colour: Floats) -> Floats:
        """Colours (h, W, 3) within their range; a photo without colour stays without."""
        if self.info.grey:
            colour[:] = colour.mean(axis=2, keepdims=True)
        return np.clip(colour, 0, 1, out=colour)

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
