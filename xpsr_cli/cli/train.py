"""``xpsr train``: a recipe and photos to a model folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from xpsr_cli.cli.console import Console, quiet_third_parties
from xpsr_cli.cli.options import DebugFlag, DeviceOption, JsonFlag, QuietFlag, complete_model
from xpsr_cli.cli.train_progress import training_bar
from xpsr_cli.errors import PhotoError, UsageError, WeightsError

if TYPE_CHECKING:
    from xpsr_cli.training.recipe import Recipe

LATEST = "latest"


class TrainCommand(TyperCommand):
    """``--resume`` alone means ``--resume latest``: typer has no options whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with that value put in."""
        following = [*args[1:], "--"]
        filled = [
            word
            for argument, after in zip(args, following, strict=True)
            for word in ([argument, LATEST] if argument == "--resume" and after.startswith("-") else [argument])
        ]
        return super().parse_args(ctx, filled)


def complete_recipe(incomplete: str) -> list[str]:
    """The recipes that ship, for shell completion."""
    folder = Path(__file__).parents[1] / "training" / "recipes"
    return sorted(file.stem for file in folder.glob("*.toml") if file.stem.startswith(incomplete))


def train(
    config: Annotated[
        str,
        typer.Option(
            help="A recipe: finetune, xpsr-mini, xpsr-mini-smoke, xpsr-mini-scedit, xpsr-mini-cassr, xpsr-sd15, "
            "xpsr-sd21, xpsr-explore-scorer, xpsr-explore-base, xpsr-explore-refiner, or a .toml file.",
            show_default=False,
            autocompletion=complete_recipe,
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder of large photos, of HR and LR pairs, or of .tar shards; may be repeated.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of this run; --preview needs none.", show_default=False),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[latest|FOLDER]",
            help="Go on from the last checkpoint of the run, or from this one.",
            show_default=False,
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Start from this XPSR: a name of `xpsr weights list`, or a model folder.",
            show_default="as the recipe says",
            autocompletion=complete_model,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The Stable Diffusion to stand on: a folder, or a hub id in the Hugging Face cache.",
            show_default="as the recipe says",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Save and stop after this long.", show_default="to the end")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value of the recipe, as in optimizer.steps=800; may be repeated."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="What is in the photos, as `xpsr caption --export` writes it, for data.captions=store.",
            show_default="what `xpsr caption` keeps",
        ),
    ] = None,
    preview: Annotated[
        tuple[int, Path] | None,
        typer.Option(
            metavar="N FILE.png",
            help="Draw the first N training pairs with their words, and stop.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a model of your own, or one that is there further: a recipe and photos to a model folder for --model.

    On several processes: accelerate launch --num_processes N -m xpsr_cli train ...
    """
    if minutes is not None and not minutes > 0:
        raise UsageError(
            f"--minutes is {minutes:g}, allowed is anything above 0.", "Leave it out to train to the end."
        )
    if not debug:
        quiet_third_parties()
    from xpsr_cli.training.recipe import load_recipe

    with _one_voice(quiet, as_json) as console:
        recipe = load_recipe(config, overrides)
        words = _captions(recipe, captions)
        if preview is not None:
            _preview(console, recipe, data, preview, output=output, init_from=init_from, captions=words)
            return
        if output is None:
            raise UsageError("--output is missing.", "Name the folder that the run is to be written to.")
        _train(
            console,
            recipe,
            data,
            output,
            resume=resume == LATEST or (resume is not None and Path(resume)),
            init_from=init_from,
            base=base,
            minutes=minutes,
            device=device,
            captions=words,
        )


def _train(console: Console, recipe: Recipe, data: list[Path], output: Path, **options: Any) -> None:
    from xpsr_cli.training import train as training
    from xpsr_cli.training.listeners import Shown

    with training_bar(not console.quiet) as show, console.log_lines("xpsr_cli.training"):
        options["listener"] = None if show is None else Shown(show)
        options["tell"] = console.result if console.as_json else None
        finished = training.run(recipe, data, output, **options)
    console.note("Trained to the end." if finished else "Stopped in time; go on with --resume.")
    model = output / "model"
    console.result({"model": str(model), "finished": finished}, str(model))


def _preview(console: Console, recipe: Recipe, data: list[Path], wanted: tuple[int, Path], **options: Any) -> None:
    from xpsr_cli.training import train as training

    count, picture = wanted
    if not 1 <= count <= 1000:
        raise UsageError(f"--preview is of {count} pairs, allowed is 1 to 1000.")
    with console.log_lines("xpsr_cli.training", warnings_only=True):
        training.preview(recipe, data, count, picture, **options)
    console.result({"preview": str(picture), "pairs": count}, str(picture))


def _captions(recipe: Recipe, file: Path | None) -> Mapping[str, str] | None:
    """What is in the photos by the SHA-256 of their files, where the recipe reads it."""
    if recipe.data.captions != "store":
        if file is not None:
            raise UsageError(
                f"--captions is {file}, but the recipe's data.captions is {recipe.data.captions}.",
                "Add --set data.captions=store.",
            )
        return None
    from xpsr_cli.cli.train_captions import StoredCaptions, written_captions

    return StoredCaptions() if file is None else written_captions(file)


@contextmanager
def _one_voice(quiet: bool, as_json: bool) -> Iterator[Console]:
    """Of a launcher's processes the first one speaks; of the others only what it cannot know is heard."""
    if int(os.environ.get("RANK", "0")) == 0:
        yield Console(quiet=quiet, as_json=as_json)
        return
    logger = logging.getLogger("xpsr_cli")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield Console(quiet=True)
    except (UsageError, PhotoError, WeightsError) as error:  # the first one says the same
        raise typer.Exit(error.exit_code) from error
    finally:
        logger.setLevel(level)
