"""Restorers as activators: a network that makes a photo of a photo, at a scale of its own, on photos of any size.

The photo goes through it window by window; what it makes is brought to the size asked for and takes its colours from
the photo.

Windows start at multiples of 64 pixels, so that networks that cut a picture into cells cut a window where they would
have cut the whole photo. Neighbours share :data:`OVERLAP_PX` pixels, of which the outermost quarter on either side,
where a network sees the cut, is thrown away, and the half in the middle goes over from one to the other.
"""

# shapes: C channels, H W pixels of the photo, h w of a window, s scale of the network

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xpsr_cli.device import Placement, memory_errors
from xpsr_cli.errors import WeightsError
from xpsr_cli.photos.photo import Floats, PhotoSource
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import ColorFix, Sizing
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.enlargement import ColorMatched, Streamed
from xpsr_cli.upscaling.resample import PART_PX, Picture, Resized, Span, next_multiple

WINDOW_PX = 192
"""How far apart windows start; they are wider by what they share with their neighbours."""
OVERLAP_PX = 64
"""What neighbouring windows share."""
LATTICE_PX = 64
"""Windows start at multiples of this: the deepest cells of U-shaped networks with attention in windows of 8."""
STRIP_BYTES, BAND_BYTES = 2**28, 2**23
"""What a row of windows at the network's scale, and the rows that are given out at a time, may take."""

_log = logging.getLogger(__name__)


class Restorer:
    """An :class:`~xpsr_cli.upscaling.activation.Activator` of any network that makes a photo of a photo.

    The result does not depend on how it is read, and memory does not grow with the height of the photo.

    Args:
        network: from (1, C, h, w) in [0, 1] to (1, C, s h, s w), for any h and w. It is moved to ``placement``.
        scale: its s, 1 or more.
        channels: its C, 3 for red, green and blue, or 1: then it sees one of them after the other.
        identity: what it is, if anybody wants to know; see :attr:`identity`.
        window_px: see :data:`WINDOW_PX`; a multiple of :data:`LATTICE_PX`.
        overlap_px: what neighbouring windows share.
        lattice_px: see :data:`LATTICE_PX`.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: int,
        placement: Placement,
        *,
        channels: int = 3,
        identity: Mapping[str, Any] | None = None,
        window_px: int = WINDOW_PX,
        overlap_px: int = OVERLAP_PX,
        lattice_px: int = LATTICE_PX,
    ) -> None:
        # Few networks of others are ready for weights in half precision, as masks are added to what they make, or for
        # channels last, as they take views. So weights stay as they are, and operators choose their type.
        self.placement = replace(placement, channels_last=False)
        self._exact = replace(self.placement, dtype=torch.float32)
        self.network = self._exact.place(network)
        self.scale, self.channels = scale, channels
        self.window_px, self.overlap_px, self.lattice_px = next_multiple(window_px, lattice_px), overlap_px, lattice_px
        self._identity = dict(identity or {"name": type(network).__name__})

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides what it makes, besides the photo and the scale."""
        return {
            **self._identity,
            "window": self.window_px,
            "overlap": self.overlap_px,
            "device": self.placement.device.type,
            "precision": str(self.placement.dtype),
        }

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None = None
    ) -> Iterator[Floats]:
        """The restored photo, (h, W, 3) float32 in [0, 1] from top to bottom, its colours those of the photo.

        W and the sum of the h are :func:`~xpsr_cli.settings.output_size` of the photo. ``progress`` is told of every
        window; nothing is left in ``work_folder``.

        Raises:
            PhotoError: the photo is damaged.
            WeightsError: the network does not do what its file promises.
            OutOfMemoryError: the device's memory does not suffice for a window.
        """
        canvas = Canvas(source, scale, Sizing.PAD)
        restored = Restored(self, canvas.photo, grey=source.info.grey, progress=progress)
        picture = ColorMatched(_Beside(restored, canvas), ColorFix.WAVELET_CHROMA)
        height = min(max(BAND_BYTES // (12 * picture.width), 32), 256)
        for top in range(0, picture.height, height):
            rows = min(height, picture.height - top)
            lefts = range(0, picture.width, PART_PX)
            parts = [picture.read(top, left, rows, min(PART_PX, picture.width - left)) for left in lefts]
            colour = torch.cat(parts, dim=2)
            if source.info.grey:
                colour = colour.mean(dim=0, keepdim=True).expand_as(colour)
            yield colour.clamp(0, 1).permute(1, 2, 0).contiguous().numpy()

    @torch.inference_mode()
    def restore(self, pixels: Tensor, *, grey: bool = False) -> Tensor:
        """A window of a photo, (3, h, w) in [0, 1], as the network makes it: (3, s h, s w).

        With ``grey`` all channels are the same. A window that overflows in half precision is made again in float32.
        """
        if self.channels == 3:
            return self._made(pixels)
        if grey:
            return self._made(pixels[:1]).expand(3, -1, -1)
        return torch.cat([self._made(pixels[channel : channel + 1]) for channel in range(3)])

    def _made(self, pixels: Tensor) -> Tensor:
        """(C, h, w) through the network."""
        channels, height, width = pixels.shape
        with memory_errors(f"restoring {width} x {height} pixels", "Use --device cpu, or a smaller restorer."):
            made = self._run(pixels, self.placement.dtype)
            if self.placement.dtype is not torch.float32 and not bool(made.isfinite().all()):
                _log.warning("A window overflowed in %s and is restored again in float32.", self.placement.dtype)
                made = self._run(pixels, torch.float32)
        wanted = (1, channels, self.scale * height, self.scale * width)
        if made.shape != wanted:
            raise WeightsError(
                f"The restorer made {tuple(made.shape)} of {width} x {height} pixels, not {wanted}.",
                "Use another one.",
            )
        if not bool(made.isfinite().all()):
            raise WeightsError(
                "The restorer makes values that are no numbers: its weights are damaged.", "Fetch the file again."
            )
        return made[0]

    def _run(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """(1, C, s h, s w) in float32. A network that draws noise draws the same for every window."""
        device, half = self.placement.device, dtype is not torch.float32
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            with torch.autocast(device.type, dtype if half else None, enabled=half):
                return self._exact.fetch(self.network(self._exact.put(pixels[None])))


class Restored:
    """A photo as a restorer makes it, (3, s H, s W), to be read from top to bottom."""

    def __init__(
        self, restorer: Restorer, photo: Picture, *, grey: bool = False, progress: Progress | None = None
    ) -> None:
        self.width, self.height = restorer.scale * photo.width, restorer.scale * photo.height
        self._restorer = restorer
        self._photo = photo
        self._grey = grey
        self._progress = progress or SilentProgress()
        overlap = restorer.overlap_px
        self._columns = window_spans(photo.width, restorer.window_px, overlap)
        fitting = STRIP_BYTES // (12 * restorer.scale * self.width) - overlap
        lattice = restorer.lattice_px
        self._step = min(max(fitting // lattice * lattice, lattice), restorer.window_px)
        self._rows = window_spans(photo.height, self._step, overlap)
        self._strips = Streamed(self._blended())

    def windows(self) -> list[Window]:
        """The windows of the photo, row by row."""
        return [Window(y, x, bottom - y, right - x) for y, bottom in self._rows for x, right in self._columns]

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        return self._strips.read(top, left, height, width)

    def _blended(self) -> Iterator[tuple[int, Tensor]]:
        """First row and pixels of the rows that have come through all their windows."""
        scale, shared = self._restorer.scale, self._restorer.scale * self._restorer.overlap_px
        rising = ramp(shared)[:, None]
        above: Tensor | None = None
        for index, (y, bottom) in enumerate(self._rows):
            strip = self._strip(y, bottom)
            if above is not None:
                strip[:, :shared] = torch.lerp(above, strip[:, :shared], rising)
            if index + 1 < len(self._rows):
                strip, above = strip[:, :-shared], strip[:, -shared:].clone()
            yield scale * y, strip

    def _strip(self, y: int, bottom: int) -> Tensor:
        """A row of windows, side by side."""
        scale, shared = self._restorer.scale, self._restorer.scale * self._restorer.overlap_px
        strip = torch.empty(3, scale * (bottom - y), self.width)
        rising = ramp(shared)
        for x, right in self._columns:
            pixels = self._photo.read(y, x, bottom - y, right - x)
            made = self._restorer.restore(pixels, grey=self._grey)
            there = strip[..., scale * x : scale * right]
            if x == 0:
                there.copy_(made)
            else:
                there[..., :shared] = torch.lerp(there[..., :shared], made[..., :shared], rising)
                there[..., shared:] = made[..., shared:]
            self._progress.advance()
        return strip


class _Beside:
    """A restored photo at the size of the result, beside the enlarged one."""

    def __init__(self, restored: Restored, canvas: Canvas) -> None:
        self.width, self.height = size = canvas.size
        self._restored = restored if (restored.width, restored.height) == size else Resized(restored, size)
        self._enlarged = Resized(canvas.photo, size)

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.resample.Picture`."""
        return self._restored.read(top, left, height, width)

    def reference(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See :class:`xpsr_cli.upscaling.enlargement.Referenced`."""
        return self._enlarged.read(top, left, height, width).clamp_(0, 1)


def window_spans(length: int, step: int, overlap: int) -> list[Span]:
    """Where windows begin and end along a side: every ``step`` pixels, ``overlap`` of them shared by neighbours.

    The last one is as long as what is left, and longer than the overlap.
    """
    count = max(-(-(length - overlap) // step), 1)
    return [(index * step, min((index + 1) * step + overlap, length)) for index in range(count)]


def ramp(length: int) -> Tensor:
    """How much the second of two windows counts in the pixels they share: 0 in the first quarter, 1 in the last."""
    place = ((torch.arange(length) + 0.5) / length - 0.25).mul_(2).clamp_(0, 1)
    return place**2 * (3 - 2 * place)
