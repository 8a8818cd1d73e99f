"""What model a run uses, told from its files alone: loading them takes much longer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from xpsr_cli.activator_names import NONE, SCEDIT, SPANDREL, ActivatorName
from xpsr_cli.errors import MissingExtraError, UsageError, WeightsError
from xpsr_cli.integrity import hash_file
from xpsr_cli.settings import Mode, Precision, StartLatent, UpscaleSettings
from xpsr_cli.weights import MODEL_CARD, find_add_on, find_base, find_model, model_name

_PARTS = ("unet", "controlnet", "vae", "text_encoder", "tokenizer", "scheduler")
_READ = ("*.json", "*.txt", "model.safetensors", "diffusion_pytorch_model.safetensors")
"""What is read of a part: configurations, vocabularies and weights; folders may hold other copies of the weights."""
_WEIGHTS = (".json", ".safetensors")
_ACTIVATOR = "activator"
"""Where an add-on keeps the activator that it brings."""


@dataclass(frozen=True)
class ModelFiles:
    """Where all lies that a run reads of a model, of its add-on and of its activator."""

    folder: Path
    base: Path | None = None
    add_on: Path | None = None
    activator: Path | None = None

    def facts(self, precision: Precision) -> dict[str, str]:
        """What of the model decides the bytes of a result."""
        facts = {"precision": precision.value, "weights": hash_of_model(self.folder, self.base)}
        for name, path in (("add_on", self.add_on), ("activator", self.activator)):
            if path is not None:
                facts[name] = _hash_of(path)
        return facts

    def note(self, settings: UpscaleSettings) -> str:
        """One sentence on what the model lacks for a mode, if it lacks anything."""
        if settings.mode is not Mode.CASSR or self.add_on is not None or settings.activate == NONE:
            return ""
        lacking = f"{model_name(self.folder)} has no reference attention"
        if settings.start not in (None, StartLatent.REFERENCE):
            return f"{lacking}, and sampling starts from {settings.start.value}: the reference has no part in it."
        return f"{lacking}: the reference is only where sampling starts."


def find_files(
    model: str, settings: UpscaleSettings, add_on: str | None = None, *, use_installed: bool = True
) -> ModelFiles:
    """The files of the model that ``--model`` names, and in a mode with a reference of all that has to do with it.

    ``add_on`` is what ``--add-on`` names; for ``None`` it is the installed one for this model, or with
    ``use_installed`` off none. Nothing is loaded.

    Raises:
        UsageError: an add-on in mode ``xpsr``.
        WeightsError: a model, an add-on or an activator that is not there, or is none.
        MissingExtraError: an activator of spandrel's, which is not installed.
    """
    folder = find_model(model)
    base = find_base(folder)
    if settings.mode is Mode.XPSR:
        if add_on is not None:
            raise UsageError("Mode xpsr reads no reference, and takes no add-on.", "Add --mode cassr.")
        return ModelFiles(folder, base)
    found = find_add_on(add_on, folder) if add_on is not None or use_installed else None
    return ModelFiles(folder, base, found, _activator(settings.activate, found))


def _activator(activate: str | None, add_on: Path | None) -> Path | None:
    """The file or folder of the activator that was named; ``None`` where it has none of its own, or the add-on's."""
    name = None if activate is None else ActivatorName.parse(activate)
    if name is None or name.word not in (SCEDIT, SPANDREL):
        return None
    if name.word == SPANDREL:
        if name.path is None or not name.path.is_file():
            raise WeightsError(
                f"There is no file {name.path} for the activator spandrel.",
                "Say where it lies: --activate spandrel:FILE.",
            )
        if find_spec(SPANDREL) is None:
            raise MissingExtraError(
                "Restorers need spandrel, which is not installed.", "Run: pip install 'xpsr[activators]'"
            )
        return name.path
    folder = name.path or (add_on and add_on / _ACTIVATOR)
    if folder is None or not (folder / MODEL_CARD).is_file():
        lacking = "the model has no add-on with one" if name.path is None else f"there is none in {name.path}"
        raise WeightsError(
            f"The activator scedit needs a trained skip tuner, and {lacking}.",
            "Name a folder that xpsr train made: --activate scedit:FOLDER.",
        )
    return name.path


def hash_of_model(folder: Path, base: Path | None) -> str:
    """SHA-256 over all that is read of a model: networks, tokenizer, noise schedule and sampling preset.

    Parts that ``folder`` lacks are those of ``base``.
    """
    files = {MODEL_CARD: folder / MODEL_CARD} if (folder / MODEL_CARD).is_file() else {}
    for part in _PARTS:
        home = folder / part if base is None or (folder / part).is_dir() else base / part
        files |= {f"{part}/{path.name}": path for pattern in _READ for path in home.glob(pattern)}
    return _digest(files)


def _hash_of(path: Path) -> str:
    """SHA-256 of a file, or over all weights and configurations in a folder."""
    if not path.is_dir():
        return _hash(path)
    return _digest({f.relative_to(path).as_posix(): f for kind in _WEIGHTS for f in path.rglob(f"*{kind}")})


def _digest(files: Mapping[str, Path]) -> str:
    lines = (f"{_hash(path)}  {name}\n" for name, path in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}.", "Check its permissions.") from error
