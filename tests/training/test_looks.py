"""Held-out photos with an add-on or an activator in training: what they are compared with, and no harm to the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from large_photos import save_photos
from PIL import Image
from tiny_training import weights_digest

from xpsr_cli.models.loading import Components, load_components
from xpsr_cli.training.dataset import read_photos
from xpsr_cli.training.held_out import HeldOut, hold_out
from xpsr_cli.training.listeners import read_metrics
from xpsr_cli.training.looks import ReferenceLook, TunerLook
from xpsr_cli.training.recipe import Recipe, load_recipe
from xpsr_cli.training.reference_networks import ReferenceExport, ReferenceNetworks, with_reference
from xpsr_cli.training.train import run
from xpsr_cli.training.tuner_networks import TunerExport, TunerNetworks, starting_tuner
from xpsr_cli.training.validation import OURS, Looks

TINY = (
    "data.crop_px=32",
    "data.batch_size=2",
    "data.held_out_photos=2",
    "data.held_out_ids=[]",
    "model.activator_steps=2",
    "optimizer.steps=4",
    "optimizer.warmup_steps=2",
    "output.log_steps=1",
    "output.save_steps=2",
)
CASSR = load_recipe("xpsr-mini-cassr", [*TINY, "model.window=4"])
SCEDIT = load_recipe("xpsr-mini-scedit", [*TINY, "model.hint_channels=[4, 4, 8]"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), 5, 64)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> list[HeldOut]:
    """Three photos, one of them of another size."""
    folder = tmp_path_factory.mktemp("held-out")
    save_photos(folder / "larger", 1, 72)
    save_photos(folder, 2, 64)
    return hold_out(read_photos(folder), CASSR)


@pytest.fixture
def model(tiny_model: Path) -> Components:
    return load_components(tiny_model)


def reference_look(
    model: Components, held_out: list[HeldOut], folder: Path
) -> tuple[ReferenceLook, ReferenceNetworks]:
    """A look, and networks whose add-on lies in ``folder``."""
    reading = with_reference(model, CASSR.model, seed=0)
    networks = ReferenceNetworks(reading)
    ReferenceExport(CASSR, CASSR.model, reading, networks)(folder)
    return ReferenceLook(held_out, reading, CASSR.model), networks


def differ(looks: Looks, one: str, other: str) -> bool:
    pairs = zip(looks[one], looks[other], strict=True)
    return any(not np.array_equal(*pair) for pair in pairs)


def test_an_untrained_add_on_makes_what_the_base_makes_whatever_the_reference(
    model: Components, held_out: list[HeldOut], tmp_path: Path
) -> None:
    look, _ = reference_look(model, held_out, tmp_path)
    looks = look(tmp_path)
    assert list(looks) == ["reference", "plain", OURS, "wrong", "oracle"]  # on the sheet the last two are missing
    for who in looks:
        assert [picture.shape for picture in looks[who]] == [photo.large.shape for photo in held_out]
    assert not any(differ(looks, who, "plain") for who in (OURS, "wrong", "oracle"))
    assert differ(looks, "reference", "plain")  # two steps instead of one


def test_one_that_has_learnt_something_tells_references_apart(
    model: Components, held_out: list[HeldOut], tmp_path: Path
) -> None:
    look, networks = reference_look(model, held_out, tmp_path)
    before = look(tmp_path)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in networks.trained().values():
            parameter.add_(0.5 * torch.randn_like(parameter))
    ReferenceExport(CASSR, CASSR.model, model, networks)(tmp_path)
    after = look(tmp_path)
    assert all(differ(after, one, other) for one, other in [(OURS, "plain"), (OURS, "wrong"), (OURS, "oracle")])
    for who in ("reference", "plain"):  # are made once
        assert all(np.array_equal(*pair) for pair in zip(before[who], after[who], strict=True))
    again = ReferenceLook(held_out, with_reference(model, CASSR.model, seed=3), CASSR.model)(tmp_path)
    assert all(np.array_equal(*pair) for who in after for pair in zip(after[who], again[who], strict=True))


def test_a_photo_on_its_own_has_no_other_s_reference(
    model: Components, held_out: list[HeldOut], tmp_path: Path
) -> None:
    look, _ = reference_look(model, held_out[:1], tmp_path)
    assert "wrong" not in look(tmp_path)


def test_looking_leaves_alone_what_is_trained_and_what_is_frozen(
    model: Components, held_out: list[HeldOut], tmp_path: Path
) -> None:
    reading = with_reference(model, CASSR.model, seed=0)
    networks = ReferenceNetworks(reading)
    ReferenceExport(CASSR, CASSR.model, reading, networks)(tmp_path)
    networks.train()
    modes = {name: module.training for name, module in networks.named_modules()}
    trained, state = list(networks.trained()), {key: value.clone() for key, value in networks.state_dict().items()}
    ReferenceLook(held_out, reading, CASSR.model)(tmp_path)
    assert list(networks.trained()) == trained
    assert {name: module.training for name, module in networks.named_modules()} == modes
    assert all(torch.equal(value, state[key]) for key, value in networks.state_dict().items())


def test_the_tuner_s_picture_is_shown_beside_the_model_s_own(
    model: Components, held_out: list[HeldOut], tmp_path: Path
) -> None:
    networks = TunerNetworks(model, starting_tuner(model, SCEDIT.model, SCEDIT.seed))
    TunerExport(SCEDIT, SCEDIT.model, model, networks)(tmp_path)
    looks = TunerLook(held_out, model, networks, SCEDIT.model)(tmp_path)
    assert list(looks) == ["plain", OURS]
    assert differ(looks, "plain", OURS)
    assert list(networks.trained()) == [name for name, _ in networks.named_parameters() if name.startswith("tuner.")]


@pytest.mark.parametrize(
    ("recipe", "compared", "title"),
    [
        (CASSR, {"bicubic", "reference", "plain", "wrong", "oracle"}, "with the reference"),
        (SCEDIT, {"bicubic", "plain"}, "the tuner's picture"),
    ],
    ids=["cassr", "scedit"],
)
def test_a_run_is_the_same_with_validations_and_a_stop_as_without(
    photos: Path, tiny_model: Path, tmp_path: Path, recipe: Recipe, compared: set[str], title: str
) -> None:
    without, watched = tmp_path / "without", tmp_path / "watched"
    silent, told = (replace(recipe, output=replace(recipe.output, validate_steps=every)) for every in (0, 1))
    assert run(silent, photos, without, init_from=tiny_model, device="cpu")
    assert not run(told, photos, watched, init_from=tiny_model, device="cpu", minutes=1e-9)
    assert run(told, photos, watched, resume=True, device="cpu")
    assert weights_digest(without) == weights_digest(watched)

    assert not any("validation" in row for row in read_metrics(without / "metrics.jsonl"))
    rows = [row for row in read_metrics(watched / "metrics.jsonl") if "validation" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    measures = rows[-1]["validation"]
    assert {name for name, value in measures.items() if isinstance(value, dict)} == compared
    assert all(set(measures[who]) == {"psnr", "ssim", "gmsd", "sharpness"} for who in compared)
    assert all(row["validation"]["plain"] == measures["plain"] for row in rows)  # a stop makes no difference to it
    sheet = Image.open(watched / "validation" / "step-000004.png")
    columns = len(compared - {"wrong", "oracle"}) + 2  # its own, and the original
    assert columns * 64 < sheet.width < (columns + 1) * 72
    card = (watched / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| measure | {title} | bicubic |" in card


def test_references_of_a_trained_activator_are_shown_too(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert run(SCEDIT, photos, tmp_path / "tuner", init_from=tiny_model, device="cpu")
    names = [f"scedit:{tmp_path / 'tuner' / 'model'}", "dfc"]
    recipe = replace(CASSR, model=replace(CASSR.model, activators=names))  # type: ignore[type-var]
    assert run(recipe, photos, tmp_path / "run", init_from=tiny_model, device="cpu")
    (tuned,) = (row for row in read_metrics(tmp_path / "tuner" / "metrics.jsonl") if "validation" in row)
    (shown,) = (row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "validation" in row)
    made = {name: value for name, value in tuned["validation"].items() if not isinstance(value, dict)}
    assert shown["validation"]["reference"] == made
