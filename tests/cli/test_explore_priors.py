"""``xpsr explore --prior``: published models of the real classes, tiny and random, through the whole command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_priors import save_deepfloyd, save_prior_folder, save_tiny_autoencoder, save_unclip

SIDES = (32, 64)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a smooth picture of 16 pixels in it."""
    monkeypatch.chdir(tmp_path)
    ramp = np.linspace(80, 180, 16)
    pixels = np.stack([np.tile(ramp, (16, 1)), np.tile(ramp[:, None], (1, 16)), np.full((16, 16), 120)], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save("tiny.png")
    return tmp_path


def explore(xpsr: Run, prior: str, *arguments: Any) -> tuple[int, str, str]:
    return xpsr(
        *("explore", "tiny.png", "--prompt", "a cat", "--scale", 4, "--samples", 2, "--precision", "fp32"),
        *("--steps", 3, "--prior", prior, "-o", "out", *arguments),
    )


def check(folder: Path, name: str) -> None:
    """Two exact and different answers, and a record that names the prior."""
    record = json.loads((folder / "out" / "explore.json").read_text(encoding="utf-8"))
    assert record["prior"]["name"] == name
    assert len(record["prior"]["weights"]) == 64
    assert record["summary"]["lowest_final_db"] >= 50
    first, second = (np.asarray(Image.open(folder / "out" / f"prompt1-seed{seed}.png")) for seed in (0, 1))
    assert first.shape == (64, 64, 3)
    assert (first != second).any()


def test_deepfloyd(xpsr: Run, here: Path) -> None:
    save_deepfloyd(here, sides=SIDES)
    code, _, err = explore(xpsr, "IF-I,IF-II")
    assert code == 0, err
    check(here, "IF-I,IF-II")


def test_unclip_with_the_picture_beside_the_words(xpsr: Run, here: Path) -> None:
    save_unclip(here, sides=SIDES)
    code, _, err = explore(xpsr, "karlo,karlo-image-variations", "--image-weight", 0.3)
    assert code == 0, err
    check(here, "karlo,karlo-image-variations")


def test_stable_diffusion_with_a_tiny_autoencoder(xpsr: Run, here: Path) -> None:
    save_prior_folder(here / "sd")
    save_tiny_autoencoder(here / "taesd")
    code, _, err = explore(xpsr, "sd,taesd")
    assert code == 0, err
    check(here, "sd,taesd")


@pytest.mark.parametrize(
    ("prior", "arguments", "code", "said"),
    [
        ("kakaobrain/karlo-v1-alpha", (), 4, "hf download kakaobrain/karlo-v1-alpha"),
        ("sd", ("--image-weight", 0.5), 2, "has no image embeddings"),
        ("IF-I", (), 2, "Give both stages: --prior STAGE_I,STAGE_II."),
        ("IF-I,IF-II", ("--scale", 8), 2, "makes pictures of up to 64 pixels on a side, not 128 x 128"),
        ("IF-II", (), 4, "needs stage I before it"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    xpsr: Run, here: Path, prior: str, arguments: tuple[Any, ...], code: int, said: str
) -> None:
    save_deepfloyd(here, sides=SIDES)
    save_prior_folder(here / "sd")
    got, out, err = explore(xpsr, prior, *arguments)
    assert (got, out) == (code, "")
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert not list(here.glob("out/*.png"))
