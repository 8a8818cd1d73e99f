"""The worst and the best pictures of an evaluation, chosen by their scores and made small enough for a page."""

# shapes: pixels are (H, W, 3) uint8

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.metric import MetricFacts
from xpsr_cli.evaluation.page_pictures import encode_png
from xpsr_cli.evaluation.plots import first_perceptual
from xpsr_cli.evaluation.scored_pictures import read_picture
from xpsr_cli.evaluation.scores import Evaluation, Pair
from xpsr_cli.evaluation.statistics import Statistics
from xpsr_cli.evaluation.tables import heading, number
from xpsr_cli.photos.photo import Pixels

MOST_CASES = 12
MOST_METHODS = 6
"""Results of one picture that are shown."""
SIDE_PX = 768
"""Of larger pictures the middle is shown."""
BYTES = 9_000_000
"""Of all pictures of a page together; as base64 they are a third more."""
_QUALITY = 90
_RANKS = 3  # the worst, the second worst, ...


@dataclass
class Case:
    """A picture worth a look. ``method`` is whose result it was chosen for first.

    ``reasons`` are scores with their methods, by what place the picture has among all of them.
    """

    pair: Pair
    method: str
    reasons: dict[str, list[str]] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """What it was chosen for, in words: ``worst GMSD ↓: bicubic 0.2464, lanczos 0.2397``."""
        return "; ".join(f"{place}: {', '.join(scores)}" for place, scores in self.reasons.items())


def case_metrics(evaluation: Evaluation) -> list[MetricFacts]:
    """By what cases are chosen: the first perceptual metric and PSNR; the first metric of all without either."""
    of_pictures = [facts for facts in evaluation.metrics if not facts.whole_set]
    psnr = next((facts for facts in of_pictures if facts.name == "psnr"), None)
    chosen = [facts for facts in (first_perceptual(of_pictures), psnr) if facts is not None]
    return chosen or of_pictures[:1]


def choose_cases(evaluation: Evaluation, statistics: Statistics) -> list[Case]:
    """At most ``MOST_CASES`` pictures, each once: of every method the worst and the best, then the second worst..."""
    cases: dict[str, Case] = {}
    for rank, facts, method in product(range(_RANKS), case_metrics(evaluation), evaluation.methods):
        scores = statistics.scores[method, facts.key]
        order = sorted(
            np.flatnonzero(~np.isnan(scores)).tolist(), key=lambda index: facts.gain(float(scores[index]), 0.0)
        )
        if rank >= len(order) // 2 and rank:  # so few pictures have no second worst one
            continue
        for index, word in ((order[rank], "worst"), (order[-1 - rank], "best")) if order else ():
            pair = evaluation.set.pairs[index]
            if pair.name not in cases and len(cases) == MOST_CASES:
                continue
            place = f"{('', 'second ', 'third ')[rank]}{word} {heading(facts)}"
            reasons = cases.setdefault(pair.name, Case(pair, method)).reasons
            reasons.setdefault(place, []).append(f"{method} {number(float(scores[index]), facts)}")
    return list(cases.values())


def case_pictures(evaluation: Evaluation, statistics: Statistics, case: Case) -> list[tuple[str, bytes]]:
    """The results of all methods, the original and the input, each with its name, as WebP and PNG files.

    The first two are the ones to compare: the reference and the method of the case, or the original for the reference.
    Of pictures above ``SIDE_PX`` the middle is cut out, without a change of scale. What cannot be read is left out.
    """
    pixels = {name: pixels for name, path in _files(evaluation, case.pair) if (pixels := _read(path)) is not None}
    other = statistics.reference if case.method != statistics.reference else _ORIGINAL
    order = dict.fromkeys(name for name in (other, case.method, *pixels) if name in pixels)
    shares = next((_shown(pixels[name]) for name in order if name != _INPUT), (1.0, 1.0))
    return [
        (_title(evaluation, name), _encoded(_middle(pixels[name], shares), lossless=name == _INPUT)) for name in order
    ]


_ORIGINAL, _INPUT = "\0original", "\0input"  # no method can be called that


def _files(evaluation: Evaluation, pair: Pair) -> Iterator[tuple[str, Path]]:
    for method in evaluation.methods[:MOST_METHODS]:
        results = (evaluation.results.get((method, seed, pair.name)) for seed in evaluation.seeds[method])
        if path := next((path for path in results if path is not None), None):
            yield method, path
    if pair.hr is not None:
        yield _ORIGINAL, pair.hr
    if pair.lr is not None:
        yield _INPUT, pair.lr


def _title(evaluation: Evaluation, name: str) -> str:
    if name in (_ORIGINAL, _INPUT):
        return "original" if name == _ORIGINAL else "input"
    return f"{name}, one of {len(evaluation.seeds[name])} seeds" if len(evaluation.seeds[name]) > 1 else name


def _read(path: Path) -> Pixels | None:
    try:
        return read_picture(path).pixels
    except (PhotoError, OSError):  # moved away, or damaged since it was scored
        return None


def _shown(pixels: Pixels) -> tuple[float, float]:
    """What share of the height and of the width fits."""
    return min(1.0, SIDE_PX / pixels.shape[0]), min(1.0, SIDE_PX / pixels.shape[1])


def _middle(pixels: Pixels, shares: tuple[float, float]) -> Pixels:
    (height, width), (high, wide) = pixels.shape[:2], shares
    rows, columns = max(1, round(height * high)), max(1, round(width * wide))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])


def _encoded(pixels: Pixels, *, lossless: bool) -> bytes:
    """A file for the page; without loss for the input, whose few pixels are seen enlarged."""
    if lossless:
        return encode_png(pixels)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()
