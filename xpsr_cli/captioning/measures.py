"""All measurements of a photo, from the same few windows of its pixels."""

from __future__ import annotations

from dataclasses import replace

from xpsr_cli.captioning.captions import Box
from xpsr_cli.captioning.exposure import measure_tones
from xpsr_cli.captioning.jpeg_quality import file_table, find_jpeg
from xpsr_cli.captioning.level_evidence import level_evidence
from xpsr_cli.captioning.level_odds import level_odds, odds_of_flat, with_jpeg_found
from xpsr_cli.captioning.measured import SHARP_SIGMA_PX, Measurements
from xpsr_cli.captioning.noise_level import NoiseLevel, noise_level
from xpsr_cli.captioning.sample_windows import blocks_of, read_windows
from xpsr_cli.captioning.sharpness import blur_sigma, has_detail
from xpsr_cli.photos.photo import Depth, Floats, PhotoSource


def measure(photo: PhotoSource, box: Box | None = None) -> Measurements:
    """See :meth:`~xpsr_cli.captioning.measured.MeasuredCaptioner.look`."""
    measured, evidence = measure_with_evidence(photo, box)
    odds = odds_of_flat(measured.noise) if evidence is None else level_odds(evidence)
    return replace(measured, odds=with_jpeg_found(odds, measured.jpeg_quality))


def measure_with_evidence(photo: PhotoSource, box: Box | None = None) -> tuple[Measurements, Floats | None]:
    """Measurements without odds, and the evidence for those; ``None`` where the photo has no detail."""
    windows = read_windows(photo, box)
    jpeg = find_jpeg(windows, file_table(photo.info.path))
    blocks = blocks_of(windows, jpeg.phase)
    noise, sigma_px = NoiseLevel(0.0, 0.0), SHARP_SIGMA_PX  # of what has nothing to see
    if len(blocks):
        noise = noise_level(blocks, jpeg.steps, rounded=photo.info.depth is Depth.U8)
    seen = len(blocks) > 0 and has_detail(blocks)
    if seen:
        sigma_px = blur_sigma(blocks, jpeg.steps, noise.luma_noise)
    tones = measure_tones(windows)
    measured = Measurements(
        sigma_px=sigma_px,
        noise=noise.noise,
        jpeg_quality=jpeg.quality,
        shadows=tones.shadows,
        highlights=tones.highlights,
        clipped=tones.clipped,
        cast=tones.cast,
        cast_hue=tones.cast_hue,
    )
    return measured, level_evidence(blocks, jpeg, measured, noise.luma_noise) if seen else None
