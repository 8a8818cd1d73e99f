"""From ``--captions`` and its companions to the prompts of every photo of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from xpsr_cli.captioning.caption_files import read_captions
from xpsr_cli.captioning.captions import Caption
from xpsr_cli.captioning.choosing import AUTO, MEASURED, CaptionerChoice
from xpsr_cli.captioning.mllm_files import DEFAULT_MLLM
from xpsr_cli.captioning.photo_captions import PhotoCaptions
from xpsr_cli.captioning.regions import region_boxes
from xpsr_cli.captioning.sidecars import PERSON
from xpsr_cli.errors import UsageError
from xpsr_cli.progress import Progress
from xpsr_cli.settings import CaptionScope, CaptionSource, RegionPrompt, SamplingPreset, UpscaleSettings

WINDOWS_PER_REGION = 3
"""Windows side by side that share a high-level text under ``--caption-scope region``."""
_WORDS = ", ".join(source.value for source in CaptionSource)


class Prompts(Protocol):
    """Where the prompts of each photo of a run come from."""

    def deciding(self, photo: Path) -> dict[str, Any]:
        """What of them, besides the settings, decides a photo's result: JSON-like values, known without a captioner.

        Raises :class:`~xpsr_cli.errors.PhotoError` for words about a photo that cannot be read.
        """

    def prepare(self, photos: list[Path], progress: Progress) -> None:
        """Have the photos captioned before anything else needs the memory."""

    def of(self, photo: Path, settings: UpscaleSettings) -> tuple[UpscaleSettings, Caption]:
        """The settings with the prompts of this photo, and the caption they come from."""


@dataclass(frozen=True)
class RecordedPrompts:
    """The prompts that the settings hold, and who wrote them once."""

    captioner: str

    def deciding(self, photo: Path) -> dict[str, Any]:
        """Nothing besides the settings."""
        return {}

    def prepare(self, photos: list[Path], progress: Progress) -> None:
        """Nothing is to be done."""

    def of(self, photo: Path, settings: UpscaleSettings) -> tuple[UpscaleSettings, Caption]:
        """The settings as they are."""
        return settings, Caption(settings.prompt, settings.low_prompt, self.captioner)


@dataclass(frozen=True)
class CaptionedPrompts:
    """The prompts that were given on the command line, else those of the photo's caption."""

    captions: PhotoCaptions
    prompt: str | None = None
    low_prompt: str | None = None

    def deciding(self, photo: Path) -> dict[str, Any]:
        """The caption, or who will write it, under what was given: a text that was given as empty counts, too."""
        values = self.captions.deciding(photo)
        for name, text in (("high", self.prompt), ("low", self.low_prompt)):
            if text is not None and (name in values or not text):  # the settings tell of others
                values[name] = text
        if self.prompt is not None and "regions" in values:
            values["regions"] = []
        return values

    def prepare(self, photos: list[Path], progress: Progress) -> None:
        """See :class:`Prompts`. What is only measured can wait until the photo's turn."""
        if self.captions.choice is not None and self.captions.choice.key.name != MEASURED:
            self.captions.prepare(photos, progress)

    def of(self, photo: Path, settings: UpscaleSettings) -> tuple[UpscaleSettings, Caption]:
        """See :class:`Prompts`. The caption is the one that was used: with what was given in place of its texts."""
        caption = self.captions.of(photo)
        caption = replace(caption, captioner=self._writers(caption))
        if self.prompt is not None:
            caption = replace(caption, high=self.prompt, regions=())
        if self.low_prompt is not None:
            caption = replace(caption, low=self.low_prompt)
        regions = tuple(
            RegionPrompt(region.box.left, region.box.top, region.box.width, region.box.height, region.high)
            for region in caption.regions
        )
        return replace(settings, prompt=caption.high, low_prompt=caption.low, region_prompts=regions), caption

    def _writers(self, caption: Caption) -> str:
        """Who wrote the texts that are used: the person at the command line, who described the photo, or both."""
        if not (self.prompt or self.low_prompt):
            return caption.captioner
        taken = (self.prompt is None and caption.high) or (self.low_prompt is None and caption.low)
        return f"{PERSON} and {caption.captioner}" if taken and caption.captioner != PERSON else PERSON


def choose_prompts(
    captions: str,
    scope: CaptionScope,
    prompt: str | None,
    low_prompt: str | None,
    settings: UpscaleSettings,
    preset: SamplingPreset,
    captioner: str | None,
    choose: Callable[[str], CaptionerChoice],
    note: Callable[[str], None],
) -> CaptionedPrompts:
    """Who describes the photos of a run.

    Args:
        captions: a word of :class:`CaptionSource`, or a file or folder of captions.
        scope: what the high-level texts speak of.
        prompt, low_prompt: what was given on the command line, which wins; ``None`` for what was not.
        settings, preset: the scale and the windows, by which regions are measured, and what the model is best told.
        captioner: the captioner that was named, if one was; ``"auto"`` for what a server has.
        choose: :func:`xpsr_cli.captioning.choosing.choose_captioner` with everything but the name.
        note: says something to the person at the terminal.

    Raises:
        UsageError: no such source, a file that holds no captions, or regions of which nobody would say anything.
    """
    is_word, path = captions in {source.value for source in CaptionSource}, Path(captions)
    if not is_word and not path.exists():
        raise UsageError(f"captions is {captions!r}, which is no file and none of {_WORDS}.")
    if prompt is not None and low_prompt is not None:
        is_word, captions = True, CaptionSource.NONE.value  # nothing is left to be said
    if not is_word:
        return CaptionedPrompts(PhotoCaptions(CaptionSource.SIDECAR, file=read_captions(path)), prompt, low_prompt)

    source = CaptionSource(captions)
    if source in (CaptionSource.NONE, CaptionSource.SIDECAR):
        return CaptionedPrompts(PhotoCaptions(source), prompt, low_prompt)
    choice = choose(_captioner_of(source, captioner, preset))
    if source is CaptionSource.MLLM and choice.key.name == MEASURED:
        raise UsageError("captions is mllm, but no multimodal model is installed.", choice.note.rpartition(". ")[2])
    if choice.note:
        note(choice.note)
    boxes = None
    if scope is CaptionScope.REGION and prompt is None:  # a prompt holds everywhere
        if choice.key.name == MEASURED:
            raise UsageError(
                "caption-scope is region, but measuring does not tell what is in a region.",
                f"Add --captions mllm, once {DEFAULT_MLLM} or another multimodal model is installed.",
            )
        side_px = round(WINDOWS_PER_REGION * settings.resolve(preset).tile_size / settings.scale)
        boxes = partial(region_boxes, side_px=side_px)
    return CaptionedPrompts(PhotoCaptions(source, choice=choice, boxes=boxes), prompt, low_prompt)


def _captioner_of(source: CaptionSource, captioner: str | None, preset: SamplingPreset) -> str:
    """The name of the captioner: for ``auto`` the one that was named, else what suits the model."""
    if source is CaptionSource.MEASURED:
        if captioner not in (None, AUTO, MEASURED):
            raise UsageError(f"captions is measured, but the captioner is {captioner}.", "Leave one of them out.")
        return MEASURED
    if source is CaptionSource.MLLM and captioner == MEASURED:
        raise UsageError("captions is mllm, but the captioner is measured.", "Leave one of them out.")
    if source is CaptionSource.AUTO and captioner is None and preset.captions is CaptionSource.MEASURED:
        return MEASURED
    return AUTO if captioner is None else captioner
