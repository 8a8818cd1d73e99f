"""Photos whose quality is known, for the benchmarks of captions: degraded as in training, or left as they are."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from xpsr_cli.photos.photo import Pixels
from xpsr_cli.training.dataset import SCALE, TrainingPhoto
from xpsr_cli.training.degradation import Degradation, Degrader, Draw
from xpsr_cli.training.degradation_steps import Jpeg, Noise, Step, to_u8

DEGRADED = ("light", "xpsr", "bicubic")
"""The presets that xpsr-mini is trained on."""
CLEAN = ("camera", "shrunk")
"""As they are, in parts, so as soft as cameras make them, some of them JPEGs; and much smaller, so sharp."""
NOISY = "noisy"
"""Only shrunk before noise of all strengths, and then half of them saved as a JPEG."""
_DEGRADERS = {preset: Degrader({preset: 1.0}, SCALE) for preset in DEGRADED}
_FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo (H, W, 3) and what was done to it."""

    kind: str
    pixels: Pixels
    truth: Degradation


def degraded(photo: Pixels, preset: str, seed: Sequence[int]) -> Sample:
    """A large photo, degraded as the preset has it and made four times smaller."""
    return _apply(photo, preset, _DEGRADERS[preset].draw(seed))


def samples(photo: Pixels, seed: Sequence[int]) -> Iterator[Sample]:
    """One of each kind."""
    rng = np.random.default_rng(list(seed))
    for place, preset in enumerate(DEGRADED):
        yield degraded(photo, preset, [*seed, place])
    shrunk = _DEGRADERS["bicubic"].draw([*seed, len(DEGRADED)])
    yield _apply(photo, NOISY, Draw(NOISY, (*shrunk.stages, tuple(_draw_noise(rng)))))
    yield _camera(photo, rng)
    yield _shrunk(photo, rng)


def _camera(photo: Pixels, rng: np.random.Generator) -> Sample:
    """A part of the photo, and half of the time through a JPEG of good quality."""
    side = int(rng.choice((128, 256)))
    top, left = (int(rng.integers(whole - side + 1)) for whole in photo.shape[:2])
    part, quality = photo[top : top + side, left : left + side], 100
    if rng.random() < 0.5:
        quality, file = int(rng.integers(80, 98)), io.BytesIO()
        Image.fromarray(part).save(file, "JPEG", quality=quality)
        part = np.asarray(Image.open(file))
    return Sample("camera", part, Degradation(jpeg_quality=quality))


def _shrunk(photo: Pixels, rng: np.random.Generator) -> Sample:
    """The whole photo in a half or a quarter of its size."""
    image, times = Image.fromarray(photo), int(rng.choice((2, 4)))
    image = image.resize((image.width // times, image.height // times), _FILTERS[rng.integers(2)])
    return Sample("shrunk", np.asarray(image), Degradation())


def every_sample(photos: Sequence[TrainingPhoto], seed: int) -> Iterator[Sample]:
    """One of each kind for each photo."""
    for place, photo in enumerate(photos):
        yield from samples(photo.pixels, [seed, place])


def _draw_noise(rng: np.random.Generator) -> Iterator[Step]:
    strength = float(np.exp(rng.uniform(0, np.log(30))))
    yield Noise("gaussian", strength, grey=bool(rng.random() < 0.4), seed=int(rng.integers(2**63)))
    if rng.random() < 0.5:
        yield Jpeg(rng.uniform(40, 98))


def _apply(photo: Pixels, kind: str, draw: Draw) -> Sample:
    large_01 = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].float() / 255
    pairs = _DEGRADERS["bicubic"](large_01, [draw])
    return Sample(kind, to_u8(pairs.small_01[0].permute(1, 2, 0).numpy()), pairs.drawn[0])
