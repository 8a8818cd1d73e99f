"""Results that are reduced to the very photo they were made from, wholly or part of the way (``--fidelity``).

With ``x`` the picture as it was sampled, ``y`` the photo, ``A`` the bicubic reduction (see :mod:`reduction`) and ``f``
the fidelity, the result is ``x' + (1 - f)^2 (x - x')``. There ``x'`` is the picture nearest to ``x`` that is reduced
to ``y`` and keeps to the range from black to white:

    x' = z + c,   z = x + A^T (A A^T)^-1 (y - A (x + c)),   c = clip(z) - z.

Where nothing is clipped, ``c`` is 0 and ``z`` is the projection of DDNM (Wang et al. 2023, eq. 13); else ``c`` is
found in a few rounds. So what is missing in agreement, ``y - A x``, is left by a factor of ``(1 - f)^2``, but for what
no picture in range can reach: the larger ``f``, the better. The square makes for steps of 5, 12 and 24 dB at a
quarter, a half and three quarters, whatever the photo.
"""

# shapes: H W pixels of the result, h w of the photo

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.photos.photo import Floats, PhotoInfo, quantize
from xpsr_cli.upscaling.reduction import Reduction
from xpsr_cli.upscaling.resample import PART_PX, Axis, Picture, bicubic

REPAIRS = 5
"""Rounds in which what was clipped is made up for by its neighbours."""
CHUNK_BYTES = 2**23
"""What the rows of the result that are worked on at a time may take."""
_HIGHEST_DB = 120.0

Rows = Callable[[int, int], Tensor]
"""Makes rows: the first, how many; (3, rows, width)."""


class Strips:
    """Rows of a picture, each made once, ``step`` at a time at most, from top to bottom, and kept until let go."""

    def __init__(self, step: int, make: Rows) -> None:
        self._step, self._make = step, make
        self._kept: list[tuple[int, Tensor]] = []  # first row and pixels
        self._bottom = 0

    def __call__(self, top: int, rows: int) -> Tensor:
        """(3, rows, width) of rows that have not been let go."""
        while self._bottom < top + rows:
            count = min(self._step, top + rows - self._bottom)
            self._kept.append((self._bottom, self._make(self._bottom, count)))
            self._bottom += count
        parts = [strip[:, max(top - first, 0) : max(top + rows - first, 0)] for first, strip in self._kept]
        return torch.cat(parts, dim=1)

    def forget(self, top: int) -> None:
        """Rows above ``top`` will not be asked for again."""
        self._kept = [(first, strip) for first, strip in self._kept if first + strip.shape[1] > top]


class Faithful:
    """A picture moved towards agreeing with a photo of it, to be read from top to bottom.

    ``fidelity`` 0 leaves it as it is, 1 takes it all the way. Its values are kept within [0, 1] and, with ``grey``, to
    shades of grey before: both are what will be seen. What a window holds does not depend on how it is asked for.
    """

    def __init__(self, picture: Picture, photo: Picture, fidelity: float, *, grey: bool = False) -> None:
        self.width, self.height = picture.width, picture.height
        self._picture, self._photo, self._grey = picture, photo, grey
        self._share = 1 - (1 - fidelity) ** 2
        self._down, self._across = Reduction(self.height, photo.height), Reduction(self.width, photo.width)
        rows = min(max(CHUNK_BYTES // (12 * self.width), 32), 256)
        self._step = max(rows * photo.height // self.height, 1)
        self._free = Strips(rows, self._seen)
        missing = self._strips(self._missing)
        first = self._strips(partial(self._solved, missing))
        self._small = [missing, first]
        clipped, before, pulls = None, None, first
        for _ in range(REPAIRS):
            clipped = self._strips(partial(self._clipped, pulls, before, clipped))
            before, pulls = pulls, self._strips(partial(self._repaired, first, clipped))
            self._small += [clipped, pulls]
        self._pulls = pulls

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        self._forget(top)
        free = self._free(top, height)[..., left : left + width]
        near = (free + self._spread(self._pulls, top, height, left, width)).clamp_(0, 1)
        return near.sub_(free).mul_(self._share).add_(free)

    def _strips(self, make: Rows) -> Strips:
        return Strips(self._step, make)

    def _seen(self, top: int, rows: int) -> Tensor:
        """``x``: the sampled picture as it would be without any fidelity."""
        lefts = range(0, self.width, PART_PX)
        parts = [self._picture.read(top, left, rows, min(PART_PX, self.width - left)) for left in lefts]
        seen = torch.cat(parts, dim=2)
        return (seen.mean(dim=0, keepdim=True).expand_as(seen) if self._grey else seen).clamp(0, 1)

    def _missing(self, top: int, rows: int) -> Tensor:
        """``y - A x``."""
        return self._photo.read(top, 0, rows, self._photo.width) - self._reduced(self._free, top, rows)

    def _clipped(self, pulls: Strips, before: Strips | None, known: Strips | None, top: int, rows: int) -> Tensor:
        """``A c`` for what is clipped after ``pulls``; ``known`` is that after the ones ``before``, maybe the same."""
        first, last = self._down.reduce.needs(_indices(top, rows))
        place, pull = self._pulling(pulls, first, last - first)
        if before is not None and known is not None and torch.equal(before(place, pull.shape[1]), pull):
            return known(top, rows)

        def clipping(top: int, rows: int) -> Tensor:
            moved = self._free(top, rows) + self._spread(pulls, top, rows, 0, self.width)
            return moved.clamp(0, 1).sub_(moved)

        return self._reduced(clipping, top, rows)

    def _solved(self, small: Strips, top: int, rows: int) -> Tensor:
        """``(A A^T)^-1`` of a picture of the photo's size."""
        down, across, wanted = self._down.solve, self._across.solve, _indices(top, rows)
        first, last = down.needs(wanted)
        solved = down(small(first, last - first), first, wanted, -2)
        return across(solved, 0, _indices(0, self._photo.width), -1)

    def _repaired(self, pulls: Strips, clipped: Strips, top: int, rows: int) -> Tensor:
        """The pulls that make up for what is clipped as well."""
        return pulls(top, rows) - self._solved(clipped, top, rows)

    def _reduced(self, large: Rows, top: int, rows: int) -> Tensor:
        """``A`` of a picture of the result's size."""
        first, last = self._down.reduce.needs(_indices(top, rows))
        reduced = self._down.reduce(large(first, last - first), first, _indices(top, rows), -2)
        return self._across.reduce(reduced, 0, _indices(0, self._photo.width), -1)

    def _spread(self, small: Strips, top: int, rows: int, left: int, width: int) -> Tensor:
        """``A^T`` of a picture of the photo's size."""
        columns = _indices(left, width)
        y, values = self._pulling(small, top, rows)
        x, right = self._across.spread.needs(columns)
        spread = self._across.spread(values[..., x:right], x, columns, -1)
        return self._down.spread(spread, y, _indices(top, rows), -2)

    def _pulling(self, small: Strips, top: int, rows: int) -> tuple[int, Tensor]:
        """The rows of the photo's size that rows of the result hang on, with the first one's index."""
        first, last = self._down.spread.needs(_indices(top, rows))
        return first, small(first, last - first)

    def _forget(self, top: int) -> None:
        """Let go of what no row from ``top`` on needs; all strips are made at least as far as those they go into."""
        first, _ = self._down.solve.needs(_indices(self._down.spread.needs(_indices(top, 1))[0], 1))
        self._free.forget(self._down.reduce.needs(_indices(first, 1))[0])
        for small in self._small:
            small.forget(first)


class AgreementMeter:
    """PSNR in dB between the photo and a result reduced to its size, measured while the result is written.

    The result is rounded to the photo's own depth first. 120 dB stand for all that is beyond.
    """

    def __init__(self, photo: Picture, result: PhotoInfo) -> None:
        self._photo, self._depth = photo, result.depth
        self._across, self._down = (
            Axis.resizing(large, small, bicubic)
            for large, small in zip(result.size, (photo.width, photo.height), strict=True)
        )
        self._top, self._rows = 0, torch.zeros(3, 0, result.width)
        self._done, self._squares = 0, 0.0  # rows of the photo, squared differences

    def add(self, colour: Floats) -> None:
        """The next rows, (rows, W, 3)."""
        rounded = np.divide(quantize(colour, self._depth), self._depth.white, dtype=np.float32)
        self._rows = torch.cat([self._rows, torch.from_numpy(rounded).permute(2, 0, 1)], dim=1)
        bottom, begin = self._top + self._rows.shape[1], self._done
        while self._done < self._photo.height and self._down.needs(_indices(self._done, 1))[1] <= bottom:
            self._done += 1
        if self._done == begin:
            return
        wanted = _indices(begin, self._done - begin)
        first, last = self._down.needs(wanted)
        reduced = self._down(self._rows[:, first - self._top : last - self._top], first, wanted, -2)
        reduced = self._across(reduced, 0, _indices(0, self._photo.width), -1)
        difference = reduced - self._photo.read(begin, 0, len(wanted), self._photo.width)
        self._squares += float(difference.double().square().sum())
        if self._done < self._photo.height:
            needed = self._down.needs(_indices(self._done, 1))[0]
            self._rows, self._top = self._rows[:, needed - self._top :], needed

    def report(self) -> float:
        """The figure, once all rows were added."""
        mean = self._squares / (3 * self._photo.width * self._photo.height)
        return -10 * math.log10(max(mean, 10 ** (-_HIGHEST_DB / 10)))


def _indices(first: int, count: int) -> Tensor:
    return torch.arange(first, first + count)
