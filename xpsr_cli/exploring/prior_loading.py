"""The prior that ``--prior`` names: the one that ships, a folder, or a model in the local Hugging Face cache.

A model published in several folders is given as several names with commas between: the two stages of DeepFloyd IF,
unCLIP and its image variation, Stable Diffusion and a tiny autoencoder. Nothing is ever downloaded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xpsr_cli.device import Placement, memory_errors
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.exploring.priors import Prior
from xpsr_cli.exploring.published import MODEL_INDEX
from xpsr_cli.integrity import read_json
from xpsr_cli.models.folders import CONFIG
from xpsr_cli.models.pixel_cascade import KIND as CASCADE
from xpsr_cli.weights import MODEL_CARD, WeightsEntry, hub_folder, installed_folder, load_registry

_SUPPORTED = "Supported are DeepFloyd IF, unCLIP (Karlo), Stable Diffusion 1.x and 2.x, and xpsr's own pixel cascade."


@dataclass(frozen=True)
class _Found:
    """A folder, and the class of the pipeline (or network) that it says it holds."""

    folder: Path
    kind: str


def load_prior(name: str, placement: Placement) -> Prior:
    """The image model of that name with its networks at ``placement``.

    Raises:
        WeightsError: it is not there, not whole, or of a kind that is not supported.
        MissingExtraError: its tokenizer needs a package that is not installed.
        OutOfMemoryError: the networks are too large for the device.
    """
    names = [part.strip() for part in name.split(",") if part.strip()]
    if not names:
        raise UsageError("prior is empty.", "Give the name of a model, a folder or a hub id.")
    found = [_Found(folder, _kind(folder)) for part in names for folder in _folders(part)]
    main, others = found[0], found[1:]
    with memory_errors(f"loading {name}", "Choose a smaller model, --precision bf16, or --device cpu."):
        if main.kind == CASCADE:
            from xpsr_cli.exploring.cascade import load_cascade

            _none_beside(main, others)
            return load_cascade(main.folder, placement)
        return _published(name, main, others, placement)


def _published(name: str, main: _Found, others: list[_Found], placement: Placement) -> Prior:
    """A published prior; each backend is imported when it is needed, which takes a second."""
    from xpsr_cli.exploring import deepfloyd, stable_diffusion, unclip

    if main.kind in deepfloyd.FIRST_PIPELINES:
        second = _beside(main, others, deepfloyd.SECOND_PIPELINES)
        return deepfloyd.DeepFloydPrior(name, main.folder, second, placement)
    if main.kind in unclip.PIPELINES:
        return unclip.UnclipPrior(name, main.folder, _beside(main, others, unclip.VARIATION_PIPELINES), placement)
    if main.kind in stable_diffusion.PIPELINES:
        tiny = _beside(main, others, ("AutoencoderTiny",))
        return stable_diffusion.StableDiffusionPrior(name, main.folder, placement, tiny)
    if main.kind in deepfloyd.SECOND_PIPELINES:
        raise WeightsError(
            f"{main.folder} is stage II of DeepFloyd IF, which needs stage I before it.",
            "Give both: --prior STAGE_I,STAGE_II.",
        )
    raise WeightsError(f"{main.folder} holds {main.kind}, which is no prior xpsr can explore with.", _SUPPORTED)


def _beside(main: _Found, others: list[_Found], kinds: tuple[str, ...]) -> Path | None:
    """The second folder of a model, if one is given: of one of the ``kinds``."""
    if not others:
        return None
    if others[0].kind not in kinds:
        raise WeightsError(
            f"{others[0].folder} holds {others[0].kind}; beside {main.kind} only {kinds[0]} makes sense.", _SUPPORTED
        )
    _none_beside(main, others[1:])
    return others[0].folder


def _none_beside(main: _Found, others: list[_Found]) -> None:
    if others:
        raise UsageError(f"{others[0].folder} is one folder too many for {main.kind}.", "Leave it out of --prior.")


def _kind(folder: Path) -> str:
    """What a folder says it holds; :class:`WeightsError` where it says nothing."""
    if (folder / MODEL_INDEX).is_file():
        return str(read_json(folder / MODEL_INDEX).get("_class_name"))
    if (folder / MODEL_CARD).is_file():
        return str(read_json(folder / MODEL_CARD).get("kind", "an xpsr upscaler"))
    if (folder / CONFIG).is_file():
        config = read_json(folder / CONFIG)
        return str(config.get("_class_name") or config.get("model_type") or "a network of no known class")
    raise WeightsError(f"{folder} is not a model: it has neither {MODEL_INDEX} nor {MODEL_CARD}.", _SUPPORTED)


def _folders(name: str) -> list[Path]:
    """The folder of one name and those it needs, all on this machine; else :class:`WeightsError`."""
    registry = load_registry()
    if name in registry:
        return [_installed(registry[part]) for part in (name, *registry[name].needs)]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return [folder]
    cached = hub_folder(name)
    if cached is not None:
        return [cached]
    known = next((entry for entry in registry.values() if name in entry.hub_ids), None)
    if known is not None:
        return [_installed(known)]
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        raise WeightsError(
            f"{name!r} is neither a folder nor a model in the Hugging Face cache.",
            f"If it is a hub id, run: hf download {name}",
        )
    raise WeightsError(f"There is no prior named {name!r}.", "Give a folder in diffusers layout, or a hub id.")


def _installed(entry: WeightsEntry) -> Path:
    folder = installed_folder(entry)
    if folder is None or not folder.is_dir():
        raise WeightsError(f"The model {entry.name} is not installed.", entry.how_to_get)
    return folder
