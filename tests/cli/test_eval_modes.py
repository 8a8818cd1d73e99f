"""``xpsr eval --mode``: every model in every mode, in one report."""

from __future__ import annotations

import json

import pytest
from evaluation_sets import write_pairs
from PIL import Image
from tiny_add_on import make_add_on

from xpsr_cli.cli import eval_models
from xpsr_cli.cli.eval_modes import settings_of_modes
from xpsr_cli.errors import ExitCode, UsageError
from xpsr_cli.settings import Mode, StartLatent, UpscaleSettings

BOTH = ("--mode", "xpsr", "--mode", "cassr")


@pytest.fixture(scope="module")
def add_on(tmp_path_factory, tiny_model):
    return make_add_on(tiny_model, tmp_path_factory.mktemp("add-ons") / "tiny-cassr")


@pytest.fixture
def evaluate(xpsr, tiny_model, tmp_path):
    """``evaluate(...)`` is ``xpsr eval --model mine=TINY`` with two steps on three small photos."""
    write_pairs(tmp_path / "set")
    command = ["eval", "--lr", tmp_path / "set" / "LR", "--hr", tmp_path / "set" / "HR", "-o", tmp_path / "out"]
    command += ["--model", f"mine={tiny_model}", "--steps", 2, "--metrics", "psnr,ssim", "--protocol", "rgb"]
    return lambda *arguments: xpsr(*command, *arguments)


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def made(tmp_path, method, name="a"):
    return Image.open(tmp_path / "out" / "predictions" / method / "seed-0" / f"{name}.png").tobytes()


def test_every_model_in_every_mode_in_one_report(evaluate, add_on, tmp_path, tiny_model, xpsr):
    modes = (*BOTH, "--mode", "activator", "--add-on", add_on)
    outcome = evaluate(*modes, "--activate", "bicubic", "--baseline", "bicubic")
    assert outcome.code == 0, outcome.err
    told = report(tmp_path / "out")
    names = ["mine", "mine+cassr", "mine+activator", "bicubic"]
    assert [method["name"] for method in told["methods"]] == names
    assert "Against mine, picture by picture" in outcome.out
    about = told["provenance"]["methods"]
    assert [about[name]["settings"]["mode"] for name in names[:3]] == ["xpsr", "cassr", "activator"]
    assert "activate" not in about["mine"]["settings"]
    assert about["mine+cassr"]["settings"]["activate"] == "bicubic"
    assert "add_on" not in about["mine"]
    assert about["mine+cassr"]["add_on"] == about["mine+activator"]["add_on"]
    photo, options = tmp_path / "set" / "LR" / "a.png", ("--model", tiny_model, "--steps", 2)
    cassr = ("--mode", "cassr", "--add-on", add_on, "--activate", "bicubic")
    for method, mode in (("mine", ()), ("mine+cassr", cassr)):
        assert xpsr("upscale", photo, "-o", tmp_path / f"{method}.png", *options, *mode).code == 0
        assert Image.open(tmp_path / f"{method}.png").tobytes() == made(tmp_path, method)
    assert len({made(tmp_path, name) for name in names[:3]}) == 3


def test_nothing_is_made_twice_and_other_modes_come_to_it(evaluate, add_on, tmp_path, monkeypatch):
    assert evaluate().code == 0
    assert evaluate(*BOTH, "--add-on", add_on).code == 0
    scores = (tmp_path / "out" / "per_image.csv").read_bytes()
    assert b"mine+cassr" in scores
    monkeypatch.setattr(eval_models, "load_upscaler", None)  # is not come to
    assert evaluate(*BOTH, "--add-on", add_on).code == 0
    assert (tmp_path / "out" / "per_image.csv").read_bytes() == scores
    refused = evaluate(*BOTH, "--add-on", add_on, "--activate", "xpsr")
    assert refused.code == ExitCode.USAGE
    assert 'activate was unset and is "xpsr"' in refused.err


def test_a_model_without_an_add_on_is_told_once(evaluate):
    outcome = evaluate(*BOTH, "--activate", "bicubic")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("tiny has no reference attention") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--add-on", "tiny-cassr"), ExitCode.USAGE, "Mode xpsr reads no reference, and takes no add-on."),
        (("--activate", "dfc"), ExitCode.USAGE, "Mode xpsr has no activator."),
        ((*BOTH, "--activate", "swinir"), ExitCode.USAGE, "There is no activator 'swinir'."),
        ((*BOTH, "--activate", "scedit"), ExitCode.WEIGHTS, "and the model has no add-on with one"),
        ((*BOTH, "--add-on", "nothing"), ExitCode.WEIGHTS, "There is no add-on named 'nothing'."),
        (("--mode", "all"), ExitCode.USAGE, "'all'"),
        ((*BOTH, "--reference", "mine+activator"), ExitCode.USAGE, "Here: mine, mine+cassr."),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(evaluate, tmp_path, arguments, code, words):
    outcome = evaluate(*arguments, "--quiet")
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert not (tmp_path / "out" / "predictions").exists()


def test_a_mode_without_a_model_is_one_of_the_default_model(xpsr, tmp_path):
    write_pairs(tmp_path / "set")
    folders = ("--lr", tmp_path / "set" / "LR", "--hr", tmp_path / "set" / "HR", "-o", tmp_path / "out")
    outcome = xpsr("eval", *folders, "--mode", "activator", "--baseline", "bicubic", "--reference", "x")
    assert outcome.code == ExitCode.USAGE
    assert "Here: xpsr-mini+activator, bicubic." in outcome.err


def test_modes_have_the_settings_that_they_know():
    def of(modes, activate=None, start=None, strength=None):
        made = settings_of_modes(UpscaleSettings(steps=2), [Mode(mode) for mode in modes], activate, start, strength)
        assert [settings.mode.value for settings in made] == modes
        assert {settings.steps for settings in made} == {2}
        return [(settings.activate, settings.start, settings.strength) for settings in made]

    none = (None, None, None)
    assert of(["xpsr", "cassr", "activator"], "dfc") == [none, ("dfc", None, None), ("dfc", None, None)]
    reference, lr = StartLatent.REFERENCE, StartLatent.LR
    assert of(["xpsr", "cassr"], None, reference, 0.5) == [none, (None, reference, 0.5)]
    assert of(["activator", "xpsr"], None, lr, 0.5) == [none, (None, lr, 0.5)]
    assert of(["xpsr", "cassr"], "dfc", lr, 0.5) == [(None, lr, 0.5), ("dfc", lr, 0.5)]
    for modes, given in ((["xpsr"], ("dfc",)), (["xpsr", "activator"], (None, reference))):
        with pytest.raises(UsageError):
            of(modes, *given)
