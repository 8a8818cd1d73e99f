"""A skip tuner in training, and as the activator of an add-on."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from large_photos import save_photos
from small_photos import refusal
from tiny_training import weights_digest

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.folders import WEIGHTS
from xpsr_cli.models.loading import Components, load_components
from xpsr_cli.models.tuner_loading import load_tuner
from xpsr_cli.training.recipe import Recipe, load_recipe
from xpsr_cli.training.starts import Start, preset_of
from xpsr_cli.training.train import run
from xpsr_cli.training.tuner_networks import TunerNetworks, starting_tuner

_RUN = (
    "data.crop_px=32",
    "data.batch_size=2",
    "data.held_out_photos=1",
    "data.held_out_ids=[]",
    "model.activator_steps=2",
    "optimizer.steps=4",
    "optimizer.warmup_steps=2",
    "output.log_steps=1",
    "output.save_steps=2",
    "output.validate_steps=0",
)
TINY = (*_RUN, "model.hint_channels=[4, 4, 8]")


def recipe_of(*changes: str) -> Recipe:
    return load_recipe("xpsr-mini-scedit", [*TINY, *changes])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), 4, 64)


@pytest.fixture(scope="module")
def tuner_run(photos: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuner")
    assert run(recipe_of(), photos, output, init_from=tiny_model, device="cpu")
    return output


@pytest.fixture
def model(tiny_model: Path) -> Components:
    return load_components(tiny_model)


def test_the_tuner_alone_is_trained(model: Components) -> None:
    networks = TunerNetworks(model, starting_tuner(model, recipe_of().model, seed=0)).train()
    assert networks.trained()
    assert all(name.startswith("tuner.") for name in networks.trained())
    assert {name for name, part in networks.parts().items() if part.training} == {"tuner"}


@torch.no_grad()
def test_an_open_one_sees_what_the_controlnet_sees_and_a_closed_one_begins_silent(model: Components) -> None:
    image = torch.rand(1, 3, 32, 32)
    opened = starting_tuner(model, recipe_of().model, seed=0)
    assert torch.equal(opened.conv_in.weight, model.controlnet.pyramid.conv_in.weight)
    assert all(float(hint.std()) > 1e-3 for hint in opened.hints(image))
    closed = starting_tuner(model, recipe_of("model.open=false").model, seed=0)
    assert not any(bool(hint.any()) for hint in closed.hints(image))


def test_a_run_leaves_an_activator_and_goes_on_after_a_stop(
    photos: Path, tiny_model: Path, tuner_run: Path, model: Components, tmp_path: Path
) -> None:
    loaded = load_tuner(tuner_run / "model", model)
    assert (loaded.name, loaded.steps) == ("xpsr-mini-scedit", 2)
    assert not any(parameter.requires_grad for parameter in loaded.tuner.parameters())
    halted = tmp_path / "halted"
    assert not run(recipe_of(), photos, halted, init_from=tiny_model, device="cpu", minutes=1e-9)
    while not run(recipe_of(), photos, halted, resume=True, device="cpu", minutes=1e-9):
        time.sleep(0)
    assert weights_digest(halted) == weights_digest(tuner_run)


def test_an_add_on_brings_the_tuner_that_it_was_trained_with(
    photos: Path, tiny_model: Path, tuner_run: Path, model: Components, tmp_path: Path
) -> None:
    names = f"model.activators=['scedit:{tuner_run / 'model'}', 'dfc']"
    recipe = load_recipe("xpsr-mini-cassr", [*_RUN, "model.window=4", names])
    assert run(recipe, photos, tmp_path, init_from=tiny_model, device="cpu")
    brought = load_tuner(tmp_path / "model" / "activator", model)
    given = load_tuner(tuner_run / "model", model).tuner.state_dict()
    assert all(torch.equal(value, given[key]) for key, value in brought.tuner.state_dict().items())
    card = (tmp_path / "model" / "xpsr.json").read_text(encoding="utf-8")
    assert json.loads(card)["reference"]["activator"] == "scedit"
    assert str(tuner_run) not in card


def test_another_base_another_kind_and_other_sizes_are_refused(
    tiny_model: Path, tuner_run: Path, model: Components, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="was trained for tiny, and the model is other"):
        load_tuner(tuner_run / "model", replace(model, name="other"))
    with pytest.raises(WeightsError, match="not an activator"):
        load_tuner(tiny_model, model)
    damaged = shutil.copytree(tuner_run / "model", tmp_path / "damaged")
    file = damaged / "skip_tuner" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is damaged or no skip tuner"):
        load_tuner(damaged, model)
    with pytest.raises(UsageError, match="halves photos 2 times"):
        starting_tuner(model, recipe_of("model.hint_channels=[4, 4]").model, seed=0)
    with refusal(WeightsError, str(tuner_run / "model"), "belongs to tiny"):
        preset_of(recipe_of(), Start(str(tuner_run / "model")))
    with pytest.raises(UsageError, match="does not heed"):
        recipe_of("loss.degradation_pixel_weight=0.1")
