"""A cascade's folder is read as it was written, or refused with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_cascade import WORDS, save_tiny_cascade, tiny_cascade

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.pixel_cascade import BASE, JUDGE, REFINER, SCORER, conditions, is_cascade, load_parts, save_parts
from xpsr_cli.weights import MODEL_CARD


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_cascade(tmp_path_factory.mktemp("cascade"))


def test_what_was_written_is_read_again(folder: Path) -> None:
    written, read = tiny_cascade(), load_parts(folder)
    assert (read.name, tuple(read.vocabulary), read.cards) == ("tiny", WORDS, written.cards)
    assert read.scheduler_config == written.scheduler_config
    assert read.tokenizer.get_vocab() == written.tokenizer.get_vocab()
    assert len(read.weights_files) == 5
    assert list(read.scorers) == [SCORER, JUDGE]
    for stage in (BASE, REFINER):
        there = read.unets[stage].state_dict()
        assert all(torch.equal(value, there[key]) for key, value in written.unets[stage].state_dict().items())
        assert not any(parameter.requires_grad for parameter in read.unets[stage].parameters())
    assert is_cascade(folder)


def test_a_cascade_does_not_say_where_it_was_read_from(folder: Path, tmp_path: Path) -> None:
    save_parts(tmp_path, load_parts(folder))
    assert str(folder) not in "".join(file.read_text() for file in tmp_path.glob("*/config.json"))


def test_a_base_alone_is_a_cascade_in_training(tmp_path: Path) -> None:
    assert list(load_parts(save_tiny_cascade(tmp_path, refiner=False)).unets) == [BASE]


def another_kind(folder: Path) -> None:
    (folder / MODEL_CARD).write_text('{"name": "x"}')


def another_stage(folder: Path) -> None:
    card = json.loads((folder / MODEL_CARD).read_text())
    card["stages"]["middle"] = card["stages"].pop("base")
    (folder / MODEL_CARD).write_text(json.dumps(card))


def another_scorer(folder: Path) -> None:
    card = json.loads((folder / MODEL_CARD).read_text())
    card["scorers"].append("jury")
    (folder / MODEL_CARD).write_text(json.dumps(card))


def unknown_field(folder: Path) -> None:
    card = json.loads((folder / MODEL_CARD).read_text())
    card["stages"]["base"]["speed"] = 1
    (folder / MODEL_CARD).write_text(json.dumps(card))


def exchanged(folder: Path) -> None:
    shutil.rmtree(folder / "refiner")
    shutil.copytree(folder / "base", folder / "refiner")


def cut_off(folder: Path) -> None:
    file = folder / "base" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def other_sizes(folder: Path) -> None:
    config = json.loads((folder / "base" / "config.json").read_text())
    (folder / "base" / "config.json").write_text(json.dumps({**config, "layers_per_block": 2}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (another_kind, "no pixel cascade"),
        (another_stage, "names refiner, middle"),
        (another_scorer, "names scorer, judge, jury"),
        (lambda folder: shutil.rmtree(folder / "judge"), "judge"),
        (unknown_field, "speed"),
        (exchanged, "3 input channels instead of 6"),
        (cut_off, "base"),
        (other_sizes, "missing"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer"),
        (lambda folder: shutil.rmtree(folder / "refiner"), "refiner"),
    ],
)
def test_what_is_not_whole_is_refused(folder: Path, tmp_path: Path, harm: Callable[[Path], None], words: str) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    harm(broken)
    with pytest.raises(WeightsError, match=words):
        load_parts(broken)


@pytest.mark.parametrize("stage", [BASE, REFINER])
def test_nothing_behind_the_end_of_a_text_counts(stage: str) -> None:
    cascade = tiny_cascade()
    end = cascade.tokenizer.eos_token_id
    tokens = torch.full((3, 77), end)
    tokens[:, :4] = torch.tensor([cascade.tokenizer.bos_token_id, 5, 7, end])
    tokens[1, 4:] = 9
    tokens[2, 2] = 8
    levels = torch.tensor([50] * 3) if stage == REFINER else None
    unet = cascade.unets[stage]
    picture = torch.randn(1, unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = conditions(stage, cascade.text_encoder, tokens, levels)
        ended, longer, other = unet(picture.expand(3, -1, -1, -1), 500, **told).sample
    torch.testing.assert_close(longer, ended)
    assert float((other - ended).abs().max()) > 10 * float((longer - ended).abs().max())
