"""The ``xpsr`` command, and the one place where a failure becomes words and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from xpsr_cli import __version__
from xpsr_cli.cli import caption, compare, doctor, explore, replay, train, upscale, weights
from xpsr_cli.cli import eval as evaluation
from xpsr_cli.cli.console import print_error
from xpsr_cli.cli.failures import as_xpsr_error
from xpsr_cli.errors import ExitCode

app = typer.Typer(
    name="xpsr",
    help="Enlarge photographs with a diffusion model that is told what it is looking at.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: a third of the start-up time, which every TAB pays too
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("upscale", no_args_is_help=True)(upscale.upscale)
app.command("explore", no_args_is_help=True)(explore.explore)
app.command("replay", no_args_is_help=True)(replay.replay)
app.command("caption", no_args_is_help=True)(caption.caption)
app.command("train", no_args_is_help=True, cls=train.TrainCommand)(train.train)
app.command("eval", no_args_is_help=True)(evaluation.evaluate)
app.command("compare", no_args_is_help=True)(compare.compare)
app.add_typer(weights.app, name="weights")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"xpsr {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Enlarge photographs with a diffusion model that is told what it is looking at."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code. ``arguments`` default to the process's own."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code. Nothing but ``--debug`` lets an exception through."""
    # torch's threads then sleep while they wait for each other; spinning, one that has to share its core with another
    # program holds up all of them (measured on two cores beside one busy process: twelve times slower).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with _terminated_like_interrupted() as terminated:
        code = _run(arguments)
    if code != ExitCode.INTERRUPTED:
        return code
    print_error("Terminated." if terminated else "Interrupted.")
    return ExitCode.TERMINATED if terminated else code


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="xpsr", standalone_mode=False)
    except typer.TyperException as error:
        return _usage_failure(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        failure = as_xpsr_error(error)
        print_error(failure.message, failure.hint)
        return failure.exit_code
    return code if isinstance(code, int) else ExitCode.OK  # typer gives back 130 for a Ctrl-C inside a command


@contextmanager
def _terminated_like_interrupted() -> Iterator[list[int]]:
    """Let SIGTERM end the block as Ctrl-C does, so that nothing half-done is left; yields the signals that came."""
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield came
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage_failure(error: typer.TyperException, arguments: list[str]) -> int:
    """A command line that typer did not take: its sentence, with the value that was given."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if message.startswith("Usage: "):  # nothing was asked: the whole help
        sys.stderr.write(f"{error.format_message()}\n")
    elif message:
        param = getattr(error, "param", None)
        value = _value_of(getattr(param, "opts", []), arguments)
        context = getattr(error, "ctx", None)
        print_error(
            f"{message}." if value is None or repr(value) in message else f"{message} (it is {value!r}).",
            f"See: {context.command_path} --help" if context else "",
        )
    return error.exit_code


def _value_of(flags: Sequence[str], arguments: list[str]) -> str | None:
    """The value that stands behind one of ``flags`` on the command line."""
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in flags and flag.startswith("-"):
            return value if equals else next(iter(arguments[position + 1 :]), None)
    return None
