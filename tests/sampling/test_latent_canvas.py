"""Latents in files: the same numbers as in memory, and an interruption anywhere leaves no trace."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch

from xpsr_cli.errors import PhotoError
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.noise import CanvasNoise
from xpsr_cli.sampling.sampler import sample
from xpsr_cli.sampling.schedulers import make_scheduler
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import Window, window_grid
from xpsr_cli.settings import SchedulerName

SHAPE = (4, 33, 21)
WHOLE = Window(0, 0, 33, 21)
WINDOWS = window_grid(33, 21, 12, 6)
NOISE = CanvasNoise(5, 4)
CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


class Killed(Exception):  # noqa: N818 - no error, an end
    """The process ends here."""


class Model:
    """A window denoiser that stops for good after a number of windows."""

    def __init__(self, windows=10**9):
        self.left = windows
        self.seen = []

    def __call__(self, latents, timestep, window):
        if not self.left:
            raise Killed
        self.left -= 1
        self.seen.append((timestep, window))
        return torch.tanh(latents.roll(1, dims=1) + window.x / 9) + timestep / 1000


def run(folder, name, model, hook=None):
    canvas = LatentCanvas(*SHAPE, folder)
    if canvas.step < 0:
        for y in (0, 20):
            place = Window(y, 0, min(20, 33 - y), 21)
            canvas.write(place, NOISE(1, place))
        canvas.turn()
    sample(Tiled(model, WINDOWS), canvas, make_scheduler(name, CONFIG, 4), NOISE, hook=hook)
    return canvas.read(WHOLE).clone()


@pytest.mark.parametrize("name", list(SchedulerName))
def test_files_hold_the_same_as_memory(tmp_path, name):
    assert torch.equal(run(tmp_path / "made" / "when needed", name, Model()), run(None, name, Model()))


@pytest.mark.parametrize("name", list(SchedulerName))
@pytest.mark.parametrize("windows", [1, 3, 7, 17, 30, 41])
def test_an_interruption_leaves_no_trace(tmp_path, name, windows):
    wanted, seen, kills = run(None, name, Model()), [], 0
    while True:
        model = Model(windows)
        try:
            result = run(tmp_path, name, model)
            break
        except Killed:
            kills += 1
            row = len({window.x for window in WINDOWS})
            assert len(model.seen) <= windows
            windows = max(windows, row)  # a row of windows is the least that is kept
        finally:
            seen += model.seen
    assert kills
    assert torch.equal(result, wanted)
    rows = len({window.y for window in WINDOWS})
    assert len(seen) < 4 * len(WINDOWS) + kills * len(WINDOWS) // rows  # at most a row was done again each time


def test_a_finished_canvas_is_not_worked_on_again(tmp_path):
    wanted = run(tmp_path, SchedulerName.DDIM, Model())
    model = Model(0)
    assert torch.equal(run(tmp_path, SchedulerName.DDIM, model), wanted)


def test_what_does_not_fit_begins_anew(tmp_path):
    run(tmp_path, SchedulerName.DDIM, Model())
    assert LatentCanvas(4, 33, 20, tmp_path).step == -1
    (tmp_path / "position.json").write_text('{"step": 2')
    assert LatentCanvas(*SHAPE, tmp_path).step == -1
    (tmp_path / "position.json").write_text(json.dumps({"step": 1, "band": 2, "shape": SHAPE}))
    for path in tmp_path.glob("unfinished*"):
        path.write_bytes(b"cut")
    assert LatentCanvas(*SHAPE, tmp_path).step == -1


@pytest.mark.parametrize("name", list(SchedulerName))
def test_work_without_its_position_begins_anew_and_remembers_nothing(tmp_path, name):
    with pytest.raises(Killed):
        run(tmp_path, name, Model(2 * len(WINDOWS) + 5))
    (tmp_path / "position.json").unlink()
    assert torch.equal(run(tmp_path, name, Model()), run(None, name, Model()))


@pytest.mark.parametrize("file", ["latents-0", "latents-1"])
def test_work_without_its_latents_begins_anew(tmp_path, file):
    with pytest.raises(Killed):
        run(tmp_path, SchedulerName.UNIPC, Model(2 * len(WINDOWS) + 5))
    os.truncate(tmp_path / file, 100)
    assert torch.equal(run(tmp_path, SchedulerName.UNIPC, Model()), run(None, SchedulerName.UNIPC, Model()))


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 100)])
def test_work_without_what_the_scheduler_remembered_is_refused(tmp_path, damage):
    with pytest.raises(Killed):
        run(tmp_path, SchedulerName.UNIPC, Model(2 * len(WINDOWS) + 5))
    for path in tmp_path.glob("history*"):
        damage(path)
    with pytest.raises(PhotoError, match="history-.* damaged or gone"):
        run(tmp_path, SchedulerName.UNIPC, Model())


def test_an_interruption_at_the_end_of_a_corrected_step_leaves_no_trace(tmp_path, monkeypatch):
    def hook(x0, timestep):
        return x0.clamp(-2, 2)

    turn = LatentCanvas.turn

    def killed(canvas):
        if canvas.step == 1:
            raise Killed
        turn(canvas)

    monkeypatch.setattr(LatentCanvas, "turn", killed)
    with pytest.raises(Killed):
        run(tmp_path, SchedulerName.UNIPC, Model(), hook)
    monkeypatch.undo()
    result = run(tmp_path, SchedulerName.UNIPC, Model(), hook)
    assert torch.equal(result, run(None, SchedulerName.UNIPC, Model(), hook))


@pytest.mark.filterwarnings("error")
def test_a_single_row_is_a_copy_as_every_window_is(tmp_path):
    canvas = LatentCanvas(*SHAPE, tmp_path)
    row = canvas.read(Window(3, 0, 1, 21))
    row += 1
    assert not canvas.read(Window(3, 0, 1, 21)).any()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells no open files")
def test_no_file_stays_open(tmp_path):
    canvas = LatentCanvas(*SHAPE, tmp_path)
    canvas.write(WHOLE, NOISE(1, WHOLE))
    canvas.turn()
    canvas.read(WHOLE)
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [path for path in opened if path.startswith(str(tmp_path))]


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    canvas = LatentCanvas(*SHAPE, tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PhotoError, match="No space left") as caught:
        canvas.write(WHOLE, NOISE(1, WHOLE))
    assert "--work-dir" in caught.value.hint
