"""The README says what the program does: flags, exit codes, sizes, configuration and the Python example."""

import re
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from xpsr_cli.cli.app import app
from xpsr_cli.errors import ExitCode
from xpsr_cli.weights import load_registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def flags_of(command):
    return {flag for param in command.params for flag in param.opts if flag.startswith("--")}


def test_the_table_has_every_flag_of_upscale_and_no_other():
    rows = [line for line in README.splitlines() if line.startswith("| `-")]
    told = set(re.findall(r"`(--[a-z-]+)`", " ".join(row.split("|")[1] for row in rows)))
    assert told == flags_of(COMMANDS["upscale"]) - {"--help"}


def test_every_command_and_flag_in_the_examples_exists():
    names = "|".join([*COMMANDS])
    for line in "\n".join(blocks("bash")).splitlines():
        for call in re.findall(rf"xpsr ((?:{names}) .*?)(?: #|$)", line):
            name, *words = call.split()
            command = COMMANDS[name]
            if name == "weights":
                command = command.commands[words[0]]
            flags = {word for word in words if word.startswith("--")}
            assert flags <= flags_of(command), line


def test_every_exit_code_is_told():
    told = {int(code) for row in README.splitlines() for code in re.findall(r"\| (\d+) \| [a-z]", row)}
    assert told == {int(code) for code in ExitCode}


def test_sizes_and_licences_of_the_models_are_the_registrys():
    for entry in load_registry().values():
        row = next(line for line in README.splitlines() if re.match(rf"\| (`[^|]*, )?`{entry.name}`[ ,]", line))
        assert entry.licence in row
        if entry.files:
            size = f"{entry.size / 1e9:.1f} GB" if entry.size >= 1e9 else f"{entry.size / 1e6:.0f} MB"
            assert size in row


def test_the_ci_command_is_the_readmes_test_command():
    commands = [line for line in "\n".join(blocks("bash")).splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert [line for line in README.splitlines() if "/pytest" in line] == [commands[1]]
    assert (ROOT / re.search(r"upscale (\S+)", commands[0])[1]).is_file()


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_config_example_is_taken(xpsr, block, tmp_path, tiny_model):
    Image.effect_noise((16, 16), 50).convert("RGB").save(tmp_path / "photo.jpg")
    (tmp_path / "my.toml").write_text(block.replace("xpsr-mini", str(tiny_model)))
    target = tmp_path / "large.png"
    assert xpsr("upscale", tmp_path / "photo.jpg", "-o", target, "--config", tmp_path / "my.toml").code == 0
    assert Image.open(target).size == (32, 32)


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_example_runs(block, tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((16, 16), 50).convert("RGB").save("photo.jpg")
    exec(compile(block.replace('"xpsr-mini"', repr(str(tiny_model))), "README.md", "exec"), {})
    assert Image.open("large.png").size == (32, 32)
