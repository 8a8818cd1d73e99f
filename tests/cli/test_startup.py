"""Help and completion answer at once: nothing heavy is imported for them, and the committed scripts do not drift."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "diffusers", "transformers", "accelerate", "numpy", "scipy", "PIL", "tifffile", "rich"}
COMPLETIONS = Path(__file__).parents[2] / "completions"


def launch(*arguments, **environment):
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)


def imported(stderr):
    """Top-level packages in the output of ``python -X importtime``."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in stderr.splitlines() if "|" in line}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["upscale", "--help"],
        ["explore", "--help"],
        ["replay", "--help"],
        ["caption", "--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["compare", "--help"],
        ["doctor", "--help"],
        ["weights", "--help"],
        ["weights", "list"],
        ["weights", "pull", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments):
    made = launch("-X", "importtime", "-m", "xpsr_cli", *arguments)
    assert made.returncode == 0
    assert made.stdout
    assert "xpsr_cli" in imported(made.stderr)
    assert imported(made.stderr) & HEAVY == set()


def test_a_refused_photo_does_not_wait_for_torch(tmp_path, tiny_model):
    (tmp_path / "a.png").write_bytes(b"no photo")
    command = ["upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", tiny_model]
    made = launch("-X", "importtime", "-m", "xpsr_cli", *command)
    assert made.returncode == 3
    assert "is not a photo" in made.stderr
    assert imported(made.stderr) & {"torch", "diffusers", "transformers"} == set()


def complete(line, word):
    return launch(
        "-X", "importtime", "-m", "xpsr_cli", _XPSR_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(word)
    )


def test_completion_answers_the_commands_and_imports_nothing_heavy():
    made = complete("xpsr ", 1)
    assert set(made.stdout.split()) == {
        "upscale",
        "explore",
        "replay",
        "caption",
        "train",
        "eval",
        "compare",
        "weights",
        "doctor",
    }
    assert imported(made.stderr) & HEAVY == set()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("xpsr upscale --model xpsr-", ["xpsr-mini"]),
        ("xpsr upscale --add-on xpsr-mini", ["xpsr-mini-cassr"]),
        ("xpsr upscale --mode ", ["xpsr", "cassr", "activator"]),
        ("xpsr eval --activate ", ["none", "bicubic", "dfc", "xpsr", "scedit"]),
        ("xpsr upscale --color-fix ", ["adain", "wavelet", "wavelet-chroma", "none"]),
        ("xpsr upscale --format ", ["png", "jpg", "webp", "tif", "same"]),
        ("xpsr caption --model ", ["auto", "measured", "llava-1.5-7b"]),
        ("xpsr eval --dataset real", ["realsr"]),
        ("xpsr weights pull stable", ["stable-diffusion-1.5"]),
    ],
)
def test_completion_knows_values(line, expected):
    assert complete(line, len(line.split(" ")) - 1).stdout.split() == expected


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "xpsr.bash"), ("zsh", "_xpsr"), ("fish", "xpsr.fish"), ("powershell", "xpsr.ps1")]
)
def test_the_committed_completion_scripts_are_what_the_command_makes(shell, name):
    made = launch("-m", "xpsr_cli", _XPSR_COMPLETE=f"source_{shell}")
    assert made.stdout.strip() == (COMPLETIONS / name).read_text(encoding="utf-8").strip()


def test_a_reader_that_goes_away_is_no_traceback():
    made = subprocess.run(
        [sys.executable, "-u", "-m", "xpsr_cli", "weights", "list"],
        stdout=_closed_pipe(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert made.returncode != 0
    assert made.stderr == ""


def _closed_pipe():
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer
