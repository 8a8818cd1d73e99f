"""What can happen to a photo on its way to a small one: blur, another size, noise and JPEG.

A step holds what was drawn for it and can be applied to any photo. Noise and JPEG are made on the CPU wherever the
photo is, so that one seed gives one photo on every device; and on the CPU no result depends on the number of threads.
"""

# shapes: photos are (3, H, W) float32, [0, 1] up to what filters overshoot

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xpsr_cli.training.blur_kernels import Kernel, Weights, spread_px

_PHOTONS = 256  # of white: every value of an 8-bit photo is a count of photons
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)[:, None, None]  # Rec. 601, as in JPEG


@dataclass
class Degradation:
    """What was done to one photo, summed over the stages, in the units words are chosen by."""

    blur_px: float = 0.0  # standard deviation of all blurs together, in pixels of the large photo
    noise: float = 0.0  # standard deviation in 1/255, of the small photo
    jpeg_quality: float = 100.0  # lowest


@dataclass(frozen=True)
class Sizes:
    """Height and width of the large photo and of the small one that is wanted."""

    large: tuple[int, int]
    small: tuple[int, int]


@dataclass(frozen=True)
class Blur:
    """A convolution, borders reflected."""

    kernel: Kernel

    def apply(self, photo: Tensor, sizes: Sizes, done: Degradation) -> Tensor:
        """The blurred photo. Its blur is added to ``done``; noise that it already had fades."""
        weights = self.kernel.weights()
        pixel_px = sizes.large[0] / photo.shape[1]
        done.blur_px = math.hypot(done.blur_px, pixel_px * spread_px(weights))
        done.noise *= float(np.linalg.norm(weights))  # exact for white noise
        return convolve(photo, weights)


@dataclass(frozen=True)
class Resize:
    """To ``factor`` times the large photo's size, or the small one's, without antialiasing unless asked for it."""

    mode: str  # area, bilinear or bicubic
    direction: str  # up, down or keep
    factor: float
    of_small: bool
    antialias: bool = False

    def apply(self, photo: Tensor, sizes: Sizes, done: Degradation) -> Tensor:
        """The photo in its new size.

        Half a pixel of the coarser grid counts as blur, unless the new grid is the final one; shrinking fades noise.
        """
        before = (photo.shape[1], photo.shape[2])
        base = sizes.small if self.of_small else sizes.large
        after = (max(1, int(base[0] * self.factor)), max(1, int(base[1] * self.factor)))
        if after == before:
            return photo
        if after != sizes.small:
            done.blur_px = math.hypot(done.blur_px, 0.5 * sizes.large[0] / min(before[0], after[0]))
        done.noise *= min(1.0, after[0] / before[0])
        return resize(photo, after, self.mode, antialias=self.antialias)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of one strength, or Poisson noise that grows with the light; grey or of every colour."""

    kind: str  # gaussian or poisson
    strength: float  # gaussian: standard deviation in 1/255; poisson: 1 is the noise of 256 photons in white
    grey: bool
    seed: int

    def apply(self, photo: Tensor, sizes: Sizes, done: Degradation) -> Tensor:
        """The noisy photo in [0, 1]; the standard deviation of what was added goes to ``done``."""
        rng = np.random.default_rng(self.seed)
        pixels = photo.cpu().numpy()
        light = (pixels * _GREY).sum(axis=0, keepdims=True) if self.grey else pixels
        if self.kind == "gaussian":
            noise = rng.standard_normal(light.shape, dtype=np.float32) * np.float32(self.strength / 255)
        else:
            light = np.rint(light.clip(0, 1) * 255) / 255
            noise = rng.poisson(light * _PHOTONS).astype(np.float32)
            noise /= _PHOTONS
            noise -= light
            noise *= np.float32(self.strength)
        done.noise = math.hypot(done.noise, float(noise.std()) * 255)
        return torch.from_numpy((pixels + noise).clip(0, 1)).to(photo.device)


@dataclass(frozen=True)
class Jpeg:
    """Through a JPEG file with halved colour resolution, as Pillow writes it."""

    quality: float  # rounded to a whole number

    def apply(self, photo: Tensor, sizes: Sizes, done: Degradation) -> Tensor:
        """The photo as it comes back; the lowest quality goes to ``done``."""
        quality = round(self.quality)
        done.jpeg_quality = min(done.jpeg_quality, quality)
        file = io.BytesIO()
        Image.fromarray(to_u8(photo.permute(1, 2, 0).cpu().numpy())).save(file, "JPEG", quality=quality)
        decoded = torch.from_numpy(np.array(Image.open(file))).to(photo.device)
        return decoded.permute(2, 0, 1).contiguous() / 255


Step = Blur | Resize | Noise | Jpeg


def convolve(photo: Tensor, kernel: Weights) -> Tensor:
    """Convolve every channel of (3, H, W) with an odd square kernel, borders reflected (also of tiny photos)."""
    edge, (height, width) = len(kernel) // 2, photo.shape[1:]
    size = [scipy.fft.next_fast_len(side + 2 * edge, real=True) for side in (height, width)]
    padded = _reflected(photo, edge, size)
    if photo.device.type == "cpu":
        rows = scipy.fft.rfft(kernel, n=size[1])  # most rows of the field are zero, and so is what becomes of them
        spectrum = scipy.fft.rfft2(padded.numpy())
        spectrum *= scipy.fft.fft(rows, n=size[0], axis=0)
        blurred = torch.from_numpy(scipy.fft.irfft2(spectrum, s=size))
    else:
        response = torch.fft.rfft2(torch.from_numpy(kernel).to(photo.device), s=size)
        blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * response, s=size)
    return blurred[:, 2 * edge : 2 * edge + height, 2 * edge : 2 * edge + width]


def resize(photo: Tensor, size: tuple[int, int], mode: str, *, antialias: bool = False) -> Tensor:
    """Resize (3, H, W) to (height, width) as torch does; averages over areas have no aliasing to avoid."""
    if mode == "bilinear" and not antialias:
        return _bilinear(photo, size)
    return F.interpolate(photo[None], size=size, mode=mode, antialias=antialias and mode != "area")[0]


def to_u8(photo: np.ndarray) -> np.ndarray:
    """[0, 1] floats to rounded bytes."""
    return (photo.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _bilinear(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """Torch's bilinear resize, whose last bits depend on the number of threads, one axis after the other."""
    high = _bilinear_rows(photo, size[0])
    return _bilinear_rows(high.mT.contiguous(), size[1]).mT.contiguous()  # whole rows are gathered fast


def _bilinear_rows(photo: Tensor, after: int) -> Tensor:
    before = photo.shape[1]
    place = (torch.arange(after, dtype=torch.float64) + 0.5) * (before / after) - 0.5
    place = place.clamp(0, before - 1)
    low = place.long()
    share = (place - low).float()[:, None].to(photo.device)
    above, below = (photo.index_select(1, rows.to(photo.device)) for rows in (low, (low + 1).clamp(max=before - 1)))
    return above.lerp_(below, share)


def _reflected(photo: Tensor, edge: int, size: Sequence[int]) -> Tensor:
    """(3, H, W) in a field of ``size``, ``edge`` pixels from its top and left, with mirrored pixels all around."""
    (height, width), (bottom, right) = photo.shape[1:], (full - edge for full in size)
    if max(edge, bottom - height) < height and max(edge, right - width) < width:
        return F.pad(photo, (edge, right - width, edge, bottom - height), mode="reflect")
    for axis, (side, end) in enumerate(((height, bottom), (width, right)), start=1):  # back and forth in a tiny photo
        place = torch.arange(-edge, end, device=photo.device).remainder(max(1, 2 * (side - 1)))
        photo = photo.index_select(axis, torch.minimum(place, (2 * (side - 1) - place).abs()))
    return photo
