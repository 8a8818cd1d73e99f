"""What the benchmarks of the plumbing share: a denoiser that costs nothing, large synthetic files, peak memory.

With the stand-in everything but the networks is real: the photo is read window by window, latents go through the
sampler and lie where they always lie, and the autoencoder of xpsr-mini decodes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tifffile import imwrite
from torch import Tensor

from xpsr_cli.models.loading import load_components
from xpsr_cli.models.reference_loading import load_reference
from xpsr_cli.sampling.denoiser import WindowDenoiser, WindowPrompts
from xpsr_cli.sampling.tiles import CanvasImage, Window
from xpsr_cli.settings import SamplingPreset
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_model

TILE_PX = 256


class StandInUpscaler(Upscaler):
    """An upscaler whose networks are replaced by a wave over the canvas; they are still shown photo and reference."""

    def denoiser(
        self,
        image: CanvasImage,
        prompts: WindowPrompts,
        preset: SamplingPreset,
        *,
        reference: CanvasImage | None = None,
    ) -> WindowDenoiser:
        """See :class:`Upscaler`."""
        seen = [image] if reference is None else [image, reference]

        def wave(latents: Tensor, _: int, window: Window) -> Tensor:
            brightness = torch.stack([picture(window.scaled(self.codec.factor)).mean() for picture in seen]).mean()
            rows = torch.arange(window.y, window.y + window.h)[:, None]
            columns = torch.arange(window.x, window.x + window.w)[None, :]
            pattern = torch.sin(rows / 50) * torch.sin(columns / 70)
            return 0.05 * latents + 0.02 * (pattern + brightness - 0.5)

        return wave


def load_upscaler(model: str, device: str = "cpu", add_on: Path | None = None) -> Upscaler:
    """The upscaler of a model, maybe with an add-on; ``"stand-in"`` is xpsr-mini without its networks."""
    components = load_components(find_model("xpsr-mini" if model == "stand-in" else model))
    if add_on is not None:
        components = load_reference(components, add_on)
    return (StandInUpscaler if model == "stand-in" else Upscaler).from_components(components, device)


def picture(top: int, left: int, height: int, width: int, dtype: type = np.uint16) -> NDArray[np.generic]:
    """A part of an endless picture, (height, width, 3): slow waves in all colours."""
    y, x = np.arange(top, top + height)[:, None], np.arange(left, left + width)[None, :]
    channels = [0.5 + 0.2 * np.sin(y / (200 + 30 * c)) + 0.2 * np.sin((x + y) / (90 + 40 * c)) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1) * np.iinfo(dtype).max).astype(dtype)


def write_tiff(path: Path, side: int, dtype: type = np.uint16) -> None:
    """A picture of ``side`` x ``side`` pixels, written tile by tile."""

    def tiles() -> Iterator[NDArray[np.generic]]:
        for top in range(0, side, TILE_PX):
            for left in range(0, side, TILE_PX):
                yield picture(top, left, TILE_PX, TILE_PX, dtype)

    imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=dtype,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression="deflate",
        metadata=None,
    )


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB of 1e6 bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
