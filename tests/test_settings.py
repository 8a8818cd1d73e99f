"""Settings take the words of the command line from Python too, and refuse others by name."""

import json
from dataclasses import asdict

import pytest

from xpsr_cli.errors import UsageError
from xpsr_cli.settings import (
    CaptionSource,
    ColorFix,
    LongPrompts,
    RegionPrompt,
    SamplingPreset,
    SchedulerName,
    UpscaleSettings,
)


def test_a_word_becomes_its_choice() -> None:
    settings = UpscaleSettings(color_fix="wavelet", scheduler="dpmsolver++")
    assert settings.color_fix is ColorFix.WAVELET
    assert settings.scheduler is SchedulerName.DPMSOLVERPP
    assert UpscaleSettings().color_fix is None


def test_another_word_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match="color-fix is 'sepia', allowed is adain, wavelet, wavelet-chroma, none"):
        UpscaleSettings(color_fix="sepia")


@pytest.mark.parametrize("fidelity", [-0.1, 1.01, float("nan")])
def test_fidelity_is_a_part_of_one(fidelity):
    with pytest.raises(UsageError, match=f"fidelity is {fidelity}, allowed is 0 to 1"):
        UpscaleSettings(fidelity=fidelity)


def test_full_fidelity_means_nothing_at_the_same_size():
    with pytest.raises(UsageError, match="fidelity 1 at scale 1 is the photo itself"):
        UpscaleSettings(scale=1, fidelity=1)
    assert UpscaleSettings(scale=1, fidelity=0.5).fidelity == 0.5


def test_region_prompts_come_back_from_json():
    settings = UpscaleSettings(region_prompts=(RegionPrompt(0, 10, 20, 30, "a dog"),))
    assert UpscaleSettings(**json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 0, 5), (0, 0, 5, 0)])
def test_a_region_lies_in_the_photo(box):
    with pytest.raises(UsageError, match="no part of a photo"):
        RegionPrompt(*box, "a dog")


@pytest.mark.parametrize("name", ["prompt", "low_prompt", "negative_prompt"])
def test_bytes_that_are_no_text_are_no_prompt(name):
    with pytest.raises(UsageError, match=rf"{name.replace('_', '-')} is 'caf\\udce9', which is no text"):
        UpscaleSettings(**{name: "caf\udce9"})


def test_long_prompts_are_encoded_in_pieces_unless_the_preset_is_asked_for():
    published = SamplingPreset()
    assert published.long_prompts is LongPrompts.TRUNCATE
    assert UpscaleSettings().resolve(published).long_prompts is LongPrompts.CHUNK
    assert UpscaleSettings(long_prompts=None).resolve(published).long_prompts is LongPrompts.TRUNCATE


def test_a_preset_of_words_has_the_members():
    preset = SamplingPreset.from_dict({"captions": "measured", "long_prompts": "chunk"})
    assert (preset.captions, preset.long_prompts) == (CaptionSource.MEASURED, LongPrompts.CHUNK)
