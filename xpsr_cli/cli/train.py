"""``xpsr train``: a recipe and a folder of photos to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpsr_cli.cli.console import Console, quiet_third_parties
from xpsr_cli.cli.options import DebugFlag, QuietFlag


def train(
    config: Annotated[str, typer.Option(help="Name of a recipe that ships, or a .toml file.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Folder of large photos.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of this run.", show_default=False)],
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder stopped.")] = False,
    init_from: Annotated[
        Path | None, typer.Option(help="Start from the weights of this model folder.", show_default="fresh weights")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Save and stop after this long.", show_default="to the end")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe value, as in section.key=value; may be repeated."),
    ] = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a model of your own."""
    if not debug:
        quiet_third_parties()
    from xpsr_cli.training.recipe import load_recipe
    from xpsr_cli.training.train import run

    console = Console(quiet=quiet)
    recipe = load_recipe(config, overrides)
    with console.log_lines("xpsr_cli.training"):
        finished = run(recipe, data, output, resume=resume, init_from=init_from, minutes=minutes)
    console.note("Trained to the end." if finished else "Stopped in time; go on with --resume.")
    console.result({}, str(output / "model"))
