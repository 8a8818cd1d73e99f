"""How well pictures fit words: the cosine of a real CLIP, and its gradient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cascade import tiny_cascade
from tiny_training import tiny_tokenizer

from xpsr_cli.errors import WeightsError
from xpsr_cli.exploring.text_score import GUIDE, JUDGE, PUBLISHED_CLIPS, TextScorer, load_scorer, published_scorer

CPU = torch.device("cpu")
TEXTS = ["water", "a house", "sky"]


@pytest.fixture(scope="module")
def clip():
    return tiny_cascade().scorers[JUDGE]


def picture(side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def test_the_score_is_the_cosine_that_the_clip_itself_gives(clip):
    tokens = tiny_tokenizer()(TEXTS, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    pixels = torch.from_numpy(picture()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        logits = clip(input_ids=tokens, pixel_values=pixels).logits_per_image / clip.logit_scale.exp()
    fits = TextScorer(clip, tiny_tokenizer()).fit(picture(), TEXTS)
    np.testing.assert_allclose(fits, logits[0].numpy(), atol=1e-5)


def test_pictures_of_any_size_are_reduced_to_what_it_sees(clip):
    scorer = TextScorer(clip, tiny_tokenizer())
    larger = picture().repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose(scorer.fit(larger, TEXTS), scorer.fit(picture(), TEXTS), atol=0.1)
    assert scorer.fit(larger[:40], TEXTS) != scorer.fit(larger, TEXTS)


def test_the_energy_falls_along_its_gradient(clip):
    energy = TextScorer(clip, tiny_tokenizer()).energy("water")
    pixels = (torch.from_numpy(picture(32)).permute(2, 0, 1)[None] / 127.5 - 1).requires_grad_()
    before = energy(pixels)
    (gradient,) = torch.autograd.grad(before.sum(), pixels)
    with torch.no_grad():
        after = energy(pixels - 0.05 * gradient / gradient.square().mean().sqrt())
    assert float(after) < float(before.detach()) - 1e-3


def test_a_cascade_brings_two_that_share_nothing():
    scorers = {name: TextScorer(clip, tiny_tokenizer()) for name, clip in tiny_cascade().scorers.items()}
    assert set(scorers) == {GUIDE, JUDGE}
    assert scorers[GUIDE].fit(picture(), TEXTS) != scorers[JUDGE].fit(picture(), TEXTS)


def save(clip, folder: Path, **colours: list[float]) -> Path:
    clip.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    if colours:
        (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


def test_a_published_clip_is_found_in_the_cache_and_sees_the_colours_it_was_trained_with(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert published_scorer(CPU) is None
    folder = in_cache(tmp_path, PUBLISHED_CLIPS[1])
    save(clip, folder, image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28])
    found = published_scorer(CPU)
    assert found is not None
    assert found.name == PUBLISHED_CLIPS[1]
    assert found.fit(picture(), TEXTS) != TextScorer(clip, tiny_tokenizer()).fit(picture(), TEXTS)


def in_cache(cache: Path, name: str) -> Path:
    """The folder of a model's newest snapshot, which is still empty."""
    model = cache / f"models--{name.replace('/', '--')}"
    (model / "snapshots" / "1").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("1")
    return model / "snapshots" / "1"


def test_a_published_clip_that_is_there_in_part_is_passed_by(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (save(clip, in_cache(tmp_path, PUBLISHED_CLIPS[0])) / "model.safetensors").unlink()
    assert published_scorer(CPU) is None
    save(clip, in_cache(tmp_path, PUBLISHED_CLIPS[1]))
    assert published_scorer(CPU) is not None


def test_a_folder_that_is_not_whole_is_refused(clip, tmp_path):
    (save(clip, tmp_path / "clip") / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_scorer(tmp_path / "clip", CPU)
