"""All measurements of a photo, from the same few windows of its pixels."""

from __future__ import annotations

from xpsr_cli.captioning.captions import Box
from xpsr_cli.captioning.exposure import measure_tones
from xpsr_cli.captioning.jpeg_quality import file_table, find_jpeg
from xpsr_cli.captioning.measured import SHARP_SIGMA_PX, Measurements
from xpsr_cli.captioning.noise_level import noise_level
from xpsr_cli.captioning.sample_windows import blocks_of, read_windows
from xpsr_cli.captioning.sharpness import blur_sigma
from xpsr_cli.photos.photo import Depth, PhotoSource


def measure(photo: PhotoSource, box: Box | None = None) -> Measurements:
    """See :meth:`~xpsr_cli.captioning.measured.MeasuredCaptioner.look`."""
    windows = read_windows(photo, box)
    jpeg = find_jpeg(windows, file_table(photo.info.path))
    blocks = blocks_of(windows, jpeg.phase)
    tones = measure_tones(windows)
    sigma, noise = SHARP_SIGMA_PX, 0.0  # of what has nothing to see
    if len(blocks):
        rounded = photo.info.depth is Depth.U8
        seen = noise_level(blocks, jpeg.steps, rounded=rounded)
        noise = seen.noise
        sigma = blur_sigma(blocks, jpeg.steps, seen.luma_noise, otherwise=SHARP_SIGMA_PX)
    return Measurements(
        sigma_px=sigma,
        noise=noise,
        jpeg_quality=jpeg.quality,
        shadows=tones.shadows,
        highlights=tones.highlights,
        clipped=tones.clipped,
        cast=tones.cast,
        cast_hue=tones.cast_hue,
    )
