"""Exit codes, the two streams, and what an error looks like."""

import errno
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from xpsr_cli import __version__
from xpsr_cli.cli import app as app_module
from xpsr_cli.cli import doctor
from xpsr_cli.errors import (
    ExitCode,
    MissingExtraError,
    OutOfMemoryError,
    PartialFailureError,
    PhotoError,
    UsageError,
    WeightsError,
    XpsrError,
)


@pytest.fixture
def failing(monkeypatch):
    """Makes a subcommand raise: ``failing(error)``."""

    def arrange(error):
        def raises(report):
            raise error

        monkeypatch.setattr(doctor, "_versions", raises)

    return arrange


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (XpsrError("m", "h"), ExitCode.UNEXPECTED),
        (UsageError("m", "h"), ExitCode.USAGE),
        (PhotoError("m", "h"), ExitCode.PHOTO),
        (WeightsError("m", "h"), ExitCode.WEIGHTS),
        (OutOfMemoryError("m", "h"), ExitCode.MEMORY),
        (MissingExtraError("m", "h"), ExitCode.MISSING_EXTRA),
        (PartialFailureError("m", "h"), ExitCode.PARTIAL),
    ],
)
def test_every_error_is_two_lines_on_stderr_and_its_exit_code(xpsr, failing, error, code):
    failing(error)
    outcome = xpsr("doctor")
    assert outcome == (code, "", "error: m\n       h\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."),
    ],
)
def test_running_out_of_memory_says_what_to_make_smaller(xpsr, failing, error):
    failing(error)
    outcome = xpsr("doctor")
    assert outcome.code == ExitCode.MEMORY
    assert "--tile-size" in outcome.err
    assert "Traceback" not in outcome.err


def test_an_unforeseen_failure_is_one_line_with_its_type_and_points_at_debug(xpsr, failing):
    failing(ZeroDivisionError("by zero\nand more"))
    outcome = xpsr("doctor")
    assert outcome.code == ExitCode.UNEXPECTED
    assert (
        outcome.err == "error: Unexpected ZeroDivisionError: by zero\n       Add --debug to see where it happened.\n"
    )


def test_debug_lets_the_traceback_through(xpsr, failing):
    failing(PhotoError("m", "h"))
    with pytest.raises(PhotoError):
        xpsr("doctor", "--debug")


def test_control_c_is_130(xpsr, failing):
    failing(KeyboardInterrupt())
    outcome = xpsr("doctor")
    assert outcome.code == ExitCode.INTERRUPTED
    assert outcome.err == "error: Interrupted.\n"


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGTERM to catch")
def test_being_terminated_is_143_and_like_control_c(xpsr, monkeypatch):
    monkeypatch.setattr(doctor, "_versions", lambda report: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    outcome = xpsr("doctor")
    assert outcome == (ExitCode.TERMINATED, "", "error: Terminated.\n")
    assert ExitCode.TERMINATED == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_line_runs_in_any_thread(xpsr):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(xpsr, "--version").result().code == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), ["a.png", "No space left", "Make room"]),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), ["a.png", "Permission denied"]),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), ["A file", "No such file"]),
    ],
)
def test_what_the_disk_refuses_is_a_sentence(xpsr, failing, error, words):
    failing(error)
    outcome = xpsr("doctor")
    assert outcome.code == ExitCode.PHOTO
    assert len(outcome.err.splitlines()) == 2
    for word in words:
        assert word in outcome.err


def test_main_leaves_with_the_code(failing):
    failing(WeightsError("m"))
    with pytest.raises(SystemExit) as caught:
        app_module.main(["doctor"])
    assert caught.value.code == ExitCode.WEIGHTS


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(xpsr, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    xpsr("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    xpsr("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_version_and_help_go_to_stdout(xpsr):
    assert xpsr("--version") == (0, f"xpsr {__version__}\n", "")
    outcome = xpsr("--help")
    assert outcome.code == 0
    assert outcome.err == ""
    for command in ("upscale", "replay", "train", "weights", "doctor"):
        assert command in outcome.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upscale", "a.png", "-o", "b.png", "--scale", "abc"], ["--scale", "'abc'"]),
        (["upscale", "a.png", "-o", "b.png", "--scheduler=euler"], ["--scheduler", "'euler'", "ddim"]),
        (["upscale", "a.png", "-o", "b.png", "--steps", "1.5"], ["--steps", "'1.5'"]),
        (["upscale", "a.png", "-o", "b.png", "--nope"], ["--nope"]),
        (["upscale", "a.png"], ["--output"]),
        (["upscal"], ["upscal", "upscale"]),
        (["upscale", "a.png", "-o", "b.png", "--scale", "99"], ["scale", "99", "1 to 8"]),
        (["upscale", "a.png", "-o", "b.png", "--scale", "nan"], ["scale", "nan"]),
        (["upscale", "a.png", "-o", "b.png", "--steps", "0"], ["steps", "0"]),
        (["upscale", "a.png", "-o", "b.png", "--tile-size", "100"], ["tile-size", "100"]),
        (["upscale", "a.png", "-o", "b.png", "--seed", "-1"], ["seed", "-1"]),
        (["upscale", "a.png", "-o", "b.png", "--overwrite", "--skip-existing"], ["--overwrite", "--skip-existing"]),
        (["upscale", "a.png", "-o", "b.png", "--bits", "12"], ["--bits", "'12'"]),
        (["upscale", "a.png", "-o", "b.png", "--format", "gif"], ["--format", "'gif'", "webp"]),
        (["upscale", "a.png", "-o", "b.png", "--compression", "jpeg"], ["--compression", "'jpeg'", "zstd"]),
        (["upscale", "a.png", "-o", "b.png", "--quality", "101"], ["quality", "101", "1 to 100"]),
        (["upscale", "a.png", "-o", "b.png", "--shard", "9/8"], ["shard", "'9/8'"]),
        (["upscale", "a.png", "-o", "b.png", "--in-memory", "-1"], ["in-memory", "-1"]),
        (["upscale", "a.png", "-o", "b.png", "--tile-batch", "0"], ["tile-batch", "0"]),
    ],
)
def test_a_wrong_command_line_is_one_sentence_with_flag_and_value(xpsr, arguments, words):
    outcome = xpsr(*arguments)
    assert outcome.code == ExitCode.USAGE
    assert outcome.out == ""
    first, *rest = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert len(rest) <= 1
    for word in words:
        assert word in first


def test_doctor_reports_and_fails_when_something_is_to_fix(xpsr, monkeypatch):
    monkeypatch.setattr(doctor, "load_registry", dict)
    outcome = xpsr("doctor", "--json")
    report = json.loads(outcome.out)
    assert set(report) == {"versions", "machine", "weights", "extras", "fixes"}
    assert report["versions"]["xpsr"] == __version__
    assert report["machine"]["cores"] >= 1
    assert report["fixes"] == []
    assert outcome.code == 0
    monkeypatch.setattr(doctor, "_weights", lambda report: report.fixes.append("Fix me.") or {})
    outcome = xpsr("doctor")
    assert outcome.code == ExitCode.UNEXPECTED
    assert "Fix me." in outcome.out


@pytest.mark.parametrize("command", [[], ["upscale"], ["eval"], ["weights"]])
def test_nothing_asked_shows_the_help(xpsr, command):
    outcome = xpsr(*command)
    assert outcome.code == ExitCode.USAGE
    assert outcome.err.startswith(f"Usage: {' '.join(['xpsr', *command])} ")
    assert "error:" not in outcome.err


def test_a_value_that_is_not_allowed_is_said_once(xpsr):
    outcome = xpsr("upscale", "a.png", "-o", "b.png", "--color-fix", "sepia")
    assert outcome.code == ExitCode.USAGE
    assert outcome.err.count("sepia") == 1
    assert "adain" in outcome.err
    assert "Value error" not in outcome.err
