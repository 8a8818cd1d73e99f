"""Add-ons: a folder of the new weights alone, put onto a model that stays what it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.folders import WEIGHTS
from xpsr_cli.models.loading import Components, load_components
from xpsr_cli.models.reference_attention import ReferenceForm
from xpsr_cli.models.reference_loading import (
    ATTENTION,
    ReferenceShape,
    add_reference,
    load_reference,
    named_weights,
    new_weights,
    save_reference,
)

SHAPE = ReferenceShape(ReferenceForm.SEPARATE, (True, True, True), 4)
SHAPES = [
    SHAPE,
    ReferenceShape(ReferenceForm.SEPARATE, (True, False, False)),
    ReferenceShape(ReferenceForm.TOKENS, (True, False, False)),
    ReferenceShape(ReferenceForm.FUSION, (True, False, False)),
]


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Components:
    return load_components(tiny_model)


def weights_of(model: Components) -> dict[str, torch.Tensor]:
    return {**new_weights(model.unet), **new_weights(model.controlnet)}


def save(model: Components, folder: Path, shape: ReferenceShape = SHAPE, **changes) -> Path:
    card = {"name": "add-on", "base": model.name, "base_weights": model.fingerprint, "reference": {"activator": "dfc"}}
    save_reference(folder, weights_of(model), shape, **{**card, **changes})
    return folder


@pytest.fixture
def folder(base: Components, tmp_path: Path) -> Path:
    return save(add_reference(base, SHAPE), tmp_path / "add-on")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_add_on_comes_back_whole_and_leaves_the_model_as_it_was(
    base: Components, tmp_path: Path, shape: ReferenceShape
) -> None:
    made = add_reference(base, shape)
    assert weights_of(made)
    loaded = load_reference(base, save(made, tmp_path, shape))
    for part in ("unet", "controlnet"):
        before, ours, theirs = (named_weights(getattr(model, part)) for model in (base, made, loaded))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
        assert all(theirs[key].data_ptr() == value.data_ptr() for key, value in before.items()), "copied"
        assert not any(p.requires_grad or p.is_meta for p in getattr(loaded, part).parameters())
    assert base.reference is None
    assert loaded.reference is not None
    assert (loaded.reference.name, loaded.reference.activator, loaded.name) == ("add-on", "dfc", base.name)


def test_base_and_add_on_have_a_fingerprint_each(base: Components, folder: Path, tmp_path: Path) -> None:
    loaded = load_reference(base, folder)
    assert loaded.fingerprint == base.fingerprint
    assert loaded.reference is not None
    other = save(add_reference(base, SHAPE), tmp_path / "other")  # drawn anew
    assert load_reference(base, other).reference.fingerprint != loaded.reference.fingerprint


def test_it_takes_the_precision_of_the_model(tiny_model: Path, folder: Path) -> None:
    loaded = load_reference(replace(load_components(tiny_model, dtype=torch.bfloat16), name="tiny"), _unbound(folder))
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.bfloat16}


def _unbound(folder: Path) -> Path:
    card = json.loads((folder / "xpsr.json").read_text())
    card.pop("base_weights")
    (folder / "xpsr.json").write_text(json.dumps(card))
    return folder


def test_a_plain_model_is_no_add_on(base: Components, tiny_model: Path) -> None:
    with pytest.raises(WeightsError, match="is of kind 'upscaler', not an add-on"):
        load_reference(base, tiny_model)


def test_another_base_is_refused_by_name_and_by_weights(base: Components, folder: Path) -> None:
    with pytest.raises(WeightsError, match="was trained for tiny, and the model is other"):
        load_reference(replace(base, name="other"), folder)
    with pytest.raises(WeightsError, match="other weights of tiny"):
        load_reference(replace(base, weights_files=base.weights_files[:1]), folder)


def test_missing_strange_and_misshapen_weights_are_named(base: Components, folder: Path) -> None:
    file = folder / ATTENTION / WEIGHTS
    weights = load_file(file)
    first = sorted(weights)[0]
    assert "reference_attentions" in first
    for changed, told in (
        ({key: value for key, value in weights.items() if key != first}, "1 missing"),
        ({**weights, "stranger": torch.zeros(1)}, "1 unexpected"),
        ({**weights, first: torch.zeros(3)}, "1 of another shape"),
    ):
        save_file(changed, file)
        with pytest.raises(WeightsError, match=told):
            load_reference(base, folder)
    file.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="is damaged"):
        load_reference(base, folder)
    file.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        load_reference(base, folder)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("form", "loose", "'loose' is not a valid ReferenceForm"),
        ("blocks", [1, 1, 1], "blocks is"),
        ("blocks", [True, True], "2 entries for 3 levels"),
        ("window", 0, "window is 0"),
        ("colour", 1, "unknown field 'colour'"),
        ("_class_name", "Attention", "not of the class"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(
    base: Components, folder: Path, field: str, value: object, told: str
) -> None:
    file = folder / ATTENTION / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(WeightsError, match=told):
        load_reference(base, folder)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (None, "says None of the reference"),
        ({"activator": "swinir"}, "says activator 'swinir'"),
        ({"activator": "spandrel:a.pth"}, "says activator 'spandrel:a.pth'"),  # no hash of ours would know that file
        ({"activator": "none"}, "says activator 'none'"),
        ({"activator": "xpsr", "steps": "4"}, "says '4' steps"),
        ({"activator": "xpsr", "steps": 0}, "says 0 steps"),
    ],
)
def test_a_card_whose_activator_cannot_be_followed_is_refused(
    base: Components, folder: Path, reference: object, told: str
) -> None:
    file = folder / "xpsr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "reference": reference}))
    with pytest.raises(WeightsError, match=told):
        load_reference(base, folder)


def test_a_folder_without_its_parts_is_refused(base: Components, folder: Path) -> None:
    shutil.rmtree(folder / ATTENTION)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_reference(base, folder)
