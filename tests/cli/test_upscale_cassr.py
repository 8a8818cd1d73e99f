"""``xpsr upscale --mode``: what is refused, what is told, what counts as the same work, and that it is made again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_add_on import change_card, make_add_on, make_tuner

from xpsr_cli import weights
from xpsr_cli.cli import model_files
from xpsr_cli.cli import upscale as command
from xpsr_cli.cli.model_files import find_files
from xpsr_cli.errors import ExitCode, UsageError, WeightsError
from xpsr_cli.photos.provenance import read_provenance
from xpsr_cli.settings import Precision, UpscaleSettings
from xpsr_cli.weights import Kind, WeightsEntry

CASSR = ("--mode", "cassr")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model):
    """An add-on that brings an activator of its own."""
    return make_add_on(tiny_model, tmp_path_factory.mktemp("add-ons") / "tiny-cassr", tuned=True)


@pytest.fixture
def add_on(made, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(made, tmp_path / "tiny-cassr")


@pytest.fixture
def photo(tmp_path):
    """A photo of 24 x 20 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def upscale(xpsr, tiny_model, photo):
    """``upscale("b.png", ...)`` is ``xpsr upscale a.png -o b.png ... --scale 2 --model TINY`` and small windows."""
    options = ("--scale", 2, "--steps", 2, "--tile-size", 128, "--tile-overlap", 32, "--model", tiny_model)
    return lambda name, *arguments: xpsr("upscale", photo, "-o", photo.with_name(name), *options, *arguments)


@pytest.fixture
def install(monkeypatch):
    """``install(folder)``: the add-on in it is one of the registry, and here."""

    def call(folder):
        entry = WeightsEntry("tiny-cassr", Kind.ADD_ON, "a", "b", shipped=True, needs=("tiny",))
        monkeypatch.setattr(weights, "load_registry", lambda: {"tiny-cassr": entry})
        monkeypatch.setattr(weights, "shipped_folder", lambda: folder.parent)

    return call


def refused(outcome, code, *words):
    """The run failed with one sentence that has all ``words``, and at most one more that helps."""
    assert outcome.code == code, outcome.err
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    for word in words:
        assert str(word) in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--mode", "both"), ExitCode.USAGE, "'both'"),
        (("--activate", "dfc"), ExitCode.USAGE, "Mode xpsr has no activator."),
        (("--add-on", "tiny-cassr"), ExitCode.USAGE, "Mode xpsr reads no reference, and takes no add-on."),
        (("--start", "reference"), ExitCode.USAGE, "A start from the reference needs one."),
        (("--start", "noise", "--strength", 0.5), ExitCode.USAGE, "strength is 0.5"),
        ((*CASSR, "--strength", 0), ExitCode.USAGE, "strength is 0"),
        ((*CASSR, "--activate", "swinir"), ExitCode.USAGE, "There is no activator 'swinir'."),
        ((*CASSR, "--activate", "spandrel"), ExitCode.USAGE, "There is no activator 'spandrel'."),
        ((*CASSR, "--activate", "spandrel:no.pth"), ExitCode.WEIGHTS, "There is no file no.pth"),
        ((*CASSR, "--activate", "scedit:x"), ExitCode.WEIGHTS, "and there is none in x."),
        ((*CASSR, "--activate", "scedit"), ExitCode.WEIGHTS, "and the model has no add-on with one"),
        ((*CASSR, "--add-on", "nothing"), ExitCode.WEIGHTS, "There is no add-on named 'nothing'."),
        ((*CASSR, "--add-on", "xpsr-mini"), ExitCode.WEIGHTS, "xpsr-mini is an upscaler, not an add-on."),
        (("--mode", "activator", "--activate", "none"), ExitCode.USAGE, "Activator none makes nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(upscale, monkeypatch, photo, arguments, code, words):
    monkeypatch.setattr(command, "load_upscaler", None)  # is not come to
    refused(upscale("b.png", *arguments), code, words)
    assert not photo.with_name("b.png").exists()


def test_an_add_on_of_another_model_is_refused(upscale, monkeypatch, add_on, tiny_model):
    monkeypatch.setattr(command, "load_upscaler", None)
    refused(upscale("b.png", *CASSR, "--add-on", tiny_model), ExitCode.WEIGHTS, "is not an add-on")
    change_card(add_on, base="other")
    refused(upscale("b.png", *CASSR, "--add-on", add_on), ExitCode.WEIGHTS, "was trained for other")


def test_restorers_need_their_extra(upscale, monkeypatch, photo):
    monkeypatch.setattr(model_files, "find_spec", {}.get)
    monkeypatch.setattr(command, "load_upscaler", None)
    outcome = upscale("b.png", *CASSR, "--activate", f"spandrel:{photo}")
    refused(outcome, ExitCode.MISSING_EXTRA, "need spandrel, which is not installed", "xpsr[activators]")


def test_the_files_of_a_mode(tiny_model, add_on, tmp_path, install, monkeypatch):
    monkeypatch.setattr(model_files, "find_spec", {"spandrel": "is here"}.get)
    plain = find_files(str(tiny_model), UpscaleSettings())
    facts = plain.facts(Precision.FP32)
    assert facts.keys() == {"precision", "weights"}
    assert find_files(str(tiny_model), UpscaleSettings(mode="cassr")) == plain  # nothing is installed
    install(add_on)
    cassr = UpscaleSettings(mode="cassr")
    assert find_files(str(tiny_model), UpscaleSettings()) == plain
    assert (
        find_files(str(tiny_model), cassr).add_on == find_files(str(tiny_model), cassr, str(add_on)).add_on == add_on
    )
    assert find_files(str(tiny_model), cassr, use_installed=False) == plain
    with pytest.raises(UsageError, match="takes no add-on"):
        find_files(str(tiny_model), UpscaleSettings(), "tiny-cassr")
    file, tuner = tmp_path / "a.pth", make_tuner(tiny_model, tmp_path / "tuner", seed=1)
    file.write_bytes(b"weights")
    for activate, path in ((f"spandrel:{file}", file), (f"scedit:{tuner}", tuner), ("scedit", None), ("xpsr", None)):
        found = find_files(str(tiny_model), UpscaleSettings(mode="activator", activate=activate))
        assert (found.add_on, found.activator) == (add_on, path)
        assert found.facts(Precision.FP32).keys() - {"activator"} == {*facts, "add_on"}
    shutil.rmtree(add_on / "activator")
    with pytest.raises(WeightsError, match="has no add-on with one"):
        find_files(str(tiny_model), UpscaleSettings(mode="cassr", activate="scedit"))


@pytest.mark.parametrize("file", ["xpsr.json", "reference_attention/config.json", "activator/xpsr.json", "new.json"])
def test_every_file_of_an_add_on_counts_but_its_words(tiny_model, add_on, file):
    def facts():
        found = find_files(str(tiny_model), UpscaleSettings(mode="cassr"), str(add_on))
        return found.facts(Precision.FP32)

    before = facts()
    (add_on / "README.md").write_text("words")
    assert facts() == before
    card = (add_on / "xpsr.json").read_text()
    (add_on / file).write_text(f"{card}\n")
    assert {name for name, value in facts().items() if value != before[name]} == {"add_on"}


def test_plain_results_are_the_same_with_an_add_on_there(upscale, photo, add_on, install):
    assert upscale("b.png").code == 0
    install(add_on)
    assert upscale("c.png", "--mode", "xpsr").code == 0
    assert photo.with_name("b.png").read_bytes() == photo.with_name("c.png").read_bytes()
    assert "done before" in upscale("b.png").err
    manifest = read_provenance(photo.with_name("b.png"))
    assert "reference" not in manifest
    assert not {"mode", "activate", "strength"} & manifest["settings"].keys()


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_reference_is_seen_in_the_result_and_told(upscale, photo, add_on):
    assert upscale("plain.png").code == 0
    outcome = upscale("b.png", *CASSR, "--add-on", add_on, "--json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert (record["settings"]["mode"], record["settings"]["activate"]) == ("cassr", "dfc")
    assert record["add_on"] == "tiny-cassr"
    assert "reference" not in outcome.err
    assert pixels(photo.with_name("b.png")).shape == (40, 48, 3)
    assert (pixels(photo.with_name("b.png")) != pixels(photo.with_name("plain.png"))).mean() > 0.1
    manifest = read_provenance(photo.with_name("b.png"))
    assert manifest["settings"]["mode"] == "cassr"
    assert manifest["settings"]["activate"] == "dfc"
    assert manifest["reference"].keys() == {"add_on", "add_on_sha256"}
    assert manifest["reference"]["add_on"] == "tiny-cassr"
    assert len(manifest["reference"]["add_on_sha256"]) == 64
    assert str(add_on.parent) not in json.dumps(manifest)


@pytest.mark.parametrize("activate", ["none", "bicubic", "dfc", "xpsr", "scedit"])
def test_activators_make_references_of_their_own(upscale, photo, made, activate):
    outcome = upscale("b.png", *CASSR, "--add-on", made, "--activate", activate)
    assert outcome.code == 0, outcome.err
    assert read_provenance(photo.with_name("b.png"))["settings"]["activate"] == activate
    if activate == "none":
        assert upscale("c.png").code == 0
        np.testing.assert_array_equal(pixels(photo.with_name("b.png")), pixels(photo.with_name("c.png")))
        return
    alone = upscale("c.png", "--mode", "activator", "--add-on", made, "--activate", activate)
    assert alone.code == 0, alone.err
    assert pixels(photo.with_name("c.png")).shape == (40, 48, 3)
    assert (pixels(photo.with_name("b.png")) != pixels(photo.with_name("c.png"))).any()
    if activate == "bicubic":
        large = Image.open(photo).resize((48, 40), Image.Resampling.BICUBIC)
        assert np.abs(pixels(photo.with_name("c.png")) - np.asarray(large).astype(int)).mean() < 1


def test_a_model_without_an_add_on_starts_from_the_reference(upscale, photo):
    outcome = upscale("b.png", *CASSR, "--activate", "dfc", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0] == (
        "tiny has no reference attention: the reference is only where sampling starts."
    )
    assert "add_on" not in json.loads(outcome.out)
    assert upscale("c.png").code == 0
    assert (pixels(photo.with_name("b.png")) != pixels(photo.with_name("c.png"))).any()
    assert "no reference attention" not in upscale("d.png", "--mode", "activator", "--activate", "dfc").err


def test_a_reference_that_has_no_part_in_the_result_is_told(upscale):
    outcome = upscale("b.png", *CASSR, "--activate", "bicubic", "--start", "lr")
    assert outcome.err.splitlines()[0] == (
        "tiny has no reference attention, and sampling starts from lr: the reference has no part in it."
    )
    assert "reference" not in upscale("c.png", *CASSR, "--activate", "none").err


def test_the_same_work_is_known_and_other_work_is_told_apart(upscale, add_on, photo, monkeypatch):
    cascade = ("b.png", *CASSR, "--add-on", add_on)
    assert upscale(*cascade).code == 0
    assert "done before" in upscale(*cascade).err
    for arguments, words in (
        (("b.png",), 'mode was "cassr" and is unset'),
        ((*cascade, "--activate", "bicubic"), 'activate was unset and is "bicubic"'),
        ((*cascade, "--start", "reference"), 'start was unset and is "reference"'),
    ):
        outcome = upscale(*arguments)
        assert outcome.code == ExitCode.USAGE
        assert words in outcome.err
    change_card(add_on / "activator", steps=1)  # it is not asked, but it is a part of the add-on
    assert "made differently: add-on was" in upscale(*cascade).err
    assert upscale(*cascade, "--overwrite").code == 0
    assert "done before" in upscale(*cascade).err


def test_where_an_activator_lies_is_nobodys_business_and_what_it_is_counts(upscale, photo, tiny_model, tmp_path):
    tuner = make_tuner(tiny_model, tmp_path / "one" / "tuner")
    options = ("b.png", "--mode", "activator", "--activate")
    assert upscale(*options, f"scedit:{tuner}").code == 0
    manifest = read_provenance(photo.with_name("b.png"))
    assert manifest["settings"]["activate"] == "scedit:tuner"
    assert len(manifest["reference"]["activator_sha256"]) == 64
    assert "/one/" not in json.dumps(manifest)
    moved = tuner.rename(tmp_path / "tuner")
    assert "done before" in upscale(*options, f"scedit:{moved}").err
    make_tuner(tiny_model, moved, seed=1)
    assert "made differently: activator was" in upscale(*options, f"scedit:{moved}").err


def test_a_config_file_has_the_flags(upscale, photo, add_on):
    config = photo.with_name("my.toml")
    config.write_text(f'mode = "cassr"\nadd-on = "{add_on}"\nactivate = "bicubic"\nstart = "lr"\nstrength = 0.5\n')
    outcome = upscale("b.png", "--config", config, "--activate", "xpsr", "--json")
    assert outcome.code == 0, outcome.err
    settings = json.loads(outcome.out)["settings"]
    assert {name: settings[name] for name in ("mode", "activate", "start", "strength")} == {
        "mode": "cassr",
        "activate": "xpsr",
        "start": "lr",
        "strength": 0.5,
    }


def test_a_dry_run_tells_both_stages(upscale, add_on):
    plain = json.loads(upscale("b.png", "--dry-run", "--json").out)
    assert "reference_steps" not in plain
    cascade = ("b.png", *CASSR, "--add-on", add_on, "--activate")
    outcome = upscale(*cascade, "xpsr", "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert (facts["reference_steps"], facts["steps"]) == (2, 2)
    assert facts["scratch_bytes"] == plain["scratch_bytes"] + 6 * 48 * 40
    assert (
        "1 window, 2 steps for the reference and 2 steps with it, about" in upscale(*cascade, "xpsr", "--dry-run").out
    )
    assert "1 window, 2 steps, about" in upscale(*cascade, "dfc", "--dry-run").out
    alone = upscale("b.png", "--mode", "activator", "--add-on", add_on, "--activate", "xpsr", "--dry-run")
    assert "1 window, 2 steps for the reference, about" in alone.out


@pytest.mark.parametrize(
    "arguments",
    [
        (*CASSR, "--start", "reference", "--strength", 0.5, "--color-fix", "none"),
        ("--mode", "activator"),
        ("--mode", "activator", "--activate", "scedit"),
    ],
)
def test_replay_makes_it_again(xpsr, upscale, photo, made, tiny_model, install, arguments):
    assert upscale("b.png", *arguments, "--add-on", made, "--seed", 3).code == 0
    result, again = photo.with_name("b.png"), photo.with_name("again.png")
    run = ("replay", result, "--run", "-o", again, "--model", tiny_model)
    refused(xpsr(*run), ExitCode.WEIGHTS, "There is no add-on named 'tiny-cassr'.")
    if "activator" in arguments:
        install(made)  # it is found by its name
        outcome = xpsr(*run)
    else:
        outcome = xpsr(*run, "--add-on", made)
    assert outcome.code == 0, outcome.err
    assert "differ" not in outcome.err
    assert again.read_bytes() == result.read_bytes()


def test_replay_without_an_add_on_takes_none_and_finds_files_where_it_is_told(
    xpsr, upscale, photo, made, tiny_model, install, tmp_path
):
    tuner = make_tuner(tiny_model, tmp_path / "far" / "tuner")
    assert upscale("b.png", *CASSR, "--activate", f"scedit:{tuner}").code == 0
    install(made)
    result, again = photo.with_name("b.png"), photo.with_name("again.png")
    assert "activate               scedit:tuner" in xpsr("replay", result).out
    run = ("replay", result, "--run", "-o", again, "--model", tiny_model)
    refused(xpsr(*run), ExitCode.WEIGHTS, "there is none in tuner")
    outcome = xpsr(*run, "--activate", f"scedit:{tuner}")
    assert outcome.code == 0, outcome.err
    assert "differ" not in outcome.err
    assert again.read_bytes() == result.read_bytes()
    make_tuner(tiny_model, tuner, seed=1)
    outcome = xpsr(*run, "--activate", f"scedit:{tuner}", "--overwrite")
    assert "The result was made with another activator: it will come out different." in outcome.err
    refused(xpsr("replay", result, "--add-on", made), ExitCode.USAGE, "only count with --run")
