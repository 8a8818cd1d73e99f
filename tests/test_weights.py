"""The registry, where models are found, and whether they are whole."""

import hashlib
import json
import re
import struct

import pytest
from small_photos import refusal

from xpsr_cli import weights
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.installing import import_folder
from xpsr_cli.integrity import SUMS_NAME, check_safetensors, read_sums, record_sums
from xpsr_cli.weights import FileState, Kind, WeightsEntry, WeightsFile


def safetensors_bytes(payload=b"\0" * 16):
    header = json.dumps({"w": {"dtype": "F32", "shape": [len(payload) // 4], "data_offsets": [0, len(payload)]}})
    return struct.pack("<Q", len(header)) + header.encode() + payload


def write_xpsr_folder(folder):
    for part in ("unet", "controlnet"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
        (folder / part / "diffusion_pytorch_model.safetensors").write_bytes(safetensors_bytes(part.encode() * 4))
    return folder


def test_the_registry_names_what_a_user_needs_to_decide():
    for entry in weights.load_registry().values():
        assert entry.about
        assert entry.licence
        assert entry.shipped or entry.files or (entry.kind is Kind.PRIOR and entry.hub_ids and entry.manual)
        assert entry.shipped or entry.page.startswith("https://")
        assert entry.shipped or entry.manual or len(entry.sources) >= 2
        for source in entry.sources:
            assert source.startswith("https://")
            assert "{path}" in source
        for file in entry.files:
            assert file.size > 0
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert not file.path.endswith((".bin", ".ckpt", ".pt", ".pth"))
        assert set(entry.needs) <= set(weights.load_registry())


def test_a_prior_without_files_is_one_in_the_cache(tmp_path, monkeypatch):
    entry = weights.entry_named("deepfloyd-if-2")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert weights.installed_folder(entry) is None
    assert entry.how_to_get.endswith("then run: hf download DeepFloyd/IF-II-M-v1.0")
    snapshot = tmp_path / "models--DeepFloyd--IF-II-M-v1.0" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    assert weights.installed_folder(entry) == snapshot
    with refusal(UsageError, "deepfloyd-if-2", "--prior"):
        import_folder(entry, snapshot)


def test_the_default_model_and_the_full_model_are_upscalers():
    registry = weights.load_registry()
    assert registry[weights.DEFAULT_MODEL].kind is Kind.UPSCALER
    assert registry[weights.DEFAULT_MODEL].shipped
    assert registry[weights.FULL_MODEL].kind is Kind.UPSCALER


def test_the_model_that_ships_is_whole():
    entry = weights.entry_named(weights.DEFAULT_MODEL)
    folder = weights.shipped_folder() / entry.name
    assert weights.find_model(entry.name) == folder
    assert weights.find_base(folder) is None
    checks = {check.path: check.state for check in weights.verify(entry, folder)}
    assert set(checks.values()) == {FileState.OK}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*checks, SUMS_NAME, "README.md"}


def test_an_unknown_name_lists_the_right_ones():
    with pytest.raises(WeightsError) as caught:
        weights.find_model("xpsr-maxi")
    assert "xpsr-maxi" in caught.value.message
    assert "xpsr-mini" in caught.value.hint


def test_a_model_that_is_not_installed_says_how_to_get_it():
    with pytest.raises(WeightsError) as caught:
        weights.find_model("xpsr")
    assert "xpsr weights import xpsr" in caught.value.hint


def test_a_base_model_is_refused_as_an_upscaler():
    with pytest.raises(WeightsError, match="stable-diffusion-1.5 is a base, not an upscaler"):
        weights.find_model("stable-diffusion-1.5")
    with pytest.raises(WeightsError, match="xpsr-mini-cassr is an add-on, not an upscaler"):
        weights.find_model("xpsr-mini-cassr")


def test_a_folder_is_a_model_when_it_has_both_networks(tmp_path):
    folder = write_xpsr_folder(tmp_path / "mine")
    assert weights.find_model(str(folder)) == folder
    (folder / "controlnet" / "config.json").unlink()
    with pytest.raises(WeightsError, match="controlnet/config.json is missing"):
        weights.find_model(str(folder))


def test_a_hub_id_is_found_in_the_cache_and_nowhere_else(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="neither a folder nor"):
        weights.find_model("someone/model")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--someone--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    folder = write_xpsr_folder(model / "snapshots" / "abc")
    assert weights.find_model("someone/model") == folder


def test_a_whole_model_needs_no_base_and_a_bare_one_says_what_it_needs(tmp_path):
    folder = write_xpsr_folder(tmp_path / "mine")
    with pytest.raises(WeightsError) as caught:
        weights.find_base(folder)
    assert "xpsr weights pull stable-diffusion-1.5" in caught.value.hint
    for part in ("tokenizer", "text_encoder", "vae", "scheduler"):
        (folder / part).mkdir()
    assert weights.find_base(folder) is None


def write_card(folder, **card):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "xpsr.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def model(tmp_path):
    """A model folder called ``mine``."""
    return write_card(write_xpsr_folder(tmp_path / "model"), name="mine")


def test_a_model_is_called_as_its_card_says_or_its_folder_is(model):
    assert weights.model_name(model) == "mine"
    (model / "xpsr.json").unlink()
    assert weights.model_name(model) == "model"
    (model / "xpsr.json").write_text("{")
    with refusal(WeightsError, "xpsr.json is not JSON"):
        weights.model_name(model)


def test_an_add_on_is_a_folder_of_its_own_model(model, tmp_path):
    folder = write_card(tmp_path / "add-on", kind="cassr", base="mine")
    assert weights.find_add_on(str(folder), model) == folder
    with refusal(WeightsError, "was trained for mine, and the model is other"):
        weights.find_add_on(str(folder), write_card(tmp_path / "other", name="other"))
    with refusal(WeightsError, "is not an add-on: its xpsr.json does not say so"):
        weights.find_add_on(str(model), model)
    with refusal(WeightsError, "no add-on named 'nothing'", "xpsr-mini-cassr"):
        weights.find_add_on("nothing", model)
    with refusal(WeightsError, "xpsr-mini is an upscaler, not an add-on"):
        weights.find_add_on("xpsr-mini", model)
    with refusal(WeightsError, "stable-diffusion-1.5 is a base, not an add-on"):
        weights.find_add_on("stable-diffusion-1.5", model)
    with refusal(WeightsError, "is not a model", "It is an add-on: give it to --add-on"):
        weights.find_model(str(folder))


def test_the_installed_add_on_of_a_model_is_found_without_a_name(model, tmp_path, monkeypatch):
    assert weights.find_add_on(None, model) is None
    entries = {
        name: WeightsEntry(name, Kind.ADD_ON, "a", "b", shipped=True, needs=(name.removesuffix("-cassr"),))
        for name in ("theirs-cassr", "mine-cassr")
    }
    monkeypatch.setattr(weights, "load_registry", lambda: entries)
    monkeypatch.setattr(weights, "shipped_folder", lambda: tmp_path / "shipped")
    write_card(tmp_path / "shipped" / "theirs-cassr", kind="cassr", base="theirs")
    assert weights.find_add_on(None, model) is None
    with refusal(WeightsError, "The add-on mine-cassr is not installed", "It ships with xpsr"):
        weights.find_add_on("mine-cassr", model)
    folder = write_card(tmp_path / "shipped" / "mine-cassr", kind="cassr", base="mine")
    assert weights.find_add_on(None, model) == weights.find_add_on("mine-cassr", model) == folder
    with refusal(WeightsError, "The add-on theirs-cassr was trained for theirs"):
        weights.find_add_on("theirs-cassr", model)


def test_the_add_on_that_ships_is_for_the_model_that_ships():
    entry = weights.entry_named("xpsr-mini-cassr")
    assert (entry.kind, entry.shipped, entry.needs) == (Kind.ADD_ON, True, (weights.DEFAULT_MODEL,))
    folder = weights.installed_folder(entry)
    assert weights.find_add_on(None, weights.find_model(weights.DEFAULT_MODEL)) == folder
    if folder is None:
        return
    checks = {check.path: check.state for check in weights.verify(entry, folder)}
    assert set(checks.values()) == {FileState.OK}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*checks, SUMS_NAME, "README.md"}


def test_import_copies_records_and_installs(tmp_path):
    entry = weights.entry_named("xpsr")
    source = write_xpsr_folder(tmp_path / "checkpoint-300000")
    (source / "optimizer.bin").write_bytes(b"not wanted")
    folder = import_folder(entry, source).folder
    assert weights.find_model("xpsr") == folder
    assert not (folder / "optimizer.bin").exists()
    digest = hashlib.sha256((source / "unet" / "config.json").read_bytes()).hexdigest()
    assert read_sums(folder)["unet/config.json"] == digest
    assert {check.state for check in weights.verify(entry, folder)} == {FileState.OK}


def test_verify_names_the_damaged_and_the_missing_file(tmp_path):
    entry = weights.entry_named("xpsr")
    folder = import_folder(entry, write_xpsr_folder(tmp_path / "run")).folder
    (folder / "unet" / "config.json").write_text("{ }")
    (folder / "controlnet" / "config.json").unlink()
    states = {check.path: check.state for check in weights.verify(entry, folder)}
    assert states["unet/config.json"] is FileState.DAMAGED
    assert states["controlnet/config.json"] is FileState.MISSING
    assert states["unet/diffusion_pytorch_model.safetensors"] is FileState.OK


def test_verify_trusts_the_registry_over_what_was_recorded(tmp_path):
    (tmp_path / "a.txt").write_text("forged")
    record_sums(tmp_path)
    entry = WeightsEntry("x", Kind.BASE, "a", "b", files=(WeightsFile("a.txt", 6, "0" * 64), WeightsFile("b.txt", 1)))
    (tmp_path / "b.txt").write_text("?")
    states = {check.path: check.state for check in weights.verify(entry, tmp_path)}
    assert states == {"a.txt": FileState.DAMAGED, "b.txt": FileState.UNRECORDED}


@pytest.mark.parametrize("part", ["unet", "controlnet"])
def test_import_refuses_what_is_not_the_model_and_leaves_nothing(tmp_path, part):
    entry = weights.entry_named("xpsr")
    source = write_xpsr_folder(tmp_path / "run")
    file = source / part / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="damaged"):
        import_folder(entry, source)
    file.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        import_folder(entry, source)
    (source / part / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match="pickle"):
        import_folder(entry, source)
    assert not weights.user_folder().exists()


def test_import_never_replaces_an_installed_model(tmp_path):
    entry = weights.entry_named("xpsr")
    source = write_xpsr_folder(tmp_path / "run")
    folder = import_folder(entry, source).folder
    with pytest.raises(UsageError, match="installed already"):
        import_folder(entry, source)
    assert weights.installed_folder(entry) == folder


def test_an_import_that_fails_half_way_leaves_nothing(tmp_path):
    class Interrupt:
        def stage(self, name, total):
            if name.startswith("controlnet"):
                raise KeyboardInterrupt

        def advance(self, count=1):
            pass

    with pytest.raises(KeyboardInterrupt):
        import_folder(weights.entry_named("xpsr"), write_xpsr_folder(tmp_path / "run"), Interrupt())
    assert list(weights.user_folder().iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 64, struct.pack("<Q", 2) + b"[]", safetensors_bytes() + b"!"]
)
def test_a_file_that_is_no_safetensors_is_told_apart(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="safetensors|damaged"):
        check_safetensors(path)
    path.write_bytes(safetensors_bytes())
    check_safetensors(path)
