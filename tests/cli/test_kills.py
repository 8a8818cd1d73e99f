"""Killed at any moment, the same command goes on to the bytes of an undisturbed run, and shows nothing half-done."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.cli.app import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

SETTINGS = ("--scale", "4", "--steps", "6", "--tile-size", "128", "--tile-overlap", "64", "--in-memory", "0")


@pytest.fixture
def album(tmp_path):
    """Four photos that become six windows each."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(("a.jpg", "b.png", "c.tif", "d.webp")):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def command(album, out, model):
    return ["upscale", str(album), "-o", str(out), "--model", str(model), *SETTINGS]


def _run(arguments, log):
    """The command in a process of its own, which hears Ctrl-C even if the tests run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    code = run(arguments)
    sys.stdout.flush()
    os._exit(code)


@pytest.fixture
def start(tmp_path):
    """``start(arguments)`` gives a process that runs the command and, once, the path of what it says.

    It is forked from one that has imported everything, which saves most of the time.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["xpsr_cli.upscaling.upscaler", "xpsr_cli.models.loading", "xpsr_cli.cli.batch"])
    started = []

    def call(arguments):
        log = tmp_path / f"log-{len(started)}"
        log.touch()
        process = processes.Process(target=_run, args=(arguments, log))
        process.start()
        started.append(process)
        return process, log

    yield call
    for process in started:
        process.kill()
        process.join()


def begun(process, out, seconds=120):
    """Wait until the work on photos has begun, or there is none."""
    end = time.monotonic() + seconds
    while not list(out.glob(".xpsr/*.work")) and process.is_alive():
        assert time.monotonic() < end
        time.sleep(0.002)


def visible(folder):
    """What a user sees."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.name != ".xpsr"}


def test_kills_change_no_byte_and_show_nothing_half_written(album, tmp_path, tiny_model, start):
    calm, out = tmp_path / "calm", tmp_path / "out"
    undisturbed, _ = start(command(album, calm, tiny_model))
    begun(undisturbed, calm)
    started = time.monotonic()
    undisturbed.join(120)
    assert undisturbed.exitcode == 0
    whole, seconds = visible(calm), time.monotonic() - started
    assert sorted(whole) == ["a.png", "b.png", "c.png", "d.png"]

    moments = random.Random(time.time_ns())
    for _ in range(3):
        process, _ = start(command(album, out, tiny_model))
        begun(process, out)
        time.sleep(moments.uniform(0, 0.4 * seconds))
        process.kill()
        process.join()
        assert visible(out).items() <= whole.items()
    before = {name: (out / name).stat().st_mtime_ns for name in visible(out)}
    process, log = start(command(album, out, tiny_model))
    process.join(120)
    assert process.exitcode == 0, log.read_text()
    assert visible(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert log.read_text().count("done before") == len(before)
    assert [path.name for path in (out / ".xpsr").iterdir()] == ["journal.jsonl"]


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "Terminated"), (signal.SIGINT, 130, "Inter")]
)
def test_a_signal_ends_the_run_with_its_code_and_leaves_nothing_half_written(
    album, tmp_path, tiny_model, start, number, code, word
):
    out = tmp_path / "out"
    process, log = start(command(album, out, tiny_model))
    begun(process, out)
    time.sleep(0.2)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    assert log.read_text().splitlines()[-1].startswith(f"error: {word}")
    assert "Traceback" not in log.read_text()
    left = [path.name for path in (out / ".xpsr").iterdir()]
    assert [name for name in left if not name.endswith((".work", ".jsonl"))] == []
    assert run([*command(album, out, tiny_model), "--quiet"]) == 0
    assert len(visible(out)) == 4


def test_two_runs_at_once_share_the_photos(album, tmp_path, tiny_model, start):
    out = tmp_path / "out"
    both = [start(command(album, out, tiny_model)) for _ in range(2)]
    for process, log in both:
        process.join(240)
        assert process.exitcode in (0, 7)
        errors = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
        assert all("Another xpsr is at work on" in line or "photos failed" in line for line in errors)
    assert run([*command(album, out, tiny_model), "--quiet"]) == 0
    assert len(visible(out)) == 4
    finished = "".join(log.read_text() for _, log in both).count(" pixels in ")
    assert finished <= 4  # none twice
