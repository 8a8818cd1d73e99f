"""Pictures of one subject, what is known of their files, and how far they are from each other."""

# shapes: bands are (rows, W, 3) uint8 in sRGB

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xpsr_cli.evaluation.metrics import METRICS
from xpsr_cli.evaluation.page_pictures import PagePicture, band_rows, picture_of_photo, screen_bands
from xpsr_cli.evaluation.screen_colours import on_grey
from xpsr_cli.photos.photo import PhotoSource, Pixels
from xpsr_cli.photos.source import open_photo

_PEAK = 255.0
_SSIM_WINDOW = 11  # pixels; rows and columns that its map is shorter by, and one


@dataclass(frozen=True)
class Subject:
    """Photo files of one subject, each by the name that a page shows, in the order in which they are shown."""

    title: str
    pictures: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class ComparedPicture:
    """One picture: its file, its upright size in pixels, and what was done to it for the page, if anything."""

    name: str
    file: Path
    width: int
    height: int
    file_bytes: int
    change: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        size = {"width": self.width, "height": self.height, "bytes": self.file_bytes}
        return {"name": self.name, "file": str(self.file), **size, "change": self.change}


@dataclass(frozen=True)
class Likeness:
    """How like each other two pictures of one size are, as 8-bit sRGB, by the measures of the RealSR tables.

    ``psnr`` is in dB of luma, infinite where it is the same. ``identical`` says that every pixel is the same.
    """

    names: tuple[str, str]
    psnr: float
    ssim: float
    identical: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: ``psnr`` is then ``None``."""
        psnr = self.psnr if math.isfinite(self.psnr) else None
        return {"pictures": list(self.names), "psnr": psnr, "ssim": self.ssim, "identical": self.identical}

    def __str__(self) -> str:
        if self.identical:
            return "every pixel is the same"
        return f"PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}"


@dataclass(frozen=True)
class Comparison:
    """All that is told of the pictures of one subject; ``likenesses`` are of the pairs that have one size."""

    title: str
    pictures: tuple[ComparedPicture, ...]
    likenesses: tuple[Likeness, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        pictures = [picture.to_dict() for picture in self.pictures]
        return {"title": self.title, "pictures": pictures, "likenesses": [each.to_dict() for each in self.likenesses]}


def compare(subject: Subject) -> tuple[Comparison, list[PagePicture]]:
    """Measure the pictures of a subject, and make them ready for a page.

    Every picture is read to its end; :class:`~xpsr_cli.errors.PhotoError` names the first that cannot be. Pictures
    are read in bands, so no more of one is in memory than its page picture.
    """
    compared, shown = [], []
    with ExitStack() as stack:
        photos = [(name, stack.enter_context(open_photo(file))) for name, file in subject.pictures]
        for (name, photo), (_, file) in zip(photos, subject.pictures, strict=True):
            _read_to_its_end(photo)
            picture = picture_of_photo(photo)
            shown.append(picture)
            compared.append(ComparedPicture(name, file, *photo.info.size, file.stat().st_size, picture.change))
        likenesses = [
            _likeness((a, b), one, other)
            for (a, one), (b, other) in combinations(photos, 2)
            if one.info.size == other.info.size
        ]
    return Comparison(subject.title, tuple(compared), tuple(likenesses)), shown


def _read_to_its_end(photo: PhotoSource) -> None:
    info, rows = photo.info, band_rows(photo.info)
    for top in range(0, info.height, rows):
        photo.read(top, 0, min(rows, info.height - top), info.width)


def _likeness(names: tuple[str, str], one: PhotoSource, other: PhotoSource) -> Likeness:
    """From bands that overlap as far as SSIM looks around: the means over them are those of the whole pictures."""
    rows = band_rows(one.info)
    height = one.info.height
    squared_errors, ssims, identical = 0.0, 0.0, True
    before: list[Pixels] = []
    for bands in zip(screen_bands(one, rows), screen_bands(other, rows), strict=True):
        a, b = (on_grey(band) for band in bands)
        identical = identical and np.array_equal(a, b)
        squared_errors += len(a) * _PEAK**2 / 10 ** (METRICS["psnr"](a, b) / 10)
        strips = [np.concatenate(parts) for parts in zip(before, (a, b), strict=True)] if before else [a, b]
        if (mapped := len(strips[0]) - _SSIM_WINDOW + 1) > 0:
            ssims += mapped * METRICS["ssim"](*strips)
        before = [strip[-_SSIM_WINDOW + 1 :] for strip in strips]
    mean_error = squared_errors / height
    psnr = 10 * math.log10(_PEAK**2 / mean_error) if mean_error > 0 else math.inf
    return Likeness(names, psnr, ssims / (height - _SSIM_WINDOW + 1), identical)


def mean_likenesses(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], Likeness]:
    """The mean of each pair of names over all subjects that have it, where there are several subjects."""
    found: dict[tuple[str, str], list[Likeness]] = {}
    for comparison in comparisons if len(comparisons) > 1 else ():
        for likeness in comparison.likenesses:
            found.setdefault(likeness.names, []).append(likeness)
    return {names: _mean(names, each) for names, each in found.items()}


def _mean(names: tuple[str, str], each: Sequence[Likeness]) -> Likeness:
    return Likeness(
        names,
        sum(likeness.psnr for likeness in each) / len(each),
        sum(likeness.ssim for likeness in each) / len(each),
        all(likeness.identical for likeness in each),
    )
