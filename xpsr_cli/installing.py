"""Brings weights into the user's folder, from the network or from another folder: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from xpsr_cli.downloads import fetch_file
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.integrity import check_safetensors, read_sums, record_sums
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.weights import FileState, Kind, WeightsEntry, WeightsFile, user_folder, verify

_CHUNK = 8 << 20


@dataclass(frozen=True)
class Installed:
    """Where weights came to lie, and the hash of each file that the registry does not pin."""

    folder: Path
    unpinned: dict[str, str]


def pull(entry: WeightsEntry, progress: Progress | None = None) -> Installed:
    """Download a model of the registry, or only what is missing or damaged of it.

    Files gather in a hidden folder that gets the model's name when all of them are there and checked, so an
    interrupted pull is continued by the next one.
    """
    if entry.shipped or not entry.sources:
        raise WeightsError(f"{entry.name} cannot be downloaded by xpsr.", entry.how_to_get)
    target = user_folder() / entry.name
    staging = target.with_name(f".{entry.name}.pulling")
    if target.is_dir() and not staging.exists():
        damaged = [check for check in verify(entry, target) if check.state in (FileState.DAMAGED, FileState.MISSING)]
        if not damaged:
            return _installed(entry, target)
        os.replace(target, staging)
        for check in damaged:
            (staging / check.path).unlink(missing_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    _require_space(staging, entry)
    for file in entry.files:
        fetch_file(file, entry.sources, staging, progress)
    for leftover in staging.rglob("*.part"):
        leftover.unlink()
    for file in entry.files:
        _check_layout(staging / file.path, delete=True)
    return _give_name(staging, target, entry)


def import_folder(entry: WeightsEntry, source: Path, progress: Progress | None = None) -> Installed:
    """Copy a model that someone brought as a folder; its layout is checked before anything is copied."""
    if entry.shipped:
        flag = {Kind.PRIOR: "--prior", Kind.ADD_ON: "--add-on"}.get(entry.kind, "--model")
        raise UsageError(f"{entry.name} ships with xpsr.", f"To use a folder of your own, give it to {flag}.")
    if not entry.files:
        raise UsageError(f"{entry.name} is not copied: it is used where it lies.", "Give its folder to --prior.")
    target = user_folder() / entry.name
    if target.exists():
        raise UsageError(f"{entry.name} is installed already, in {target}.", "Delete that folder first.")
    if not source.is_dir():
        raise UsageError(f"There is no folder {source}.", f"Give the folder that holds {entry.files[0].path}.")
    for file in entry.files:
        _require_file(source, file, entry)
        _check_layout(source / file.path)
    staging = target.with_name(f".{entry.name}.importing-{os.getpid()}")
    try:
        for file in entry.files:
            _copy(source / file.path, staging / file.path, file.path, progress or SilentProgress())
        return _give_name(staging, target, entry)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _give_name(staging: Path, target: Path, entry: WeightsEntry) -> Installed:
    sums = record_sums(staging)
    for file in entry.files:
        if file.sha256 is not None and sums[file.path] != file.sha256:
            raise WeightsError(
                f"{file.path} is not the file the registry knows as {entry.name}: its SHA-256 is {sums[file.path]}.",
                f"Expected {file.sha256}.",
            )
    os.replace(staging, target)
    return _installed(entry, target)


def _installed(entry: WeightsEntry, folder: Path) -> Installed:
    sums = read_sums(folder)
    return Installed(folder, {f.path: sums[f.path] for f in entry.files if f.sha256 is None and f.path in sums})


def _check_layout(path: Path, *, delete: bool = False) -> None:
    """Check the header of a safetensors file; one that arrived damaged is deleted so that it is fetched again."""
    if path.suffix != ".safetensors":
        return
    try:
        check_safetensors(path)
    except WeightsError:
        if delete:
            path.unlink()
        raise


def _require_file(source: Path, file: WeightsFile, entry: WeightsEntry) -> None:
    path = source / file.path
    if path.is_file():
        return
    pickles = sorted(path.parent.glob("*.bin")) + sorted(path.parent.glob("*.ckpt"))
    if path.suffix == ".safetensors" and pickles:
        raise WeightsError(
            f"{pickles[0]} is a pickle, which xpsr does not open.",
            f"Convert it to safetensors and name it {file.path}.",
        )
    raise WeightsError(
        f"{source} is not {entry.name}: {file.path} is missing.",
        f"It must hold {', '.join(f.path for f in entry.files)}.",
    )


def _require_space(folder: Path, entry: WeightsEntry) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if entry.size - there > free:
        raise WeightsError(
            f"{entry.name} needs {(entry.size - there) / 1e9:.1f} GB and the disk of {folder.parent} has "
            f"{free / 1e9:.1f} GB left.",
            "Free some space, or set XPSR_WEIGHTS to a folder on another disk.",
        )


def _copy(source: Path, target: Path, name: str, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    progress.stage(name, source.stat().st_size)
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            progress.advance(len(chunk))
