"""``xpsr replay``: what made a result, read from the result, and the same work again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpsr_cli import __version__
from xpsr_cli.cli import upscale
from xpsr_cli.cli.console import Console, printable, quiet_third_parties
from xpsr_cli.cli.model_files import find_files
from xpsr_cli.cli.options import (
    DebugFlag,
    DeviceOption,
    JsonFlag,
    PrecisionOption,
    QuietFlag,
    complete_add_on,
    complete_model,
)
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.settings import Bits, Compression, OutputOptions, Precision, UpscaleSettings

if TYPE_CHECKING:
    from xpsr_cli.upscaling.upscaler import Upscaler

_PRECISIONS = {"torch.float32": Precision.FP32, "torch.bfloat16": Precision.BF16, "torch.float16": Precision.FP16}
_MACHINE = ("device", "precision", "torch", "threads")


def replay(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A picture that xpsr made.")],
    run: Annotated[bool, typer.Option("--run", help="Do the same work again.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where --run puts its result.", show_default=False)
    ] = None,
    photo: Annotated[
        Path | None, typer.Option("--input", help="The photo it was made from.", show_default="beside the result")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model, where its name no longer leads to it.",
            autocompletion=complete_model,
            show_default="the recorded one",
        ),
    ] = None,
    add_on: Annotated[
        str | None,
        typer.Option(
            help="Its add-on, where the name no longer leads to it.",
            autocompletion=complete_add_on,
            show_default="the recorded one",
        ),
    ] = None,
    activate: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who made the reference, with the place of its files: spandrel:FILE or scedit:FOLDER.",
            show_default="the recorded one",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result that exists.")] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Say what made a result, or make it again."""
    if not run and (output or photo or model or add_on or activate or overwrite):
        flags = "--output, --input, --model, --add-on, --activate and --overwrite"
        raise UsageError(f"{flags} only count with --run.", "Add --run.")
    if not debug:
        quiet_third_parties()
    manifest, console = _manifest_of(result), Console(quiet=quiet, as_json=as_json)
    if not run:
        console.result(manifest, "\n".join([str(result), *_lines(manifest)]))
        return
    settings, options = settings_of(manifest, result)
    if output is None:
        raise UsageError("--run needs a place for its result.", "Add -o again.png.")
    source = input_of(manifest, result, photo)
    settings = replace(settings, activate=activate or settings.activate)
    recorded = _reference_of(manifest).get("add_on")
    named = add_on or (None if recorded is None else str(recorded))
    found = find_files(model or str(manifest.get("model")), settings, named, use_installed=False)
    precision = _recorded_precision(manifest) if precision is Precision.AUTO else precision

    from xpsr_cli.cli.batch import Batch, FileOptions
    from xpsr_cli.cli.photo_prompts import RecordedPrompts

    def load() -> Upscaler:
        upscaler = upscale.load_upscaler(found, device, precision)
        for difference in _differences(manifest, upscaler, found.facts(precision)):
            console.note(difference)
        return upscaler

    files = FileOptions(overwrite=overwrite, output=options)
    prompts = RecordedPrompts(str(manifest.get("captioner", "")))
    batch = Batch(settings, files, console, partial(found.facts, precision), prompts, stop_at_errors=debug)
    batch.run([source], output, load)


def _recorded_precision(manifest: Mapping[str, Any]) -> Precision:
    made_with = manifest.get("made_with")
    return _PRECISIONS.get(str(made_with.get("precision")) if isinstance(made_with, Mapping) else "", Precision.AUTO)


def _reference_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a manifest says of a first stage."""
    reference = manifest.get("reference")
    return reference if isinstance(reference, Mapping) else {}


def _differences(manifest: Mapping[str, Any], upscaler: Upscaler, facts: Mapping[str, str]) -> Iterator[str]:
    """What is not as it was, so that the new result may not be the same to the bit."""
    if manifest["xpsr"] != __version__:
        yield f"The result was made by xpsr {manifest['xpsr']}, and this is {__version__}: it may come out different."
    if manifest.get("weights") != upscaler.components.fingerprint:
        yield "The result was made with other weights: it will come out different."
    for name, words in (("add_on", "add-on"), ("activator", "activator")):
        if _reference_of(manifest).get(f"{name}_sha256") != facts.get(name):
            yield f"The result was made with another {words}: it will come out different."
    made_with = manifest.get("made_with")
    for name in _MACHINE:
        before, now = made_with.get(name) if isinstance(made_with, Mapping) else None, upscaler.identity.get(name)
        if before is not None and before != now:
            yield f"The result was made with {name} {before}, and this is {now}: its last bits may differ."


def _manifest_of(result: Path) -> dict[str, Any]:
    from xpsr_cli.photos.provenance import read_provenance

    manifest = read_provenance(result)
    if manifest is None:
        raise PhotoError(
            f"{result} does not say what made it: it is no result of xpsr, or was written without metadata.",
            "Name a result as xpsr wrote it.",
        )
    return manifest


def _lines(values: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    """A manifest as lines of name and value, single values before groups; what is not set is left out."""
    for name, value in sorted(values.items(), key=lambda item: isinstance(item[1], Mapping)):
        if isinstance(value, Mapping):
            if any(under not in (None, "", []) for under in value.values()):
                yield printable(f"{indent}{name}")
                yield from _lines(value, indent + "  ")
        elif value not in (None, "", []):
            yield printable(f"{indent}{name:{26 - len(indent)}} {' '.join(str(value).split())}".rstrip())


def settings_of(manifest: Mapping[str, Any], result: Path) -> tuple[UpscaleSettings, OutputOptions]:
    """The settings and options that a manifest records; :class:`PhotoError` when they make no sense.

    :class:`UsageError` for an answer of another command.
    """
    if manifest.get("command", "upscale") != "upscale":
        command = f"xpsr {manifest['command']}"
        raise UsageError(f"{result} is an answer of {command}.", f"Draw it again with the same {command} command.")
    known = {field.name for field in fields(UpscaleSettings)}
    try:
        recorded = {name: value for name, value in manifest["settings"].items() if name in known}
        output = manifest["output"]
        compression = output["compression"]
        options = OutputOptions(
            bits=Bits(output["bits"]),
            quality=output["quality"],
            compression=None if compression is None else Compression(compression),
        )
        return UpscaleSettings(**recorded | {"seed": manifest["seed"]}), options
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PhotoError(
            f"What {result} says of its settings makes no sense ({error!r}).", "Give the settings to xpsr upscale."
        ) from error


def input_of(manifest: Mapping[str, Any], result: Path, named: Path | None) -> Path:
    """The photo a result was made from: ``named``, or the file of the recorded name beside the result.

    :class:`PhotoError` when it is not there or is another photo than the recorded one.
    """
    from xpsr_cli.integrity import hash_file

    recorded = manifest.get("input")
    if not isinstance(recorded, Mapping) or not isinstance(recorded.get("name"), str):
        raise PhotoError(f"{result} does not say what it was made from.", "Enlarge the photo with xpsr upscale.")
    photo = named or result.parent / Path(recorded["name"]).name
    if not photo.is_file():
        raise PhotoError(f"The photo that {result} was made from is not at {photo}.", "Name it with --input.")
    if hash_file(photo) != recorded.get("sha256"):
        raise PhotoError(
            f"{photo} is not the photo that {result} was made from (its SHA-256 is another).",
            "Name the right one with --input.",
        )
    return photo
