"""``xpsr weights``: which models there are, where they lie, whether they are whole, and how they get here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xpsr_cli.cli.console import Console
from xpsr_cli.cli.options import DebugFlag, JsonFlag, QuietFlag, complete_weights
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.weights import (
    FileCheck,
    FileState,
    WeightsEntry,
    entry_named,
    installed_folder,
    load_registry,
    user_folder,
    verify,
)

app = typer.Typer(help="List, find, check, download and import model weights.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="A name of `xpsr weights list`.", autocompletion=complete_weights)]


@app.command("list")
def list_weights(as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """Show every model xpsr knows: is it here, how large it is, its licence, and what it is."""
    console = Console(as_json=as_json)
    rows = [_row(entry) for entry in load_registry().values()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for entry, row in zip(load_registry().values(), rows, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)) + "  " + row[4]
        console.result(_record(entry), line)


@app.command("path")
def show_path(name: NameArgument, debug: DebugFlag = False) -> None:
    """Print the folder of an installed model."""
    Console().result({}, str(_installed(entry_named(name))))


@app.command("verify")
def verify_weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names to check; all installed ones by default.", autocompletion=complete_weights),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Compute the SHA-256 of every file of a model and say which are damaged."""
    console = Console(as_json=as_json)
    entries = [entry_named(name) for name in names] if names else _installed_entries()
    bad: list[str] = []
    for entry in entries:
        own = user_folder() / entry.name
        folder = own if own.is_dir() else _installed(entry)  # one that lacks files does not count as installed
        for check in verify(entry, folder):
            console.result(_check_record(entry, check), f"{check.state.value:16}  {entry.name}/{check.path}")
            if check.state in (FileState.DAMAGED, FileState.MISSING):
                bad.append(f"{entry.name}/{check.path}")
    if bad:
        raise WeightsError(f"{bad[0]} is damaged or missing{_and_more(bad)}.", "Fetch or import that model again.")


@app.command("pull")
def pull_weights(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before downloading.")] = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Download a model, or what is missing or damaged of it. Shows licence and size first; can be interrupted."""
    from xpsr_cli.installing import pull

    entry, console = entry_named(name), Console(quiet=quiet)
    if entry.shipped or not entry.sources:
        raise WeightsError(f"{name} cannot be downloaded by xpsr.", entry.how_to_get)
    found = installed_folder(entry)
    if found is not None and found != user_folder() / name:
        console.note(f"{name} is in the Hugging Face cache already: {found}")
        return
    console.note(f"{name}: {entry.about}\nlicence: {entry.licence} ({entry.page})\nsize: {_size(entry)}")
    if not yes:
        _confirm(f"Download it to {user_folder() / name}?")
    with console.progress(name, in_bytes=True) as progress:
        installed = pull(entry, progress)
    for path, digest in installed.unpinned.items():
        console.note(f"not pinned by the registry, recorded on arrival: {digest}  {path}")
    console.result({}, str(installed.folder))


@app.command("import")
def import_weights(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(help="Folder in diffusers layout, safetensors only.")],
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Copy a model that you brought as a folder into xpsr's weights folder."""
    from xpsr_cli.installing import import_folder

    entry, console = entry_named(name), Console(quiet=quiet)
    with console.progress(name, in_bytes=True) as progress:
        installed = import_folder(entry, folder, progress)
    console.result({}, str(installed.folder))
    for needed in entry.needs:
        if installed_folder(entry_named(needed)) is None:
            console.note(f"{name} needs {needed} too. {entry_named(needed).how_to_get}")


def _installed(entry: WeightsEntry) -> Path:
    folder = installed_folder(entry)
    if folder is None:
        raise WeightsError(f"{entry.name} is not installed.", entry.how_to_get)
    return folder


def _installed_entries() -> list[WeightsEntry]:
    return [entry for entry in load_registry().values() if installed_folder(entry) is not None]


def _row(entry: WeightsEntry) -> list[str]:
    here = "installed" if installed_folder(entry) else "-"
    return [entry.name, here, _size(entry), entry.licence, entry.about]


def _record(entry: WeightsEntry) -> dict[str, object]:
    folder = installed_folder(entry)
    return {
        "name": entry.name,
        "kind": entry.kind.value,
        "folder": str(folder) if folder else None,
        "bytes": entry.size,
        "licence": entry.licence,
        "about": entry.about,
        "page": entry.page,
    }


def _check_record(entry: WeightsEntry, check: FileCheck) -> dict[str, object]:
    return {"name": entry.name, "path": check.path, "state": check.state.value}


def _size(entry: WeightsEntry) -> str:
    if not entry.size:
        return "-"  # it is used where it lies, and not known
    return f"{entry.size / 1e9:.1f} GB" if entry.size >= 1e9 else f"{entry.size / 1e6:.0f} MB"


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("Downloading needs a yes, and nobody is at the terminal.", "Add --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit
