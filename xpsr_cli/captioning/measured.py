"""A captioner without a network: it measures how good a photo is, and says so in the words training pairs carry.

It says a word only where it is likely enough to be the right one: a wrong one does more harm than none. What is in the
photo it cannot tell: the high-level text is empty. Standard library only until a photo is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from xpsr_cli.captioning.captions import Box, Caption, CaptionerKey
from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level

if TYPE_CHECKING:
    from xpsr_cli.photos.photo import PhotoSource

MEASURED_KEY = CaptionerKey(name="measured", model="measured", version=2)
"""Who captions, and the version of the measures: it goes up when they give other texts."""

SHARP_SIGMA_PX = 0.40
"""Blur of a photo that was shrunk to its size, as it is measured."""
_BLUR_SLOPE = 3.8  # pixels of the photo enlarged four times to one of its own, fitted to training pairs
_MTF10_PX = 0.683  # a Gaussian of this standard deviation leaves a tenth of the contrast at the finest frequency
_SURE_ENOUGH = (
    (BLUR, (0.6, 0.6, 0.6, 0.45)),
    (NOISE, (0.65, 0.65, 0.65, 0.6)),
    (JPEG, (0.45, 0.6, 0.6, 0.6)),
)
"""How likely each level has to be for its word to be said; the worst one need not be as much.

Chosen so that at least four words out of five are right (``benchmarks/measured.py``).
"""
_ONE_OF_THE_WORST_TWO = 0.9  # so likely, the likelier of them is said: a photo so bad is not passed over in silence
_LOW_RESOLUTION = 0.65
_DARK, _BRIGHT = 0.35, 0.65  # where the brightest and the darkest twentieth lie
_LOW_CONTRAST = 0.25
_CAST = 0.25
_HUES = (
    (15, "red"), (45, "orange"), (75, "yellow"), (165, "green"), (200, "cyan"), (265, "blue"), (345, "magenta"),
)  # fmt: skip
"""Degrees of hue up to which a colour has that name; beyond the last it is the first again."""


Odds = tuple[float, ...]
"""How likely each level of a phrase is; what is missing to 1 is for none that there is a word for."""


class LevelOdds(NamedTuple):
    """How likely the levels of :mod:`~xpsr_cli.quality_words` are, in their order."""

    blur: Odds = (0.0,) * len(BLUR)
    noise: Odds = (0.0,) * len(NOISE)
    jpeg: Odds = (0.0,) * len(JPEG)


@dataclass(frozen=True)
class Measurements:
    """What was measured of a photo, or of a part of it."""

    sigma_px: float
    """Standard deviation of the Gaussian that its sharpest details are blurred with, in pixels of the photo."""
    noise: float
    """Standard deviation of the noise, in 1/255."""
    jpeg_quality: float
    """Lowest quality it was saved with as a JPEG, on libjpeg's scale; 100 without traces of that."""
    shadows: float
    """Brightness that a twentieth of the pixels lie below, 0 black to 1 white."""
    highlights: float
    """Brightness that a twentieth of the pixels lie above."""
    clipped: float
    """Share of the pixels that are black or white in all channels."""
    cast: float
    """How far from grey all but the greyest twentieth of the pixels are, towards the average colour; 0 to about 1."""
    cast_hue: float
    """Hue of the average colour in degrees: 0 red, 120 green, 240 blue."""
    odds: LevelOdds = LevelOdds()
    """What the words are chosen by: more is looked at than the measures."""

    @property
    def blur_px(self) -> float:
        """Blur beyond that of a photo shrunk to its size, in pixels of the photo enlarged four times."""
        return _BLUR_SLOPE * math.sqrt(max(self.sigma_px**2 - SHARP_SIGMA_PX**2, 0.0))

    @property
    def contrast(self) -> float:
        """Between shadows and highlights, 0 to 1."""
        return self.highlights - self.shadows

    @property
    def resolution(self) -> float:
        """How much smaller a side could be without losing detail (MTF10): 1 none, 0.5 half as wide."""
        return min(1.0, _MTF10_PX / max(self.sigma_px, _MTF10_PX))


class MeasuredCaptioner:
    """The low-level text from measurements; see :class:`~xpsr_cli.captioning.captions.Captioner`."""

    name = MEASURED_KEY.name
    batch_size = 1
    says_content = False

    def look(self, photo: PhotoSource, box: Box | None = None) -> Measurements:
        """Measure a photo, or a part of it, at a bounded number of pixels however large it is.

        Raises :class:`~xpsr_cli.errors.PhotoError` if its pixels are damaged.
        """
        from xpsr_cli.captioning.measures import measure

        return measure(photo, box)

    def describe(self, looks: Sequence[Measurements]) -> list[Caption]:
        """One caption for each, with an empty high-level text."""
        return [Caption(high="", low=quality_text(look), captioner=self.name) for look in looks]

    def summarize(self, looks: Sequence[Measurements]) -> list[str]:
        """Nothing for each."""
        return [""] * len(looks)

    def close(self) -> None:
        """Nothing is held."""


def quality_text(measured: Measurements) -> str:
    """Such as ``"slightly blurred, JPEG artifacts"``: what is likely enough, and what else is notable after it."""
    said = (_likely(levels, sure, odds) for (levels, sure), odds in zip(_SURE_ENOUGH, measured.odds, strict=True))
    return ", ".join([*(level.words[0] for level in said if level), *_notable(measured)])


def _likely(levels: tuple[Level, ...], sure: tuple[float, ...], odds: Odds) -> Level | None:
    """The level to be said, if one is likely enough."""
    places = [place for place in range(len(levels)) if odds[place] >= sure[place]]
    worst_two = (0, 1) if levels is JPEG else (len(levels) - 2, len(levels) - 1)
    if not places and sum(odds[place] for place in worst_two) >= _ONE_OF_THE_WORST_TWO:
        places = list(worst_two)
    return levels[max(places, key=lambda place: odds[place])] if places else None


def _notable(measured: Measurements) -> list[str]:
    found = []
    if measured.resolution < _LOW_RESOLUTION:
        found.append("low resolution")
    if measured.highlights < _DARK:
        found.append("underexposed")
    elif measured.shadows > _BRIGHT:
        found.append("overexposed")
    elif measured.contrast < _LOW_CONTRAST:
        found.append("low contrast")
    if measured.cast > _CAST:
        name = next((name for below, name in _HUES if measured.cast_hue < below), _HUES[0][1])
        found.append(f"{name} colour cast")
    return found
