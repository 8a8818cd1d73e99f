"""Whole tiny runs of both stages of a pixel cascade: what comes out is a cascade, and no kill changes it."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import pytest
import torch
from large_photos import save_photos, sets
from tiny_cascade import TINY_BASE, TINY_REFINER

from xpsr_cli.models.pixel_cascade import BASE, REFINER, load_parts
from xpsr_cli.training.checkpoint import latest
from xpsr_cli.training.recipe import load_recipe
from xpsr_cli.training.train import preview, run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), 4, 64)


@pytest.fixture(scope="module")
def base_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("base")
    assert run(load_recipe("xpsr-explore-base", [*TINY_BASE]), photos, output, device="cpu")
    return output


def digests(output: Path) -> list[str]:
    """SHA-256 of the exact and the averaged weights, and of the optimizer, of a run's last checkpoint."""
    folder = latest(output)
    assert folder is not None
    names = ("weights.safetensors", "average.safetensors")
    return [hashlib.sha256((folder / "state" / name).read_bytes()).hexdigest() for name in names]


def test_both_stages_become_one_cascade(photos: Path, base_run: Path, tmp_path: Path) -> None:
    base = load_parts(base_run / "model")
    assert (base.name, list(base.unets)) == ("xpsr-explore", [BASE])
    assert "xpsr explore" in (base_run / "model" / "README.md").read_text(encoding="utf-8")
    recipe = load_recipe("xpsr-explore-refiner", [*TINY_REFINER])
    assert run(recipe, photos, tmp_path / "run", init_from=base_run / "model", device="cpu")
    whole = load_parts(tmp_path / "run" / "model")
    assert list(whole.unets) == [BASE, REFINER]
    for part, before in ((whole.text_encoder, base.text_encoder), (whole.unets[BASE], base.unets[BASE])):
        assert all(torch.equal(value, before.state_dict()[key]) for key, value in part.state_dict().items())


@pytest.mark.parametrize("stage", [BASE, REFINER])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    photos: Path, base_run: Path, tmp_path: Path, stage: str
) -> None:
    recipe = load_recipe(f"xpsr-explore-{stage}", [*(TINY_BASE if stage == BASE else TINY_REFINER)])
    first = None if stage == BASE else base_run / "model"
    halted, straight = tmp_path / "halted", tmp_path / "straight"
    for output in (halted, straight):  # merges of equal count are ordered at random
        shutil.copytree(base_run / "tokenizer", output / "tokenizer")
    assert run(recipe, photos, straight, init_from=first, device="cpu")
    assert not run(recipe, photos, halted, init_from=first, device="cpu", minutes=1e-9)
    while not run(recipe, photos, halted, resume=True, device="cpu", minutes=1e-9):
        time.sleep(0)
    assert digests(halted) == digests(straight)


def test_a_run_is_started_previewed_and_taken_up_by_the_command(xpsr, photos: Path, tmp_path: Path) -> None:
    command = ["train", "--config", "xpsr-explore-base", "--data", photos, *sets(TINY_BASE)]
    assert xpsr(*command, "-o", tmp_path / "run", "--quiet").code == 0
    assert xpsr(*command, "-o", tmp_path / "run", "--quiet", "--resume").code == 0
    assert load_parts(tmp_path / "run" / "model").vocabulary == []  # photos without categories
    preview(load_recipe("xpsr-explore-refiner", [*TINY_REFINER]), photos, 3, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
