"""Settings take the words of the command line from Python too, and refuse others by name."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from xpsr_cli.activator_names import ActivatorName
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


@pytest.mark.parametrize("words", ["none", "bicubic", "dfc", "xpsr", "scedit", "scedit:runs/a", "spandrel:a.pth"])
def test_an_activator_is_a_word_and_some_have_files(words: str) -> None:
    word, _, path = words.partition(":")
    name = ActivatorName.parse(words)
    assert (name.word, name.path) == (word, Path(path) if path else None)
    assert str(name) == words.replace("runs/", "")  # where it lies is nobody's business
    assert UpscaleSettings(mode="cassr", activate=words).activate == words


@pytest.mark.parametrize("words", ["", "swinir", "spandrel", "spandrel:", "scedit:", "none:", "dfc:a", "Bicubic", ":"])
def test_another_activator_is_refused_with_the_right_ones(words: str) -> None:
    with pytest.raises(UsageError, match=f"There is no activator '{words}'") as caught:
        UpscaleSettings(mode="cassr", activate=words)
    assert "none, bicubic, dfc, xpsr, scedit, scedit:FOLDER or spandrel:FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "both"}, "mode is 'both', allowed is xpsr, cassr, activator"),
        ({"activate": "dfc"}, "Mode xpsr has no activator"),
        ({"start": "reference"}, "A start from the reference needs one"),
        ({"mode": "activator", "start": "reference"}, "A start from the reference needs one"),
        ({"mode": "cassr", "activate": "none", "start": "reference"}, "makes no reference to start from"),
        ({"mode": "activator", "activate": "none"}, "Activator none makes nothing to be shown"),
        ({"start": "noise", "strength": 0.5}, "a start from noise alone has no other than 1"),
        ({"start": "lr", "strength": 0}, "strength is 0, allowed is 0.01 to 1"),
    ],
)
def test_what_has_no_meaning_in_a_mode_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        UpscaleSettings(**settings)
