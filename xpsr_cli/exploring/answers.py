"""Answers in their files: drawn and written, or found where an earlier run has left them.

An answer depends on nothing but its request, which its file tells, so a file with the right words in it need not be
made again.
"""

# shapes: h w small, H W large

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xpsr_cli.errors import PhotoError
from xpsr_cli.exploring.diversity import distances, farthest
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.given import GivenPicture
from xpsr_cli.exploring.operators import Operator, Size
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.priors import Prior, Request
from xpsr_cli.exploring.records import Agreement, is_same_work, results_of, with_results
from xpsr_cli.exploring.text_score import GUIDE
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.photo import Photo, Pixels
from xpsr_cli.photos.provenance import make_manifest, read_provenance, with_provenance
from xpsr_cli.photos.sink import write_photo
from xpsr_cli.photos.source import open_photo
from xpsr_cli.progress import Progress
from xpsr_cli.settings import Bits, OutputOptions

_OUTPUT = OutputOptions(bits=Bits.EIGHT)


@dataclass(frozen=True, eq=False)
class Answer:
    """One large picture (H, W, 3) uint8 in its file, and its reduction (h, w, 3).

    ``before`` says that an earlier run drew it.
    """

    request: Request
    file: Path
    agreement: Agreement
    pixels: Pixels
    reduced: Pixels
    before: bool


class AnswerFiles:
    """Makes and finds answers of ``size`` (H, W) to one small picture.

    ``refine`` is the file that ``options.start`` was read from.
    """

    def __init__(
        self, given: GivenPicture, size: Size, prior: Prior, options: ExploreOptions, refine: Path | None = None
    ) -> None:
        self.given, self.size, self.prior, self.options = given, size, prior, options
        self._refine = refine
        self._operator = Operator(size, given.size, options.operator)
        self._alpha = given.large_alpha(size, options.operator)

    def draw(self, request: Request, file: Path, progress: Progress) -> Answer:
        """Draw an answer and write it, whole or not at all, as a PNG that says what made it."""
        energy = self.prior.scorers[GUIDE].energy if self.options.energy_weight > 0 else None
        explorer = Explorer(self.prior, energy=energy, progress=progress)
        made = explorer.sample(self.given.colour_01, self.size, request, self.options)
        agreement = Agreement(made.raw_db, made.final_db, made.repair_rms)
        manifest = with_results(self._manifest(request), agreement)
        file.parent.mkdir(parents=True, exist_ok=True)
        photo = Photo(made.pixels_u8, self._alpha, with_provenance(self.given.metadata, manifest))
        write_photo(photo, file, _OUTPUT)
        return self._answer(request, file, made.pixels_u8, (made.raw_db, made.repair_rms), before=False)

    def find(self, request: Request, file: Path) -> Answer | None:
        """The answer that a file holds, if it is the very one that would be drawn."""
        try:
            manifest = read_provenance(file)
            if manifest is None or not is_same_work(manifest, self._manifest(request)):
                return None
            results = results_of(manifest)
            with open_photo(file, least_side_px=1) as photo:
                pixels = Photo.from_source(photo).pixels
        except PhotoError:  # no picture, or a damaged one
            return None
        if results is None or pixels.dtype != np.uint8 or pixels.shape != (*self.size, 3):
            return None
        return self._answer(request, file, pixels, results, before=True)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the bytes of all answers alike, beside picture, prior and request, as plain values."""
        options, walk = self.options, None
        if self._refine is not None:
            walk = {"name": self._refine.name, "sha256": hash_file(self._refine), "strength": options.strength}
        return {
            "width": self.size[1],
            "height": self.size[0],
            "method": options.method.value,
            "operator": options.operator.value,
            "noise": options.noise,
            "steps": options.steps,
            "scheduler": options.scheduler.value,
            "travel": str(options.travel),
            "text_guidance": options.energy_weight,
            "refine": walk,
        }

    def _answer(
        self, request: Request, file: Path, pixels: Pixels, results: tuple[float, float], *, before: bool
    ) -> Answer:
        large = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        final_db = self._operator.agreement(large, self.given.colour_01)
        reduced = (self._operator(large.float() / 255).clamp(0, 1) * 255).round().to(torch.uint8)
        agreement = Agreement(results[0], final_db, results[1])
        return Answer(request, file, agreement, pixels, reduced.permute(1, 2, 0).numpy(), before)

    def _manifest(self, request: Request) -> dict[str, Any]:
        identity = dict(self.prior.identity)
        model = str(identity.pop("model", self.prior.name))
        weights = next((str(identity.pop(name)) for name in list(identity) if name.startswith("weights")), "")
        return make_manifest(
            model=model,
            weights=weights,
            input_name=self.given.info.name,
            input_sha256=self.given.sha256,
            settings={**settings_of(request), **self.settings},
            options=_OUTPUT,
            seed=request.seed,
            made_with=identity,
        )


def settings_of(request: Request) -> dict[str, Any]:
    """A request as plain values, without its seed."""
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "guidance_scale": request.guidance_scale,
        "image_weight": request.image_weight,
    }


def farthest_columns(rows: Sequence[Sequence[Answer]], count: int, small_px: int) -> list[int]:
    """``count`` columns of a table of answers that lie far from each other, as the mean over its rows says.

    ``small_px`` is the longer side of the small picture. The same columns are taken in every row.
    """
    apart = np.mean([distances([answer.pixels for answer in row], small_px) for row in rows], axis=0)
    return farthest(apart, count)
