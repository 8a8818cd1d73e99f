"""The diary of a run: whole lines after any kill, no step told twice, and curves where TensorBoard is."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from xpsr_cli.training.listeners import (
    Listeners,
    LogLines,
    MetricsFile,
    Shown,
    TensorBoard,
    main_terms,
    read_metrics,
    told_terms,
)
from xpsr_cli.training.loop import Listener


def steps(path: Path) -> list[tuple[str, int]]:
    return [(row["stage"], row["step"]) for row in read_metrics(path)]


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A run that was killed while it wrote about step 5."""
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.begin("autoencoder", 0, 2)
    file.log(2, {"total": 1.0}, 1e-3)
    file.begin("diffusion", 0, 10)
    for step in range(1, 5):
        file.log(step, {"total": 1 / step, "degradation/0": 0.5}, 1e-3)
    file.write(4, {"validation": {"psnr": 20.0}})
    with file.path.open("a") as stream:
        stream.write('{"stage": "diffusion", "step": 5, "los')
    return file.path


def test_every_line_is_an_object_with_its_stage_and_step(told: Path) -> None:
    rows = list(read_metrics(told))
    assert rows[1] == {
        "stage": "diffusion", "step": 1, "learning_rate": 1e-3, "losses": {"total": 1.0, "degradation/0": 0.5},
    }  # fmt: skip
    assert rows[-1] == {"stage": "diffusion", "step": 4, "validation": {"psnr": 20.0}}


def test_what_is_done_again_is_told_once(told: Path) -> None:
    again = MetricsFile(told)
    again.begin("diffusion", 3, 10)
    assert steps(told) == [("autoencoder", 2), *(("diffusion", step) for step in (1, 2, 3))]
    again.log(4, {"total": 0.1}, 1e-3)
    assert [json.loads(line)["step"] for line in told.read_text().splitlines()] == [2, 1, 2, 3, 4]


def test_going_back_to_an_earlier_stage_forgets_the_later_one(told: Path) -> None:
    MetricsFile(told).begin("autoencoder", 2, 2)
    assert steps(told) == [("autoencoder", 2)]


def test_a_new_run_in_an_old_folder_begins_a_new_diary(told: Path) -> None:
    MetricsFile(told).begin("autoencoder", 0, 2)
    assert told.read_text() == ""


def test_a_line_that_was_cut_off_is_not_joined_to_the_next(told: Path) -> None:
    file = MetricsFile(told)
    file.begin("diffusion", 4, 10)
    file.log(5, {"total": 0.1}, 1e-3)
    assert steps(told)[-3:] == [("diffusion", 4), ("diffusion", 4), ("diffusion", 5)]


def test_numbers_are_short_and_what_is_none_is_null(tmp_path: Path) -> None:
    rows = []
    file = MetricsFile(tmp_path / "metrics.jsonl", rows.append)
    file.log(1, {"total": 0.123456789, "noise": float("nan")}, 1e-3)
    assert json.loads(file.path.read_text())["losses"] == {"total": 0.123457, "noise": None}
    assert rows == list(read_metrics(file.path))


def test_parts_of_terms_are_left_out_of_lines() -> None:
    losses = {"total": 1.23456, "degradation": 2.0, "degradation/0": 1.0, "noise": None}
    assert main_terms(losses) == {"total": 1.23456, "degradation": 2.0}
    assert told_terms(losses) == "total 1.235, degradation 2"


def test_all_listeners_hear_everything_in_their_order(tmp_path: Path) -> None:
    heard = []

    class Hearing(Listener):
        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self, stage, step, steps):
            heard.append((self.name, "begin", stage, step, steps))

        def log(self, step, losses, learning_rate):
            heard.append((self.name, "log", step))

        def validate(self, step, model_folder):
            heard.append((self.name, "validate", step))

        def saved(self, step, folder):
            heard.append((self.name, "saved", step))

    both = Listeners([Hearing("a"), Hearing("b"), Listener()])
    both.begin("diffusion", 1, 9)
    both.log(2, {}, 0.1)
    both.validate(3, tmp_path)
    both.saved(4, tmp_path)
    assert heard == [
        (name, *rest) for rest in (("begin", "diffusion", 1, 9), ("log", 2), ("validate", 3), ("saved", 4))
        for name in "ab"
    ]  # fmt: skip


def test_lines_name_stage_step_and_what_is_left_to_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lines = LogLines()
    lines.begin("diffusion", 0, 40)
    lines.log(10, {"total": 1.5, "total/part": 3.0}, 5e-5)
    lines.begin("diffusion", 10, 40)
    assert caplog.messages == [
        "diffusion: begins, 40 steps",
        "diffusion 10/40: total 1.5, learning rate 5e-05",
        "diffusion: on after 10 of 40 steps",
    ]


def test_a_bar_is_told_how_far_the_run_is() -> None:
    shown = []
    bar = Shown(lambda *told: shown.append(told))
    bar.begin("diffusion", 10, 40)
    bar.log(20, {"total": 1.5}, 5e-5)
    assert shown == [("diffusion", 10, 40, ""), ("diffusion", 20, 40, "total 1.5, learning rate 5e-05")]


def test_without_tensorboard_a_note_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = TensorBoard(tmp_path / "tensorboard")
    board.begin("autoencoder", 0, 2)
    board.begin("diffusion", 0, 2)
    board.log(1, {"total": 1.0}, 1e-3)
    assert len(caplog.messages) == 1
    assert "tensorboard" in caplog.messages[0]
    assert not (tmp_path / "tensorboard").exists()


def test_with_tensorboard_every_number_has_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    class SummaryWriter:  # of torch.utils.tensorboard, which needs a package that tests cannot count on
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    board = TensorBoard(tmp_path / "tensorboard")
    board.begin("diffusion", 10, 40)
    board.log(11, {"total": 1.0, "degradation/0": 2.0}, 1e-3)
    assert written == [
        ("diffusion", 11), ("loss/total", 1.0, 11), ("loss/degradation 0", 2.0, 11), ("learning_rate", 1e-3, 11),
    ]  # fmt: skip


def test_a_disk_that_is_full_costs_the_diary_a_line_and_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.log(1, {"total": 1.0}, 0.1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (metrics.path.stat().st_size, limits[1]))
    try:
        metrics.log(2, {"total": 0.5}, 0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "misses step 2" in caplog.text
    metrics.log(3, {"total": 0.25}, 0.1)
    assert [row["step"] for row in read_metrics(metrics.path)] == [1, 3]
