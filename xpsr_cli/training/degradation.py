"""How training pairs are made: a large photo becomes a small one that is blurred, noisy and compressed.

The second-order pipeline of Real-ESRGAN (ICCVW 2021) as XPSR uses it (section 4.1), and milder presets. A sample is
drawn from its own seed and made by itself, so neither its batch nor the order of samples changes it, and what was done
to it is known, so that the low-level prompt of a training pair can be true.

``xpsr`` follows the published numbers; as in the released code no resize of it has antialiasing. It differs in that no
two samples share branches, JPEG is Pillow's with whole qualities, and Poisson noise is always that of 256 levels, also
of a photo that has fewer. What is known of a sample is an estimate where no formula is exact: blur is the spread of
the Gaussian that lets as much white noise through, whatever the kernel; noise fades with the length of a side when a
photo shrinks, which is exact for averages over whole pixels; what JPEG takes of the noise is not known.
"""

# shapes: B batch, H W of the large photos

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.training.blur_kernels import gaussian_kernel
from xpsr_cli.training.degradation_draws import Draw, draw_preset
from xpsr_cli.training.degradation_presets import PRESETS
from xpsr_cli.training.degradation_steps import Degradation, Resize, Sizes, Step, convolve, to_u8
from xpsr_cli.training.sharpening import sharpen

__all__ = ["PRESETS", "Degradation", "Degraded", "Degrader", "Draw", "blur", "gaussian_kernel", "to_u8"]


@dataclass(frozen=True)
class Degraded:
    """Training pairs, and what was done to each."""

    target_01: Tensor  # (B, 3, H, W) float32 in [0, 1]
    small_01: Tensor  # (B, 3, H/scale, W/scale) float32, multiples of 1/255
    drawn: list[Degradation]


class Degrader:
    """Makes small photos of large ones, on the device that the large ones are on.

    Args:
        shares: how often each preset is drawn, adding up to 1.
        scale: how much smaller the small photos are.
        sharpen: whether the targets are sharpened first; the small photos then come from the sharpened ones.

    Raises:
        UsageError: a preset that does not exist, or shares that do not add up to 1.
    """

    def __init__(self, shares: Mapping[str, float], scale: int = 4, sharpen: bool = False) -> None:
        unknown = [name for name in shares if name not in PRESETS]
        if unknown:
            raise UsageError(f"There is no degradation {unknown[0]!r}.", f"Those known are {', '.join(PRESETS)}.")
        if min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            raise UsageError(f"The shares of degradations, {dict(shares)}, do not add up to 1.", "Make them do so.")
        self.shares = [shares.get(name, 0.0) for name in PRESETS]
        self.scale = scale
        self.sharpen = sharpen

    def draw(self, seed: Sequence[int]) -> Draw:
        """All random choices of one sample, the pixels of its noise included, from numbers such as (seed, index)."""
        rng = np.random.default_rng(list(seed))
        return draw_preset(list(PRESETS)[rng.choice(len(PRESETS), p=self.shares)], rng)

    @torch.no_grad()
    def __call__(self, photos_01: Tensor, draws: Sequence[Draw]) -> Degraded:
        """Make the pairs.

        Args:
            photos_01: (B, 3, H, W) float32 in [0, 1], sides multiples of ``scale``.
            draws: one for each photo. Noise and JPEG take as many threads as torch may use.

        Raises:
            UsageError: sides that are no multiples of the scale.
        """
        height, width = photos_01.shape[2:]
        if height % self.scale or width % self.scale:
            raise UsageError(
                f"Photos of {width} x {height} pixels cannot be made {self.scale} times smaller.",
                f"Crop them to multiples of {self.scale}.",
            )
        if self.sharpen:
            photos_01 = torch.stack([sharpen(photo) for photo in photos_01])
        sizes = Sizes((height, width), (height // self.scale, width // self.scale))
        works = [_Work(photo, sizes, list(draw.steps)) for photo, draw in zip(photos_01, draws, strict=True)]
        with ThreadPoolExecutor(max(1, min(len(works), torch.get_num_threads()))) as threads:
            while any(work.left for work in works):
                for work in works:
                    work.resize()
                list(threads.map(_Work.others, works))
        small = torch.stack([work.photo for work in works])
        return Degraded(photos_01, (small.clamp(0, 1) * 255).round() / 255, [work.done for work in works])


@dataclass
class _Work:
    """A photo on its way, and the steps that are left."""

    photo: Tensor  # (3, H, W)
    sizes: Sizes
    left: list[Step]
    done: Degradation = field(default_factory=Degradation)

    def resize(self) -> None:
        """Resizes, up to the next other step; they use torch's threads."""
        while self.left and isinstance(self.left[0], Resize):
            self._step()

    @torch.no_grad()
    def others(self) -> None:
        """Blur, noise and JPEG, up to the next resize; they use one thread."""
        while self.left and not isinstance(self.left[0], Resize):
            self._step()

    def _step(self) -> None:
        self.photo = self.left.pop(0).apply(self.photo, self.sizes, self.done)


def blur(photo: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve every channel of (H, W, 3), borders reflected."""
    planes = np.ascontiguousarray(photo.transpose(2, 0, 1), dtype=np.float32)
    return convolve(torch.from_numpy(planes), kernel).permute(1, 2, 0).contiguous().numpy()
