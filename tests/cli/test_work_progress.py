"""What is drawn of a run on a terminal, what is said elsewhere, and that units of work add up."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from xpsr_cli.cli.work_progress import RunProgress, run_progress, units_of


def do(progress, *, stages=(("encode", 3), ("sample", 8), ("decode", 6))):
    """One photo as the engine reports it; yields after each advance."""
    for name, total in stages:
        progress.stage(name, total)
        for _ in range(total):
            progress.advance()
            yield


def test_the_work_of_every_photo_adds_up_whatever_its_stages_are():
    works = {"a": units_of(2, 4), "b": units_of(1, 4), "c": units_of(5, 4), "d": units_of(1, 1), "e": units_of(3, 3)}
    run = RunProgress(works)
    assert run.eta.share == 0
    shares = []
    with run.photo("a") as progress:
        for _ in do(progress):
            shares.append(run.eta.share)
    with run.photo("b") as progress:  # starts from noise: no encoding; decodes in a way of its own
        shares += [run.eta.share for _ in do(progress, stages=(("prompts", 1), ("sample", 4), ("decode", 1)))]
    with run.photo("c") as progress:  # taken up again
        progress.stage("sample", 20)
        progress.skip(15)
        for _ in range(5):
            progress.advance()
    with pytest.raises(ValueError, match="x"), run.photo("d"):
        raise ValueError("x")
    with run.photo("e"):
        pass
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1
    assert run.eta.share == pytest.approx(1)


def test_a_first_stage_is_work_of_its_own():
    assert "reference" not in units_of(3, 4)
    assert list(units_of(3, 4, 2)) == ["file", "reference", "encode", "sample", "decode"]
    assert units_of(3, 4, 2)["reference"] == 6
    assert 0 < units_of(3, 4, 0)["reference"] < 3  # no steps, yet some work
    assert units_of(3, 0, 2).keys() == {"file", "reference"}  # nothing follows it
    run = RunProgress({"a": units_of(2, 4, 1), "b": units_of(2, 4, 1)})
    shares = []
    for label, stages in (
        ("a", (("reference", 100), ("prompts", 1), ("encode", 3), ("sample", 8), ("decode", 6))),
        ("b", (("reference", 100), ("sample", 8), ("decode", 6))),
    ):
        with run.photo(label) as progress:
            shares += [run.eta.share for _ in do(progress, stages=stages)]
    assert shares == sorted(shares)
    assert run.eta.share == pytest.approx(1)


def test_where_all_there_is_is_a_reference_its_time_is_told(monkeypatch):
    works = {"a": units_of(100, 0, 2), "b": units_of(100, 0, 2)}
    run = RunProgress(works)
    now = [0.0]
    monkeypatch.setattr(run.eta, "_clock", lambda: now[0])
    with run.photo("a") as progress:
        progress.stage("reference", 100)
        for _ in range(100):
            now[0] += 1
            progress.advance()
    assert run.left == "about 2 min left"


def test_two_lines_on_a_terminal_and_one_for_a_single_photo():
    for works, folder in (({"[1/2] a.png": units_of(2, 4), "[2/2] b.png": units_of(2, 4)}, True), ({"c": {}}, False)):
        screen = io.StringIO()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
        with Bars(*columns, console=RichConsole(file=screen, force_terminal=True, width=100)) as bars:
            run = RunProgress(works, bars)
            label = next(iter(works))
            with run.photo(label) as progress:
                progress.stage("sample", 8)
                progress.advance(3)
                bars.refresh()
                photo, everything = bars.tasks
                assert (photo.completed, photo.total, photo.fields["count"]) == (3, 8, "3/8")
                assert everything.visible is folder
        shown = screen.getvalue()
        assert f"{label}: sample" in shown
        assert ("all photos" in shown) is folder
        assert ("0/2" in shown) is folder


def test_time_that_is_left_is_told_but_for_the_last(monkeypatch):
    run = RunProgress({"a": {"sample": 100.0, "file": 0.0}, "b": {"sample": 100.0, "file": 0.0}})
    now = [0.0]
    monkeypatch.setattr(run.eta, "_clock", lambda: now[0])
    for label, words in (("a", "about 2 min left"), ("b", "")):
        with run.photo(label) as progress:
            progress.stage("sample", 10)
            for _ in range(10):
                now[0] += 12
                progress.advance()
        assert run.left == words


def test_bars_are_for_terminals_only(monkeypatch, capsys):
    with run_progress({"a": {}}) as run:
        assert run._bars is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with run_progress({"a": {}}, quiet=True) as run:
        assert run._bars is None
    with run_progress({"a": {}}) as run:
        assert run._bars is not None
    assert capsys.readouterr().out == ""
