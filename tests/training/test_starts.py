"""Where a run starts is written down, so that a run that goes on needs to be told nothing."""

import json
import shutil
from pathlib import Path

import pytest
from large_photos import TINY_MINI, save_photos
from small_photos import refusal

from xpsr_cli.errors import UsageError
from xpsr_cli.models.loading import load_components
from xpsr_cli.settings import SamplingPreset
from xpsr_cli.training.build import MINI_PRESET
from xpsr_cli.training.dataset import read_photos
from xpsr_cli.training.recipe import load_recipe
from xpsr_cli.training.starts import Start, check_output, origin, preset_of, remember, remembered, starting_model
from xpsr_cli.weights import MODEL_CARD

FINETUNE = load_recipe("finetune")


def test_a_run_that_goes_on_starts_from_the_same_model_wherever_it_is_called_from(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    start = Start("tiny", "some/hub-id")
    remember(tmp_path / "run", FINETUNE, start, load_components(tiny_model))
    monkeypatch.chdir(tmp_path)
    assert remembered(tmp_path / "run", Start()) == Start(str(tiny_model), "some/hub-id")
    assert remembered(tmp_path / "run", Start("other")) == Start("other", "some/hub-id")
    assert remembered(tmp_path / "nothing", Start()) == Start()


def test_a_name_of_the_registry_is_no_folder(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xpsr-mini").mkdir()
    monkeypatch.chdir(tmp_path)
    remember(tmp_path / "run", FINETUNE, Start("xpsr-mini"), load_components(tiny_model))
    assert remembered(tmp_path / "run", Start()) == Start("xpsr-mini")


def test_a_small_model_that_starts_from_another_keeps_its_tokenizer_and_its_preset(
    tiny_model: Path, tmp_path: Path
) -> None:
    model_folder = Path(shutil.copytree(tiny_model, tmp_path / "tiny"))
    card = json.loads((model_folder / MODEL_CARD).read_text(encoding="utf-8"))
    card["preset"]["guidance_scale"] = 1.7
    (model_folder / MODEL_CARD).write_text(json.dumps(card), encoding="utf-8")
    sizes = ["[16, 16, 16]", "1", "2", "4", "16", "1", "[4, 4, 8]", "8", "1"]
    keys = [change.partition("=")[0] for change in TINY_MINI if change.startswith("model.")]
    changes = [f"{key}={size}" for key, size in zip(keys, sizes, strict=True)]
    recipe = load_recipe("xpsr-mini", [*TINY_MINI, *changes])
    photos = read_photos(save_photos(tmp_path / "photos"))
    start, output = Start(str(model_folder)), tmp_path / "run"
    model = starting_model(recipe, photos, output, start, resume=False)
    remember(output, recipe, start, model)
    again = starting_model(recipe, photos, output, start, resume=True)
    assert again.tokenizer.get_vocab() == load_components(tiny_model).tokenizer.get_vocab()
    assert (model.name, again.name) == ("xpsr-mini", "xpsr-mini")
    assert model.preset == again.preset == preset_of(recipe, start)
    assert again.preset.guidance_scale == 1.7


@pytest.mark.parametrize("name", ["model", "validation", "metrics.jsonl", "losses.png"])
def test_what_is_of_no_run_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    for resume in (False, True):
        with refusal(UsageError, str(tmp_path / "run"), name, "another output folder"):
            check_output(tmp_path / "run", resume=resume)
    (tmp_path / "run" / "run.json").write_text("{}")  # of a run that was stopped before its first checkpoint
    check_output(tmp_path / "run", resume=False)


def test_a_run_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with refusal(UsageError, f"{tmp_path / 'file'} is a file"):
            check_output(place, resume=False)
    check_output(tmp_path / "new" / "deep", resume=False)
    (tmp_path / "old" / "checkpoints" / "step-000001").mkdir(parents=True)
    check_output(tmp_path / "old", resume=True)
    with refusal(UsageError, "already holds", "--resume"):
        check_output(tmp_path / "old", resume=False)


def test_a_run_that_goes_on_with_other_photos_says_so(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = read_photos(save_photos(tmp_path / "photos"))
    model, output = load_components(tiny_model), tmp_path / "run"
    (output / "checkpoints" / "step-000001").mkdir(parents=True)
    for given, warnings in ((photos, 0), (photos, 0), (photos[1:], 1), (photos[1:], 0)):
        caplog.clear()
        remember(output, FINETUNE, Start(), model, given)
        assert len(caplog.records) == warnings
        assert all("photos" in record.message for record in caplog.records)


def test_how_a_model_will_be_used_is_known_before_it_is_loaded(tiny_model: Path) -> None:
    assert preset_of(load_recipe("xpsr-mini"), Start()) == MINI_PRESET
    assert preset_of(load_recipe("xpsr-sd15"), Start()) == SamplingPreset()
    assert preset_of(FINETUNE, Start(str(tiny_model))) == load_components(tiny_model).preset


def test_cards_name_no_folder_of_the_machine() -> None:
    assert origin(load_recipe("xpsr-mini"), Start()) == "random weights"
    assert origin(load_recipe("xpsr-sd15"), Start()) == "stable-diffusion-1.5"
    assert origin(load_recipe("xpsr-sd15"), Start(base="/home/somebody/models/sd")) == "models/sd"
    assert origin(load_recipe("xpsr-sd15"), Start(base="/sd")) == "sd"
    assert origin(FINETUNE, Start()) == "xpsr-mini"
