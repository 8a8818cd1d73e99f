"""Which multimodal model is meant, where it lies, and what tells its texts from another's.

Standard library only: that a photo has been described already is known without loading what described it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION, CaptionerKey
from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import SUMS_NAME
from xpsr_cli.settings import Quantization
from xpsr_cli.weights import Kind, WeightsEntry, hub_folder, installed_folder, load_registry, user_folder

DEFAULT_MLLM = "llava-1.5-7b"
MAX_NEW_TOKENS = 160
"""Longest text a model may write, in tokens: about 120 words. The released script's limit is 200 with the question."""
VERSION = 1
"""Goes up when the code changes what texts come out of the same model."""

_HINT = "Give llava-1.5-7b, a folder, or a hub id that is in the Hugging Face cache."
_SAYS_WHICH = ("config.json", "generation_config.json", "chat_template.jinja", "chat_template.json")
_PROCESSOR = ("processor_config.json", "preprocessor_config.json")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True)
class MllmFiles:
    """A multimodal model on this machine: what captions call it, and its folder in transformers' layout."""

    name: str
    folder: Path


def find_mllm(model: str) -> MllmFiles:
    """The model that ``--model`` names: a captioner of the registry, a folder, or a hub id.

    A hub id is looked for in the local Hugging Face cache; nothing is downloaded. Anything else, and a folder that
    holds no model that answers questions on images, is a :class:`WeightsError` that says what it is.
    """
    registry = load_registry()
    entry = registry.get(model) or next((e for e in registry.values() if model in e.hub_ids), None)
    if entry is not None:
        return _installed(entry, model)
    folder = Path(model).expanduser()
    if model and folder.is_dir():  # no name at all is no folder: Path("") would be this one
        check_mllm_folder(folder)
        return MllmFiles(folder.resolve().name, folder)
    cached = hub_folder(model)
    if cached is not None:
        check_mllm_folder(cached)
        return MllmFiles(model, cached)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        raise WeightsError(f"{model!r} is neither a folder nor a model in the Hugging Face cache.", _HINT)
    raise WeightsError(f"There is no captioner named {model!r}.", _HINT)


def installed_mllm() -> MllmFiles | None:
    """The default model, if it is on this machine."""
    folder = installed_folder(load_registry()[DEFAULT_MLLM])
    return None if folder is None else MllmFiles(DEFAULT_MLLM, folder)


def mllm_key(files: MllmFiles, quantize: Quantization = Quantization.NONE) -> CaptionerKey:
    """Whose captions these files would make; reads some kilobytes, and none of the weights."""
    settings = {
        "high": HIGH_INSTRUCTION,
        "low": LOW_INSTRUCTION,
        "max_new_tokens": str(MAX_NEW_TOKENS),
        "quantize": quantize.value,
    }
    return CaptionerKey(files.name, _identity(files.folder), tuple(sorted(settings.items())), VERSION)


def check_mllm_folder(folder: Path) -> None:
    """Raise :class:`WeightsError` unless the files in ``folder`` are those of a model that answers on images."""
    if (folder / "model_index.json").is_file():
        raise WeightsError(f"{folder} is a diffusers pipeline, not a multimodal model.", _HINT)
    config = read_config(folder)
    kind = _other_kind(config)
    if kind is not None:
        raise WeightsError(f"{folder} holds {kind}, which does not answer questions on images.", _HINT)
    for names, what in ((_PROCESSOR, "image processor"), (_TOKENIZER, "tokenizer")):
        if not any((folder / name).is_file() for name in names):
            raise WeightsError(f"{folder} has no {what}: {' and '.join(names)} are missing.", "Fetch the whole model.")
    weights_files(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a folder; :class:`WeightsError` if it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"The folder {folder} is not a model: config.json is missing.", _HINT) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path} holds a {type(config).__name__} instead of an object.", "Fetch the model again.")
    return config


def weights_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, all of which are there. Raises :class:`WeightsError`."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        pickle = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
        if pickle is not None:
            raise WeightsError(
                f"{pickle} is a pickle, which can run code when it is read.",
                "Fetch the model's safetensors files, or convert it with the convert.py of the safetensors project.",
            )
        raise WeightsError(f"{single} does not exist.", "Fetch the whole model.")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is damaged: {error}.", "Fetch the model again.") from error
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{file} does not exist.", "Fetch the whole model.")
    return files


def _installed(entry: WeightsEntry, model: str) -> MllmFiles:
    captioners = ", ".join(e.name for e in load_registry().values() if e.kind is Kind.CAPTIONER)
    if entry.kind is not Kind.CAPTIONER:
        raise WeightsError(f"{model} is no captioner: its kind is {entry.kind.value}.", f"Captioners: {captioners}.")
    folder = installed_folder(entry)
    if folder is None:
        raise WeightsError(f"The model {entry.name} is not installed.", entry.how_to_get)
    check_mllm_folder(folder)
    return MllmFiles(entry.name, folder)


def _other_kind(config: dict[str, Any]) -> str | None:
    """What a config describes, if it is no network that sees images and writes text."""
    if "_class_name" in config:
        return f"a part of a diffusers pipeline ({config['_class_name']})"
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    name = names[0] if names else str(config.get("model_type", "without a model_type"))
    sees = any(key in config for key in ("vision_config", "vq_config")) or config.get("model_type") == "fuyu"
    writes = not names or any("For" in name for name in names)  # CLIPModel and the like only compare
    answers = not any(other in name for name in names for other in ("Classification", "Retrieval", "Detection"))
    return None if sees and writes and answers else name


def _identity(folder: Path) -> str:
    """What identifies the weights: hashes taken when they arrived, a revision of the hub, or how the files look."""
    sums = folder / SUMS_NAME
    if folder.parent == user_folder() and sums.is_file():
        return f"sha256:{hashlib.sha256(sums.read_bytes()).hexdigest()}"
    if folder.parent.name == "snapshots":
        return f"revision:{folder.name}"
    digest = hashlib.sha256()
    for name in sorted((*_SAYS_WHICH, *_PROCESSOR, *_TOKENIZER)):
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    for file in weights_files(folder):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    return f"files:{digest.hexdigest()}"
