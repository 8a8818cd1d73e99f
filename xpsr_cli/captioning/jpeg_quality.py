"""How strongly a photo was compressed as a JPEG, now or before it was saved in another format or again.

The file says it of the last time, the pixels of the others, as far as they are still those of that JPEG.
"""

# shapes: 64 frequencies in the order of rows of an 8 x 8 block

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import JpegImagePlugin

from xpsr_cli.captioning.block_spectrum import spectrum, unclipped
from xpsr_cli.captioning.blockiness import blockiness
from xpsr_cli.captioning.jpeg_traces import earlier_evidence, evidence, is_enough
from xpsr_cli.captioning.sample_windows import Blocks, SampleWindow, blocks_of
from xpsr_cli.photos.photo import Floats
from xpsr_cli.photos.whole_picture import pillow_as_decoder

# Quantisation of luminance at quality 50 (ITU-T T.81, table K.1).
_BASE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).ravel()
_MOST_BLOCKS = 4096


class JpegTraces(NamedTuple):
    """What JPEG left: ``quality`` 1 to 100, and the coarsest ``steps`` (64,) that can be seen in the pixels.

    ``phase`` (down, right) is where in the photo the first whole block begins.
    """

    quality: float = 100.0
    steps: Floats | None = None
    phase: tuple[int, int] = (0, 0)


def quantisation(quality: int) -> Floats:
    """(64,) steps of luminance as libjpeg scales them, 1 to 255, for a quality of 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_BASE * percent + 50) // 100, 1, 255).astype(np.float32)


def _also_turned(tables: Floats) -> Floats:
    """(T, 64) to (2 T, 64): with those of photos that were turned by a quarter."""
    return np.concatenate([tables, tables.reshape(-1, 8, 8).swapaxes(1, 2).reshape(-1, 64)])


_ALL = _also_turned(np.stack([quantisation(quality) for quality in range(1, 101)]))
_SEEN = _also_turned(np.stack([quantisation(quality) for quality in range(5, 99)]))  # finer steps cannot be seen


def quality_of(steps: Floats) -> float:
    """The quality of libjpeg whose steps are nearest to those given, by their ratios."""
    difference = np.abs(np.log(_ALL) - np.log(np.maximum(steps, 1))).sum(axis=1)
    return float(1 + difference.argmin() % 100)


def file_table(path: Path | None) -> Floats | None:
    """(64,) steps of luminance of the JPEG at ``path``; ``None`` if there is none or it is no JPEG."""
    if path is None:
        return None
    try:
        with pillow_as_decoder(), JpegImagePlugin.JpegImageFile(path) as image:
            tables = image.quantization
    except (OSError, SyntaxError):  # gone, or another format
        return None
    return np.array(tables[min(tables)], np.float32) if tables else None


def find_jpeg(windows: list[SampleWindow], of_file: Floats | None = None) -> JpegTraces:
    """Traces of JPEG in the pixels, and in ``of_file``, the steps in the file; the lowest quality counts."""
    quality = 100.0 if of_file is None else quality_of(of_file)
    tables = _SEEN if of_file is None else np.concatenate([_SEEN, _also_turned(of_file[None].clip(1, 255))])
    blocky = blockiness(windows)
    for phase in dict.fromkeys([(0, 0), blocky.phase]):
        coefficients = _coefficients(blocks_of(windows, phase))
        steps = _best(tables, *evidence(coefficients, tables))
        if steps is not None:
            earlier = _best(_SEEN, *earlier_evidence(coefficients, _SEEN, steps))
            found = [table for table in (steps, earlier) if table is not None]
            return JpegTraces(min(quality, *map(quality_of, found)), np.max(found, axis=0), phase)
    return JpegTraces(min(quality, _quality_of_blocks(blocky.strength)))


def _quality_of_blocks(strength: float) -> float:
    """Roughly the quality that leaves blocks of that strength, fitted to training pairs."""
    return max(40.0, 80.0 - 250.0 * strength) if strength else 100.0


def _best(tables: Floats, scores: np.ndarray, count: int) -> Floats | None:
    best = int(scores.argmax())
    return tables[best] if is_enough(scores[best], count) else None


def _coefficients(blocks: Blocks) -> Floats:
    """(N, 64) of up to some thousand blocks, evenly taken from all."""
    luma = blocks.luma[unclipped(blocks.luma)]
    every = max(1, -(-len(luma) // _MOST_BLOCKS))
    return spectrum(luma[::every])
