"""What speaks for one level of blur, noise or compression or another: a few dozen numbers for a photo.

A single measure is easily fooled: fur looks like noise, and noise that was enlarged since looks like blur. So powers
of all frequencies are kept, in flat and in detailed blocks, in brightness and in colour, beside the measures.
"""

# shapes: N blocks, 64 frequencies in the order of rows of an 8 x 8 block

from __future__ import annotations

import numpy as np

from xpsr_cli.captioning.block_spectrum import ORDER, spectrum, unclipped
from xpsr_cli.captioning.jpeg_quality import JpegTraces
from xpsr_cli.captioning.measured import Measurements
from xpsr_cli.captioning.sample_windows import Blocks
from xpsr_cli.photos.photo import Floats
from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level, level_of

_BANDS = [
    np.isin(ORDER, range(low, high + 1))
    for low, high in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 8), (9, 10), (11, 14))
]
_GROUPS = ((0.0, 0.08), (0.08, 0.25), (0.25, 0.6), (0.7, 1.0))  # of the blocks, from the flattest to the most detailed
_FEWEST_BLOCKS = 6
_COLOUR_BANDS, _COLOUR_GROUPS = (1, 3, 5, 7, 8), (0, 2)
_MIDDLE, _FAST = (ORDER >= 4) & (ORDER <= 7), ORDER >= 9
_QUANTILES = (0.02, 0.1, 0.5, 0.9)  # of blocks: noise is about as strong in all of them
_NOTHING = 0.1  # power in 1/255 squared, added before logarithms: about that of rounding to 8 bits


def level_evidence(blocks: Blocks, jpeg: JpegTraces, measured: Measurements, luma_noise: float) -> Floats:
    """(E,) numbers of about -3 to 20 for at least one block."""
    found = [
        *_one_of(BLUR, measured.blur_px),
        *_one_of(NOISE, measured.noise),
        *_one_of(JPEG, measured.jpeg_quality),
    ]
    return np.array([*_powers(blocks), *_measures(jpeg, measured, luma_noise), *found], np.float32)


def _powers(blocks: Blocks) -> list[float]:
    """Logarithms of the powers in groups of blocks, and of quantiles over all of them."""
    power = np.square(spectrum(blocks.luma))
    blue, red = (np.square(spectrum(blocks.colour[..., channel] - blocks.luma + 128)) for channel in (2, 0))
    kept = np.flatnonzero(unclipped(blocks.luma))
    kept = kept if len(kept) > _FEWEST_BLOCKS else np.arange(len(power))
    kept = kept[np.argsort(power[kept][:, (ORDER == 1) | (ORDER == 2)].sum(axis=1), kind="stable")]
    groups = [_part(kept, *limits) for limits in _GROUPS]
    values = [power[group][:, band].mean() for group in groups for band in _BANDS]
    values += [
        (blue + red)[groups[group]][:, _BANDS[band]].mean() for group in _COLOUR_GROUPS for band in _COLOUR_BANDS
    ]
    for band in (_MIDDLE, _FAST):
        values += np.quantile(power[kept][:, band].mean(axis=1), _QUANTILES).tolist()
    return np.log(np.array(values) + _NOTHING).tolist()


def _part(order: np.ndarray, start: float, end: float) -> np.ndarray:
    first = min(int(len(order) * start), max(len(order) - _FEWEST_BLOCKS, 0))
    return order[first : max(int(len(order) * end), first + _FEWEST_BLOCKS)]


def _measures(jpeg: JpegTraces, measured: Measurements, luma_noise: float) -> list[float]:
    """The measures, and those of noise apart for photos that JPEG was seen in, where they mean something else."""
    step = 1.0 if jpeg.steps is None else float(jpeg.steps[ORDER <= 4].mean())
    logs = np.log([step, measured.noise + 0.3, luma_noise + 0.3, measured.sigma_px + 0.1]).tolist()
    seen = float(jpeg.steps is not None)
    return [jpeg.quality / 20, seen, *logs, seen * logs[1], seen * logs[3], logs[1] ** 2, logs[3] ** 2]


def _one_of(levels: tuple[Level, ...], value: float) -> list[float]:
    """1 for the level that the value lies in, 0 for the others."""
    return [float(level is level_of(levels, value)) for level in levels]
