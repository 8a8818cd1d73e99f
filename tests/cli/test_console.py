"""What is drawn on a terminal, and that nothing is drawn elsewhere."""

import io
import json
import logging
import os

from rich.console import Console as RichConsole
from rich.progress import Progress as Bars

from xpsr_cli.cli.console import BarProgress, Console, print_error
from xpsr_cli.progress import SilentProgress


def test_a_bar_shows_photo_stage_and_count():
    screen = io.StringIO()
    with Bars(console=RichConsole(file=screen, force_terminal=True, width=100)) as bars:
        progress = BarProgress(bars, "photo[1].jpg")
        progress.stage("sample", 8)
        progress.advance(3)
        assert (bars.tasks[0].completed, bars.tasks[0].total) == (3, 8)
        progress.skip(2)
        assert bars.tasks[0].completed == 5
        progress.stage("decode", 2)
        assert (bars.tasks[0].completed, bars.tasks[0].total) == (0, 2)
        progress.stage("unknown length", 0)
        assert bars.tasks[0].total is None
        bars.refresh()
    assert "photo[1].jpg: unknown length" in screen.getvalue()


def test_bars_are_for_terminals_only(monkeypatch, capsys):
    with Console().progress("photo.jpg") as progress:
        assert isinstance(progress, SilentProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Console(quiet=True).progress("photo.jpg") as progress:
        assert isinstance(progress, SilentProgress)
    for in_bytes in (False, True):
        with Console().progress("photo.jpg", in_bytes=in_bytes) as progress:
            assert isinstance(progress, BarProgress)
    assert capsys.readouterr().out == ""


def test_results_and_words_keep_to_their_streams(capsys):
    for console, out, err in (
        (Console(), "line\n", "note\n"),
        (Console(quiet=True), "", ""),
        (Console(as_json=True), '{"a": "é"}\n', "note\n"),
        (Console(as_json=True, quiet=True), '{"a": "é"}\n', ""),
    ):
        console.result({"a": "é"}, "line")
        console.note("note")
        assert capsys.readouterr() == (out, err)


def test_a_name_that_is_no_text_is_told_all_the_same(monkeypatch):
    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, encoding="utf-8"))
    name = os.fsdecode(b"caf\xe9.png")
    Console(as_json=True).result({"input": name})
    Console().result({}, f"{name}: gr\u00fcn")
    line, words = stream.getvalue().decode().splitlines()
    assert json.loads(line) == {"input": name}
    assert words == r"caf\udce9.png: gr\xfcn"


def test_json_is_unicode_even_where_stdout_takes_any_bytes(monkeypatch):
    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape"))
    name = os.fsdecode(b"caf\xe9.png")
    Console(as_json=True).result({"input": name})
    assert json.loads(stream.getvalue().decode()) == {"input": name}


def test_what_a_logger_reports_goes_to_stderr(capsys):
    log = logging.getLogger("xpsr_cli.test")
    for console, warnings_only, expected in (
        (Console(), True, ["fewer"]),
        (Console(quiet=True), True, []),
        (Console(), False, ["begun", "fewer"]),
        (Console(quiet=True), False, ["fewer"]),
    ):
        with console.log_lines("xpsr_cli.test", warnings_only=warnings_only):
            log.info("begun")
            log.warning("fewer")
        lines = capsys.readouterr().err.splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == expected
        assert all((line == line.rpartition(" ")[2]) is warnings_only for line in lines)


def test_colour_is_for_terminals_that_want_it(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_error("m")
    assert capsys.readouterr().err == "\x1b[31merror:\x1b[0m m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    print_error("m")
    assert capsys.readouterr().err == "error: m\n"
