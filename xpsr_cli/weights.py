"""Which weights there are, where they lie, and whether they are whole.

``weights/registry.toml`` names them. The model that ships lies beside the registry (in a clone) or inside the package
(in an installed wheel); everything else lies in the user's weights folder, one folder per name, each with a
``SHA256SUMS`` file that ``sha256sum -c`` understands. A folder is whole or absent. Only the standard library is used.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.integrity import hash_file, read_json, read_sums
from xpsr_cli.settings import SamplingPreset

DEFAULT_MODEL = "xpsr-mini"
FULL_MODEL = "xpsr"
MODEL_CARD = "xpsr.json"
"""A model's own name and sampling preset, beside its networks."""
_NETWORK_FOLDERS = ("unet", "controlnet")
_BORROWED_FOLDERS = ("tokenizer", "text_encoder", "vae", "scheduler")


class Kind(str, Enum):
    """What a model is for."""

    UPSCALER = "upscaler"
    BASE = "base"
    CAPTIONER = "captioner"
    PRIOR = "prior"
    ADD_ON = "cassr"

    @property
    def words(self) -> str:
        """The kind with its article."""
        return "an add-on" if self is Kind.ADD_ON else f"{'an' if self is Kind.UPSCALER else 'a'} {self.value}"


@dataclass(frozen=True)
class WeightsFile:
    """One file of a model: its path inside the folder, its size in bytes and, where it is known, its SHA-256."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class WeightsEntry:
    """One model of the registry. ``manual`` says why it cannot be downloaded, if it cannot.

    One without ``files`` is used where it is: in the Hugging Face cache, under one of its ``hub_ids``.
    """

    name: str
    kind: Kind
    about: str
    licence: str
    files: tuple[WeightsFile, ...] = ()
    sources: tuple[str, ...] = ()
    hub_ids: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    page: str = ""
    manual: str = ""
    shipped: bool = False

    @property
    def size(self) -> int:
        """Bytes on disk: of the listed files, or of the folder that ships."""
        if self.shipped:
            folder = shipped_folder() / self.name
            return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return sum(file.size for file in self.files)

    @property
    def how_to_get(self) -> str:
        """One sentence for someone who does not have it."""
        if self.shipped:
            return "It ships with xpsr: install xpsr again."
        if not self.files:
            return f"{self.manual} See {self.page}, then run: hf download {self.hub_ids[0]}"
        if self.manual:
            return f"{self.manual} Fetch it from {self.page}, then run: xpsr weights import {self.name} FOLDER"
        return f"Run: xpsr weights pull {self.name}"


class FileState(str, Enum):
    """What a check of one file found."""

    OK = "ok"
    DAMAGED = "damaged"
    MISSING = "missing"
    UNRECORDED = "no hash recorded"


@dataclass(frozen=True)
class FileCheck:
    """A file of an installed model and what its check found."""

    path: str
    state: FileState


def shipped_folder() -> Path:
    """The folder that holds the registry and the model that ships."""
    package = Path(__file__).parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def user_folder() -> Path:
    """Where pulled and imported weights lie: ``XPSR_WEIGHTS``, else the platform's folder for user data."""
    named = os.environ.get("XPSR_WEIGHTS")
    if named:
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "xpsr" / "weights"


@cache
def load_registry() -> dict[str, WeightsEntry]:
    """Every model of ``registry.toml`` by name, in the order of the file."""
    path = shipped_folder() / "registry.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
    except FileNotFoundError:
        raise WeightsError(f"The weights registry {path} is missing.", "Install xpsr again.") from None
    return {table["name"]: _entry(table) for table in tables}


def _entry(table: dict[str, Any]) -> WeightsEntry:
    values = dict(table)
    values["kind"] = Kind(values["kind"])
    values["files"] = tuple(WeightsFile(**file) for file in values.pop("files", ()))
    for key in ("sources", "hub_ids", "needs"):
        values[key] = tuple(values.get(key, ()))
    return WeightsEntry(**values)


def entry_named(name: str) -> WeightsEntry:
    """The registry's entry of that name; :class:`WeightsError` listing the names otherwise."""
    registry = load_registry()
    if name not in registry:
        raise WeightsError(f"There are no weights named {name!r}.", f"Known: {', '.join(registry)}.")
    return registry[name]


def installed_folder(entry: WeightsEntry) -> Path | None:
    """Where the model lies on this machine, or ``None``. A folder counts only if every file of the entry is in it."""
    if entry.shipped:
        folder = shipped_folder() / entry.name
        whole = _is_upscaler(folder) if entry.kind is Kind.UPSCALER else (folder / MODEL_CARD).is_file()
        return folder if whole else None
    folder = user_folder() / entry.name
    if entry.files and _has_files(folder, entry):
        return folder
    return next((f for hub_id in entry.hub_ids if (f := hub_folder(hub_id)) and _has_files(f, entry)), None)


def hub_folder(hub_id: str) -> Path | None:
    """The newest snapshot of a hub id in the local Hugging Face cache, or ``None``. Never downloads."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    cache_folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    model = cache_folder / f"models--{hub_id.replace('/', '--')}"
    try:
        revision = (model / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    snapshot = model / "snapshots" / revision
    return snapshot if snapshot.is_dir() else None


def find_model(name: str) -> Path:
    """The folder of the upscaler that ``--model`` names.

    ``name`` is a name of the registry, a folder in diffusers layout (``unet/`` and ``controlnet/``), or a hub id that
    is in the local Hugging Face cache. Anything else is a :class:`WeightsError` that says what would be right.
    """
    registry = load_registry()
    upscalers = ", ".join(entry.name for entry in registry.values() if entry.kind is Kind.UPSCALER)
    if name in registry:
        entry = registry[name]
        if entry.kind is not Kind.UPSCALER:
            raise WeightsError(f"{name} is {entry.kind.words}, not an upscaler.", f"Upscalers: {upscalers}.")
        folder = installed_folder(entry)
        if folder is None:
            raise WeightsError(f"The model {name} is not installed.", entry.how_to_get)
        return folder
    folder = Path(name).expanduser()
    if folder.is_dir():
        missing = [part for part in _NETWORK_FOLDERS if not (folder / part / "config.json").is_file()]
        if missing:
            hint = "A model folder has unet/ and controlnet/ in diffusers layout."
            if _read_card(folder).get("kind") == Kind.ADD_ON.value:
                hint = "It is an add-on: give it to --add-on, beside its own model."
            raise WeightsError(f"The folder {name} is not a model: {missing[0]}/config.json is missing.", hint)
        return folder
    cached = hub_folder(name)
    if cached is not None and _is_upscaler(cached):
        return cached
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        hint = f"Give one of {upscalers}, a folder, or a hub id that is in the Hugging Face cache."
        raise WeightsError(f"{name!r} is neither a folder nor a model in the Hugging Face cache.", hint)
    raise WeightsError(f"There is no model named {name!r}.", f"Give one of {upscalers}, or a model folder.")


def read_preset(folder: Path) -> SamplingPreset:
    """How the model in ``folder`` likes to be sampled: as its card (``xpsr.json``) says, else as the published one.

    :class:`WeightsError` for a card that is damaged or says what cannot be followed.
    """
    path = folder / MODEL_CARD
    if not path.is_file():
        return SamplingPreset()
    try:
        return SamplingPreset.from_dict(json.loads(path.read_text(encoding="utf-8")).get("preset", {}))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.", "Check the model folder.") from error
    except (UsageError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} has a preset xpsr cannot follow: {error}") from error


def model_name(folder: Path) -> str:
    """What the model in ``folder`` is called: as its card says, else as the folder is called."""
    return str(_read_card(folder).get("name", folder.resolve().name))


def find_add_on(named: str | None, model_folder: Path) -> Path | None:
    """The folder of the add-on by which the model in ``model_folder`` reads a reference.

    ``named`` is a name of the registry or a folder; for ``None`` it is the installed one of the registry that was
    trained for this model, or ``None``. Only names are compared here: of the base's weights, loading makes sure.

    Raises:
        WeightsError: none of that name, something else than an add-on, or one for another model.
    """
    model = model_name(model_folder)
    known = [entry for entry in load_registry().values() if entry.kind is Kind.ADD_ON]
    if named is None:
        installed = (folder for entry in known if (folder := installed_folder(entry)))
        return next((folder for folder in installed if _read_card(folder).get("base") == model), None)
    hint = f"Give {', '.join(entry.name for entry in known)} or a folder that xpsr train made of one."
    if named in load_registry():
        entry = entry_named(named)
        if entry.kind is not Kind.ADD_ON:
            raise WeightsError(f"{named} is {entry.kind.words}, not an add-on.", hint)
        folder = installed_folder(entry)
        if folder is None:
            raise WeightsError(f"The add-on {named} is not installed.", entry.how_to_get)
    else:
        folder = Path(named).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"There is no add-on named {named!r}.", hint)
    card = _read_card(folder)
    if card.get("kind") != Kind.ADD_ON.value:
        raise WeightsError(f"The folder {named} is not an add-on: its {MODEL_CARD} does not say so.", hint)
    if card.get("base") != model:
        raise WeightsError(
            f"The add-on {named} was trained for {card.get('base')}, and the model is {model}.",
            "Use it with its own model, or train one for this model.",
        )
    return folder


def _read_card(folder: Path) -> dict[str, Any]:
    """What a folder of weights says of itself; nothing if it has no card, :class:`WeightsError` for a damaged one."""
    path = folder / MODEL_CARD
    return read_json(path) if path.is_file() else {}


def read_vocabulary(name: str) -> list[str]:
    """The words that a prior which ships was trained on; none where it is not here, or has no card to say so."""
    try:
        card = json.loads((shipped_folder() / name / MODEL_CARD).read_text(encoding="utf-8"))
        return [str(word) for word in card["vocabulary"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def find_base(folder: Path) -> Path | None:
    """The Stable Diffusion folder whose parts a model lacks, or ``None`` when the model has all its own parts."""
    if all((folder / part).is_dir() for part in _BORROWED_FOLDERS):
        return None
    base = entry_named("stable-diffusion-1.5")
    found = installed_folder(base)
    if found is None:
        raise WeightsError(
            f"The model in {folder} needs parts of {base.name}, which is not installed.", base.how_to_get
        )
    return found


def verify(entry: WeightsEntry, folder: Path) -> Iterator[FileCheck]:
    """Check every file of a model in ``folder`` against the registry, else against the hash recorded on arrival."""
    recorded = read_sums(folder)
    pinned = {file.path: file.sha256 for file in entry.files if file.sha256}
    expected: dict[str, str | None] = {**dict.fromkeys(file.path for file in entry.files), **recorded, **pinned}
    for path, known in expected.items():
        if not (folder / path).is_file():
            yield FileCheck(path, FileState.MISSING)
        elif known is None:
            yield FileCheck(path, FileState.UNRECORDED)
        else:
            whole = hash_file(folder / path) == known
            yield FileCheck(path, FileState.OK if whole else FileState.DAMAGED)


def _is_upscaler(folder: Path) -> bool:
    return all((folder / part / "config.json").is_file() for part in _NETWORK_FOLDERS)


def _has_files(folder: Path, entry: WeightsEntry) -> bool:
    return folder.is_dir() and all((folder / file.path).is_file() for file in entry.files)
