"""Every metric of ``xpsr eval`` by name, and how those that were asked for are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.metric import Better, Metric, MetricFacts, Sample
from xpsr_cli.evaluation.niqe import niqe
from xpsr_cli.evaluation.pixel_measures import (
    METRICS,
    consistency_psnr,
    gmsd_y,
    gradient_ratio,
    protocol_psnr,
    protocol_ssim,
    psnr,
)
from xpsr_cli.evaluation.protocols import Protocol, protocol_named
from xpsr_cli.evaluation.scores import Missing
from xpsr_cli.photos.photo import Pixels
from xpsr_cli.settings import SamplingPreset, Sizing

__all__ = ["DEFAULT_PROTOCOL", "METRICS", "METRIC_NAMES", "PixelMetric", "consistency_psnr", "make_metrics", "psnr"]

DEFAULT_PROTOCOL = "osediff"
WINDOW_PX, OVERLAP_PX = SamplingPreset.tile_size, SamplingPreset.tile_overlap
"""The windows whose borders ``seams`` looks at: those that ``xpsr upscale`` has unless it is told otherwise."""

_HR, _LR = frozenset({"hr"}), frozenset({"lr"})
FACTS = {
    facts.name: facts
    for facts in (
        MetricFacts("psnr", "PSNR", Better.HIGHER, 2, "dB", needs=_HR),
        MetricFacts("ssim", "SSIM", Better.HIGHER, 4, needs=_HR),
        MetricFacts("gmsd", "GMSD", Better.LOWER, 4, needs=_HR),
        MetricFacts("sharpness", "sharpness", Better.NEAR_ONE, 3, needs=_HR),
        MetricFacts("consistency", "consistency", Better.HIGHER, 2, "dB", needs=_LR),
        MetricFacts("seams", "seams", Better.NEAR_ONE, 3),
        MetricFacts("niqe", "NIQE", Better.LOWER, 3),
        MetricFacts("lpips", "LPIPS", Better.LOWER, 4, needs=_HR),
        MetricFacts("dists", "DISTS", Better.LOWER, 4, needs=_HR),
        MetricFacts("fid", "FID", Better.LOWER, 2, needs=_HR, whole_set=True),
        MetricFacts("musiq", "MUSIQ", Better.HIGHER, 2),
        MetricFacts("maniqa-koniq", "MANIQA (KonIQ)", Better.HIGHER, 4),
        MetricFacts("maniqa-pipal", "MANIQA (PIPAL)", Better.HIGHER, 4),
        MetricFacts("clipiqa", "CLIPIQA", Better.HIGHER, 4),
    )
}
"""What is known of each metric; those of PSNR and SSIM are of no protocol yet."""
METRIC_NAMES = tuple(FACTS)


@dataclass(frozen=True, eq=False)
class PixelMetric:
    """A metric that is a function of the pixels alone. Threads may share it."""

    facts: MetricFacts
    measure: Callable[[Sample], float]
    choices: Mapping[str, str] = field(default_factory=dict)

    def provenance(self) -> Mapping[str, str]:
        """The package that computes it, and the choices it depends on."""
        return {"package": f"xpsr {version('xpsr')}", **self.choices}

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """One value for each sample; NaN where what it is compared with is absent.

        Raises:
            PhotoError: a result that has not the size of its original.
        """
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> float:
        if any(getattr(sample, needed) is None for needed in self.facts.needs):
            return math.nan
        if "hr" in self.facts.needs:
            check_sizes(sample)
        return self.measure(sample)


def check_sizes(sample: Sample) -> None:
    """Raise :class:`PhotoError` unless a result has the size of its original."""
    if sample.hr is not None and sample.result.shape != sample.hr.shape:
        (h, w), (height, width) = sample.result.shape[:2], sample.hr.shape[:2]
        raise PhotoError(
            f"{sample.name} is {w} x {h} pixels, its original {width} x {height}.",
            "A result is compared with an original of its own size.",
        )


def make_metrics(
    names: Sequence[str],
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    *,
    scale: float | None,
    device: str = "auto",
    folder: Path | None = None,
) -> tuple[list[Metric], list[Missing]]:
    """The metrics of those names that can be computed here, and why the others cannot.

    Args:
        names: of :data:`METRIC_NAMES`; ``all``; or ``default``, which is all but a MANIQA that no protocol means. PSNR
            and SSIM come once for each protocol.
        protocols: of :data:`~xpsr_cli.evaluation.protocols.PROTOCOLS`.
        scale: by which the pictures were enlarged; ``None`` where nothing tells.
        device: where networks run, as for ``--device``.
        folder: where torch keeps the weights that it fetches, in place of ``TORCH_HOME``.

    Raises:
        UsageError: an unknown metric, protocol or device.
    """
    chosen = [protocol_named(name) for name in dict.fromkeys(protocols)]
    metrics: list[Metric] = []
    missing: list[Missing] = []
    for name in _resolved(names, chosen):
        if name in _BY_PROTOCOL:
            for protocol in chosen:
                made = _of_protocol(name, protocol, scale)
                metrics.append(made) if isinstance(made, PixelMetric) else missing.append(made)
        elif name in _OWN:
            measure, choices = _OWN[name]
            metrics.append(PixelMetric(FACTS[name], measure, choices))
        else:
            from xpsr_cli.evaluation.learned import make_learned

            learned = make_learned(FACTS[name], device, folder)
            missing.append(learned) if isinstance(learned, Missing) else metrics.append(learned)
    return metrics, missing


def _resolved(names: Sequence[str], protocols: Sequence[Protocol]) -> list[str]:
    """The names without repetition, ``all`` and ``default`` written out."""
    meant = {protocol.maniqa for protocol in protocols}
    groups = {
        "all": METRIC_NAMES,
        "default": tuple(n for n in METRIC_NAMES if not n.startswith("maniqa") or n in meant),
    }
    found: dict[str, None] = {}
    for name in names:
        if name not in groups and name not in FACTS:
            raise UsageError(f"There is no metric named {name!r}.", f"Known: {', '.join([*groups, *METRIC_NAMES])}.")
        found |= dict.fromkeys(groups.get(name, (name,)))
    return list(found)


_BY_PROTOCOL = {"psnr": protocol_psnr, "ssim": protocol_ssim}


def _of_protocol(name: str, protocol: Protocol, scale: float | None) -> PixelMetric | Missing:
    """PSNR or SSIM under a protocol; it is missing where the protocol needs a scale that nothing tells."""
    facts = replace(FACTS[name], protocol=protocol.name)
    try:
        crop_px = protocol.crop_px(scale)
    except ValueError:
        reason = f"Protocol {protocol.name} crops by the scale, and there are no small photos that tell it."
        return Missing(facts.key, reason, "xpsr eval --protocol osediff")
    function, choices = _BY_PROTOCOL[name], protocol.describe()
    kept = {key: choices[key] for key in ("files", "channels", "border", facts.label, "mean")}

    def measure(sample: Sample) -> float:
        assert sample.hr is not None  # it is in ``needs``
        return function(sample.result, sample.hr, protocol, crop_px)

    return PixelMetric(facts, measure, {**kept, "border cropped": f"{crop_px} pixels"})


def _with_original(function: Callable[[Pixels, Pixels], float]) -> Callable[[Sample], float]:
    def measure(sample: Sample) -> float:
        assert sample.hr is not None  # it is in ``needs``
        return function(sample.result, sample.hr)

    return measure


def _consistency(sample: Sample) -> float:
    assert sample.lr is not None  # it is in ``needs``
    return consistency_psnr(sample.result, sample.lr)


def seam_index(photo_u8: Pixels) -> float:
    """Steps on the borders of the usual windows over those beside them, see :mod:`xpsr_cli.upscaling.seams`.

    1 without seams; NaN for a photo that is one window.
    """
    from xpsr_cli.sampling.tiles import window_grid
    from xpsr_cli.upscaling.canvas import canvas_size
    from xpsr_cli.upscaling.seams import SeamMeter

    height, width = photo_u8.shape[:2]
    canvas_width, canvas_height = canvas_size((width, height), Sizing.PAD)
    windows = window_grid(canvas_height, canvas_width, WINDOW_PX, OVERLAP_PX)
    if len(windows) == 1:
        return math.nan
    meter = SeamMeter(windows, width, height)
    photo_01 = photo_u8.transpose(2, 0, 1).astype(np.float32) / 255
    meter.add(0, photo_01, photo_01)
    return meter.report().index


_OWN: dict[str, tuple[Callable[[Sample], float], dict[str, str]]] = {
    "gmsd": (_with_original(gmsd_y), {"channels": "luma (Y of BT.601 limited range)", "constant": "170"}),
    "sharpness": (_with_original(gradient_ratio), {"channels": "luma (Y of BT.601 limited range)"}),
    "consistency": (
        _consistency,
        {"reduced with": "bicubic of Pillow, to the size of the small photo", "peak": "255"},
    ),
    "seams": (
        lambda sample: seam_index(sample.result),
        {"windows": f"{WINDOW_PX} pixels, overlap {OVERLAP_PX}", "channels": "luma (Rec. 709)"},
    ),
    "niqe": (
        lambda sample: niqe(sample.result),
        {
            "channels": "luma (0.299 R + 0.587 G + 0.114 B in single precision, rounded)",
            "border": "kept",
            "blocks": "96 pixels",
            "pristine photos": "the 125 of its authors",
        },
    ),
}
