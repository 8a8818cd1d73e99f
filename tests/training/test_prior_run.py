"""Whole tiny runs of a pixel cascade, stage by stage: what comes out is a cascade, and no kill changes it."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import pytest
import torch
from large_photos import save_photos, sets
from tiny_cascade import TINY_BASE, TINY_REFINER, TINY_SCORER

from xpsr_cli.models.pixel_cascade import BASE, REFINER, SCORER, load_parts
from xpsr_cli.training.checkpoint import latest
from xpsr_cli.training.detail_words import DETAIL_WORDS
from xpsr_cli.training.recipe import load_recipe
from xpsr_cli.training.train import preview, run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), 4, 64)


RECIPES = {
    stage: load_recipe(f"xpsr-explore-{stage}", [*sizes])
    for stage, sizes in ((SCORER, TINY_SCORER), (BASE, TINY_BASE), (REFINER, TINY_REFINER))
}


@pytest.fixture(scope="module")
def scorer_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scorer")
    assert run(RECIPES[SCORER], photos, output, device="cpu")
    return output


@pytest.fixture(scope="module")
def base_run(photos: Path, scorer_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("base")
    assert run(RECIPES[BASE], photos, output, init_from=scorer_run / "model", device="cpu")
    return output


def digests(output: Path) -> list[str]:
    """SHA-256 of the exact and the averaged weights, and of the optimizer, of a run's last checkpoint."""
    folder = latest(output)
    assert folder is not None
    names = ("weights.safetensors", "average.safetensors")
    return [hashlib.sha256((folder / "state" / name).read_bytes()).hexdigest() for name in names]


def test_all_stages_become_one_cascade(photos: Path, scorer_run: Path, base_run: Path, tmp_path: Path) -> None:
    scorer, base = load_parts(scorer_run / "model"), load_parts(base_run / "model")
    assert (base.name, list(base.unets), list(base.scorers)) == ("xpsr-explore", [BASE], [SCORER])
    words = [part.state_dict() for part in (base.text_encoder, scorer.text_encoder, scorer.scorers[SCORER].text_model)]
    assert all(torch.equal(value, other[key]) for other in words[1:] for key, value in words[0].items())
    assert "xpsr explore" in (base_run / "model" / "README.md").read_text(encoding="utf-8")
    assert run(RECIPES[REFINER], photos, tmp_path / "run", init_from=base_run / "model", device="cpu")
    whole = load_parts(tmp_path / "run" / "model")
    assert list(whole.unets) == [BASE, REFINER]
    for part, before in ((whole.text_encoder, base.text_encoder), (whole.unets[BASE], base.unets[BASE])):
        assert all(torch.equal(value, before.state_dict()[key]) for key, value in part.state_dict().items())


@pytest.mark.parametrize("stage", [SCORER, BASE, REFINER])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    photos: Path, scorer_run: Path, base_run: Path, tmp_path: Path, stage: str
) -> None:
    recipe = RECIPES[stage]
    first = {SCORER: None, BASE: scorer_run / "model", REFINER: base_run / "model"}[stage]
    halted, straight = tmp_path / "halted", tmp_path / "straight"
    for output in (halted, straight):  # merges of equal count are ordered at random
        shutil.copytree(scorer_run / "tokenizer", output / "tokenizer")
    assert run(recipe, photos, straight, init_from=first, device="cpu")
    assert not run(recipe, photos, halted, init_from=first, device="cpu", minutes=1e-9)
    while not run(recipe, photos, halted, resume=True, device="cpu", minutes=1e-9):
        time.sleep(0)
    assert digests(halted) == digests(straight)


def test_a_run_is_started_previewed_and_taken_up_by_the_command(xpsr, photos: Path, tmp_path: Path) -> None:
    command = ["train", "--config", "xpsr-explore-scorer", "--data", photos, *sets(TINY_SCORER)]
    assert xpsr(*command, "-o", tmp_path / "run", "--quiet").code == 0
    assert xpsr(*command, "-o", tmp_path / "run", "--quiet", "--resume").code == 0
    assert load_parts(tmp_path / "run" / "model").vocabulary == [*DETAIL_WORDS]  # photos without categories
    preview(RECIPES[REFINER], photos, 3, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
