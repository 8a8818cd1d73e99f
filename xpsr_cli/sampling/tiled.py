"""A window denoiser over a canvas of any size, from top to bottom, so that only a band of it is ever in memory."""

# shapes: c latent channels, H W canvas and h w window latent cells

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from xpsr_cli.device import Fitting, is_out_of_memory
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.sampling.denoiser import WindowDenoiser
from xpsr_cli.sampling.tiles import Blend, CanvasLatents, Centre, Window

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Band:
    """Rows of a blended prediction that no further window touches.

    ``prediction`` (1, c, h, W) lies at ``place``; ``number`` counts the bands of a canvas. ``unfinished``
    (1, c, .., W) are the rows below it, to which the windows so far have added their shares.
    """

    number: int
    place: Window
    prediction: Tensor
    unfinished: Tensor


class Tiled:
    """Predictions of overlapping windows, blended at every step before the scheduler sees them (spec C6).

    ``at_a_time`` windows (or as many as the memory holds) are evaluated concurrently, each in its own call, so the
    result does not depend on it. When the memory does not suffice for them, half as many are, down to one.
    """

    def __init__(
        self,
        denoiser: WindowDenoiser,
        windows: Sequence[Window],
        *,
        centre: Centre = Centre.MIDDLE,
        at_a_time: int | Fitting = 1,
        progress: Progress | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.rows = [list(row) for _, row in groupby(sorted(windows), key=lambda window: window.y)]
        self.blend = Blend(windows, centre)
        self.fitting = at_a_time if isinstance(at_a_time, Fitting) else None
        self.at_a_time = 1 if isinstance(at_a_time, Fitting) else at_a_time
        self.progress = progress or SilentProgress()

    def __call__(
        self, latents: CanvasLatents, timestep: int, first: int = 0, unfinished: Tensor | None = None
    ) -> Iterator[Band]:
        """The bands of the prediction for a whole canvas, from number ``first`` on.

        ``unfinished`` is what the band before ``first`` left.
        """
        for number, row in enumerate(self.rows[first:], start=first):
            top, bottom = row[0].y, row[0].y + row[0].h
            below = self.rows[number + 1][0].y if number + 1 < len(self.rows) else bottom
            total: Tensor | None = None
            for window, prediction in self._predictions(latents, timestep, row):
                if total is None:
                    total = torch.zeros(1, prediction.shape[1], bottom - top, self.blend.width)
                    if unfinished is not None:
                        total[:, :, : unfinished.shape[2]] = unfinished
                total[..., window.x : window.x + window.w] += prediction.float() * self.blend.share(window)
            assert total is not None
            done, unfinished = total[:, :, : below - top], total[:, :, below - top :].clone()
            yield Band(number, Window(top, 0, below - top, self.blend.width), done, unfinished)

    def _predictions(
        self, latents: CanvasLatents, timestep: int, row: Sequence[Window]
    ) -> Iterator[tuple[Window, Tensor]]:
        """A row of windows with their predictions, in order, ``at_a_time`` of them in memory."""

        def predict(window: Window) -> Tensor:
            return self.denoiser(latents(window), timestep, window)

        first = 0
        while first < len(row):
            group = row[first : first + self.at_a_time]
            try:
                if self.fitting is not None:
                    self.fitting.begin()
                    predictions = [predict(group[0])]
                    self.at_a_time, self.fitting = self.fitting.count(), None
                elif len(group) == 1:
                    predictions = [predict(group[0])]
                else:
                    with ThreadPoolExecutor(len(group)) as pool:
                        predictions = list(pool.map(predict, group))
            except (MemoryError, RuntimeError) as error:
                if self.at_a_time == 1 or not is_out_of_memory(error):
                    raise
                self._take_fewer()
                continue
            yield from zip(group, predictions, strict=True)
            self.progress.advance(len(group))
            first += len(group)

    def _take_fewer(self) -> None:
        self.at_a_time //= 2
        _log.warning("The memory did not suffice: %d window(s) at a time from here on.", self.at_a_time)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
