"""What the mode makes of a model's preset, and whether its networks look at a reference."""

from __future__ import annotations

from dataclasses import replace

from xpsr_cli.activator_names import NONE
from xpsr_cli.errors import UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.sampling.sampler import first_step
from xpsr_cli.settings import (
    REFERENCE_STRENGTH,
    ColorFix,
    Mode,
    SamplingPreset,
    Sizing,
    StartLatent,
    UpscaleSettings,
)
from xpsr_cli.upscaling.activation import chosen_activator


def working_preset(components: Components, settings: UpscaleSettings) -> SamplingPreset:
    """The model's preset under the settings, and under what their mode needs.

    :class:`UsageError` for a start that it cannot have.
    """
    preset = settings.resolve(components.preset)
    if settings.mode is Mode.ACTIVATOR:  # what it makes is shown as it is
        return replace(preset, color_fix=ColorFix.NONE, sizing=Sizing.PAD)
    makes_reference = _makes_reference(components, settings)
    if makes_reference and components.reference is None and settings.start is None:
        preset = replace(preset, start=StartLatent.REFERENCE)  # what else could the model do with one?
    if preset.start is StartLatent.NOISE and first_working_step(settings, preset):
        raise UsageError(
            f"strength is {settings.strength:g}, and {components.name} starts from noise alone.",
            "Add --start lr or --start reference.",
        )
    if makes_reference and preset.start is StartLatent.REFERENCE and preset.steps == 1:
        raise UsageError(
            "One step begins with noise, whatever is there to start from.", "Add --steps 4, for instance."
        )
    return preset


def reads_reference(components: Components, settings: UpscaleSettings) -> bool:
    """Whether the networks look at a reference."""
    return components.reference is not None and _makes_reference(components, settings)


def first_working_step(settings: UpscaleSettings, preset: SamplingPreset) -> int:
    """The first step that is done: from a reference, those are left out by default that would drown it in noise."""
    usual = REFERENCE_STRENGTH if preset.start is StartLatent.REFERENCE else 1.0
    return first_step(preset.steps, usual if settings.strength is None else settings.strength)


def _makes_reference(components: Components, settings: UpscaleSettings) -> bool:
    return settings.mode is Mode.CASSR and chosen_activator(components, settings).word != NONE
