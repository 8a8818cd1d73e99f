"""``xpsr train``: its flags reach the training, and a wrong recipe is refused."""

from pathlib import Path

import pytest

from xpsr_cli.errors import ExitCode
from xpsr_cli.training import train


@pytest.mark.parametrize(("finished", "words"), [(True, "to the end"), (False, "--resume")])
def test_flags_reach_the_training(xpsr, monkeypatch, tmp_path, finished, words):
    calls = []
    monkeypatch.setattr(train, "run", lambda *arguments, **options: calls.append((arguments, options)) or finished)
    flags = ["--config", "xpsr-mini", "--data", "photos", "--output", tmp_path, "--minutes", 2]
    flags += ["--resume", "--init-from", "model"]
    outcome = xpsr("train", *flags, "--set", "data.batch_size=3", "--set", "optimizer.steps=7")
    ((recipe, data, output), options), *rest = calls
    assert rest == []
    assert (recipe.name, recipe.data.batch_size, recipe.optimizer.steps) == ("xpsr-mini", 3, 7)
    assert (data, output) == (Path("photos"), tmp_path)
    assert options == {"resume": True, "init_from": Path("model"), "minutes": 2.0}
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'model'}\n")
    assert words in outcome.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config", "nothing"], ["'nothing'"]),
        (["--config", "xpsr-mini", "--set", "data.nothing=3"], ["nothing"]),
        (["--config", "xpsr-mini", "--set", "data.batch_size=many"], ["batch_size", "many"]),
    ],
)
def test_a_wrong_recipe_is_refused(xpsr, tmp_path, flags, words):
    outcome = xpsr("train", *flags, "--data", tmp_path, "--output", tmp_path / "run")
    assert outcome.code == ExitCode.USAGE
    for word in words:
        assert word in outcome.err.splitlines()[0]
    assert not (tmp_path / "run").exists()
