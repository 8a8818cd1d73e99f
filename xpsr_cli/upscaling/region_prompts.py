"""The prompts of windows: the same everywhere, or those of the nearest region that has a prompt of its own."""

from __future__ import annotations

from xpsr_cli.errors import PhotoError
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.sampling.denoiser import WindowPrompts
from xpsr_cli.sampling.prompts import NearestPrompts, PromptEncoder, encode_prompts, guidance_rows
from xpsr_cli.settings import SamplingPreset, UpscaleSettings


def window_prompts(
    encoder: PromptEncoder, settings: UpscaleSettings, preset: SamplingPreset, cells_per_px: float = 1.0
) -> WindowPrompts:
    """The prompts of every window, encoded once per text. With region prompts a window takes the nearest one's.

    ``cells_per_px`` are the latent cells that a pixel of the photo takes.
    """

    def rows(prompt: str) -> PromptPair:
        return guidance_rows(preset.guidance_scale, *encode_prompts(encoder, prompt, settings.low_prompt, preset))

    if not settings.region_prompts:
        everywhere = rows(settings.prompt)
        return lambda _: everywhere
    by_text = {region.prompt: rows(region.prompt) for region in settings.region_prompts}
    centres = [
        ((region.top + region.height / 2) * cells_per_px, (region.left + region.width / 2) * cells_per_px)
        for region in settings.region_prompts
    ]
    return NearestPrompts([by_text[region.prompt] for region in settings.region_prompts], centres)


def check_regions(info: PhotoInfo, settings: UpscaleSettings) -> None:
    """:class:`PhotoError` for a prompt of a place that the photo does not have: its caption may be another photo's."""
    for region in settings.region_prompts:
        if region.left + region.width > info.width or region.top + region.height > info.height:
            place = f"{region.width} x {region.height} pixels at {region.left}, {region.top}"
            raise PhotoError(
                f"The caption of {info.name} speaks of {place}, and the photo is {info.width} x {info.height} pixels.",
                "Correct its regions, or describe the photo anew.",
            )
