"""The card of a trained model says what it came from and how it did, and nothing of when or where."""

import json
from pathlib import Path

import pytest

from xpsr_cli.training.model_card import write_model_card
from xpsr_cli.training.recipe import load_recipe

ROWS = [
    {"stage": "diffusion", "step": 10, "losses": {"total": 2.0}},
    {"stage": "diffusion", "step": 20, "losses": {"total": 1.23456, "noise": None, "noise/part": 3.0}},
    {"stage": "diffusion", "step": 15, "validation": {"psnr": 24.125, "ssim": 0.71, "bicubic": {"psnr": 23.5}}},
]


def test_what_was_left_out_stands_in_one_cell(tmp_path: Path) -> None:
    facts = {"left out": "2 files: a|b.jpg, \x1b[31mc\udcff.jpg"}
    write_model_card(tmp_path, load_recipe("xpsr-mini"), tmp_path / "metrics.jsonl", facts)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| left out | 2 files: a\\|b.jpg, \ufffd[31mc\ufffd.jpg |" in card


def test_the_last_losses_and_the_last_validation_are_told(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    write_model_card(tmp_path, load_recipe("xpsr-mini", ["name=mine"]), metrics, {"photos": "3 to train on"})
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("# mine\n")
    assert "| photos | 3 to train on |" in card
    assert "| loss at step 20 | total 1.235 |" in card
    assert "at step 15" in card
    assert "| PSNR (luma, dB) | 24.12 | 23.5 |" in card
    assert "| SSIM | 0.71 |  |" in card


def test_all_that_is_compared_has_a_column(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    scores = {"psnr": 27.5, "wrong": {"psnr": 27.0}, "oracle": {"psnr": 29.0}, "plain": {"psnr": 27.25}}
    metrics.write_text(json.dumps({"stage": "diffusion", "step": 9, "validation": scores}) + "\n")
    write_model_card(tmp_path, load_recipe("xpsr-mini-cassr"), metrics, {})
    card = (tmp_path / "README.md").read_text()
    titles = "with the reference | the base alone | with another picture's reference | with the original as reference"
    assert f"| measure | {titles} |\n|---|---:|---:|---:|---:|\n" in card
    assert "| PSNR (luma, dB) | 27.5 | 27.25 | 27 | 29 |" in card


@pytest.mark.parametrize(
    ("name", "words"),
    [("xpsr-mini", "xpsr upscale"), ("xpsr-mini-cassr", "An add-on"), ("xpsr-mini-scedit", "An activator")],
)
def test_every_kind_of_folder_says_what_it_is(tmp_path: Path, name: str, words: str) -> None:
    write_model_card(tmp_path, load_recipe(name), tmp_path / "metrics.jsonl", {})
    assert words in (tmp_path / "README.md").read_text()


def test_a_run_without_validation_has_a_card_too(tmp_path: Path) -> None:
    write_model_card(tmp_path, load_recipe("xpsr-mini"), tmp_path / "metrics.jsonl", {})
    card = (tmp_path / "README.md").read_text()
    assert "not trained on" not in card
    assert "loss" not in card
    assert card.endswith("|\n")
