"""What every test can count on: no network, a fixed seed, few threads, and a user folder of its own."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
import typer

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

_MOST_PROCESSES = 4
"""More would want gigabytes of memory, and a container may allow fewer cores than it shows."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Whole folders are tested by a process per core; named files, or tests chosen by ``-k``, by this one alone.

    ``-n`` says otherwise, and without pytest-xdist all run in this process.
    """
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    alone = option.usepdb or option.collectonly or option.keyword or option.capture == "no"
    if option.numprocesses is not None or option.tx or alone or not all(Path(place).is_dir() for place in config.args):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > 1:
        option.numprocesses, option.dist = min(cores, _MOST_PROCESSES), "loadfile"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A socket to anything but this machine fails, at once and with the address in the message."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _fixed_seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _homes(tmp_path_factory):
    """A folder for each test. One of ``mktemp`` would be sought among all that went before, thousands of them."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_user_folder(monkeypatch, _homes):
    """Weights, caches and data folders of the person who runs the tests are neither seen nor touched."""
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("XPSR_WEIGHTS", str(home / "weights"))
    monkeypatch.setenv("XPSR_CACHE", str(home / "cache"))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _one_command_line():
    """It is built once, as in any process of the command, and not anew for each of a thousand runs."""
    build = typer.main.get_command
    built = cache(lambda application, *commands: build(application))

    def with_commands(application):
        return built(application, *(command.name for command in application.registered_commands))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", with_commands)
        yield


class Outcome(NamedTuple):
    """What one run of the command line left: its exit code and what it said where."""

    code: int
    out: str
    err: str


@pytest.fixture
def xpsr(capsys):
    """Runs the command line in this process: ``xpsr("upscale", path, ...)`` gives an :class:`Outcome`."""
    from xpsr_cli.cli.app import run

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(int(code), *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A whole model folder of the real classes at their smallest, with random weights."""
    from xpsr_cli.models.loading import save_components
    from xpsr_cli.settings import SamplingPreset
    from xpsr_cli.training.build import MINI_PRESET, SCHEDULER_CONFIG, build_networks, build_tokenizer
    from xpsr_cli.training.recipe import MiniModelRecipe

    recipe = MiniModelRecipe(
        latent_channels=16,
        block_size=4,
        block_out_channels=[16, 16, 16],
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        text_width=16,
        text_layers=1,
        pyramid_channels=[4, 4, 8],
        refiner_channels=8,
        refiner_blocks=1,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = build_tokenizer([SamplingPreset.prompt_suffix, "a photo of a house"], vocabulary=256)
    text_encoder, vae, unet, controlnet = build_networks(recipe, tokenizer, seed=0)
    save_components(
        folder,
        name="tiny",
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        unet=unet,
        controlnet=controlnet,
        scheduler_config=SCHEDULER_CONFIG,
        preset=MINI_PRESET,
    )
    return folder
