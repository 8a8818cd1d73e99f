"""Whole tiny runs on photos: what comes out can be used, and what interrupts them costs nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from large_photos import TINY_MINI, save_photos, sets

from xpsr_cli.errors import ExitCode, UsageError, WeightsError
from xpsr_cli.models.loading import load_components
from xpsr_cli.training.checkpoint import checkpoints, latest
from xpsr_cli.training.recipe import Recipe, load_recipe
from xpsr_cli.training.train import run

CHANGES = [*TINY_MINI, "output.validate_steps=0", "output.log_steps=1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("xpsr-mini", CHANGES)


def digest(output: Path) -> str:
    """SHA-256 of the exact weights of a run's last checkpoint."""
    folder = latest(output)
    assert folder is not None
    return hashlib.sha256((folder / "state" / "weights.safetensors").read_bytes()).hexdigest()


def test_the_model_that_comes_out_loads_and_can_be_started_from(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    assert run(recipe, photos, tmp_path / "first")
    components = load_components(tmp_path / "first" / "model")
    assert components.name == "xpsr-mini"
    basis = components.vae.basis
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-5)

    again = load_recipe("xpsr-mini", [*CHANGES, "optimizer.steps=1"])
    assert run(again, photos, tmp_path / "second", init_from=tmp_path / "first" / "model")
    assert torch.equal(load_components(tmp_path / "second" / "model").vae.basis, basis)

    other = load_recipe("xpsr-mini", [*CHANGES, "model.block_out_channels=[8, 8, 8]"])
    with pytest.raises(WeightsError):
        run(other, photos, tmp_path / "third", init_from=tmp_path / "first" / "model")


def test_a_run_is_not_overwritten(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    with pytest.raises(UsageError, match="already holds"):
        run(recipe, photos, tmp_path)


def when(there: Path, then: Callable[[], object]) -> threading.Thread:
    """Call ``then`` in a thread as soon as there is a file."""

    def wait() -> None:
        until = time.monotonic() + 60
        while not there.exists() and time.monotonic() < until:
            time.sleep(0.001)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, ExitCode.INTERRUPTED, "Interrupted."), (signal.SIGTERM, ExitCode.TERMINATED, "Terminated.")],
)
def test_an_interrupted_run_saves_and_goes_on_to_the_same_weights(
    xpsr, photos: Path, tmp_path: Path, number: int, code: ExitCode, words: str
) -> None:
    steps = sets([*CHANGES, "optimizer.steps=40", "output.save_steps=0"])
    command = ["train", "--config", "xpsr-mini", "--data", photos, *steps]
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    assert xpsr(*command, "-o", straight).code == 0
    shutil.copytree(straight / "tokenizer", halted / "tokenizer")  # merges of equal count are ordered at random

    thread = when(halted / "metrics.jsonl", lambda: os.kill(os.getpid(), number))
    outcome = xpsr(*command, "-o", halted)
    thread.join()
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err
    assert [folder.name for folder in checkpoints(halted)] not in ([], ["step-000040"])
    load_components(halted / "model")

    assert xpsr(*command, "-o", halted, "--resume", "latest").code == 0
    assert digest(halted) == digest(straight)
