"""Published image models in diffusers layout: their folders to networks, strictly and from this machine only.

Weights are read from safetensors alone (a pickle can run code), in the half-precision variant where no other is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from xpsr_cli.device import Placement, is_out_of_memory
from xpsr_cli.errors import WeightsError
from xpsr_cli.exploring.text_score import JUDGE, TextScorer, published_scorer
from xpsr_cli.integrity import hash_file, read_json
from xpsr_cli.models.folders import CONFIG, check_shapes

SCHEDULER = "scheduler_config.json"
MODEL_INDEX = "model_index.json"
_FIELDS_OF_LEARNED_VARIANCE = ("variance_type",)
"""Of no use without the network's own variance, and misread by schedulers that have a field of that name."""


class PublishedPrior:
    """What all published priors have: a name, an identity, and no vocabulary of their own.

    ``files`` are the weights it was read from.
    """

    def __init__(self, name: str, placement: Placement, files: Sequence[Path]) -> None:
        self.name = name
        self.placement = placement
        self.files = tuple(files)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Name, SHA-256 over the weights (seconds per gigabyte, once), device and precision."""
        hashes = "".join(hash_file(path) for path in self.files)
        return {
            "model": self.name,
            "weights": hashlib.sha256(hashes.encode()).hexdigest(),
            "device": self.placement.device.type,
            "precision": str(self.placement.dtype).removeprefix("torch."),
        }

    @property
    def vocabulary(self) -> Sequence[str]:
        """Empty: any text means something to a model that read the web."""
        return ()

    @cached_property
    def scorers(self) -> Mapping[str, TextScorer]:
        """A judge, if a published CLIP is on this machine."""
        judge = published_scorer(self.placement.device)
        return {} if judge is None else {JUDGE: judge}


def need_parts(folder: Path, parts: Iterable[str], what: str) -> None:
    """:class:`WeightsError` naming the first part (a folder in ``folder``) that a model of the kind ``what`` lacks."""
    for part in parts:
        if not (folder / part).is_dir():
            raise WeightsError(
                f"{folder} has no {part}/ folder, which {what} needs.", "Fetch the model again, with all its parts."
            )


def weights_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a network's folder that are read: one, or its shards.

    Raises :class:`WeightsError` for a folder without any, and for one with a pickle only.
    """
    stems = ("diffusion_pytorch_model", "model")
    for name in (f"{stem}{variant}" for variant in ("", ".fp16") for stem in stems):
        if (folder / f"{name}.safetensors").is_file():
            return (folder / f"{name}.safetensors",)
        shards = tuple(sorted(folder.glob(f"{name}-*-of-*.safetensors")))
        if shards:
            return shards
    pickles = sorted(folder.glob("*.bin"))
    if pickles:
        raise WeightsError(
            f"{pickles[0]} is a pickle, which can run code when it is read.",
            "Fetch the safetensors files of the model instead.",
        )
    raise WeightsError(f"{folder} has no safetensors file.", "Fetch the model again, with all its parts.")


def load_network(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers or transformers network in ``dtype``, in memory, in eval mode and without gradients.

    Raises :class:`WeightsError` for a folder of another class, and for keys or shapes that do not fit.
    """
    named = read_json(folder / CONFIG).get("_class_name", cls.__name__)
    if issubclass(cls, ModelMixin) and named != cls.__name__:
        raise WeightsError(f"{folder / CONFIG} names {named!r} instead of {cls.__name__}.", "Check the model folder.")
    half = weights_files(folder)[0].name.split("-")[0].removesuffix(".safetensors").endswith(".fp16")
    options: dict[str, Any] = {"variant": "fp16"} if half else {}
    options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        with _silence():
            network, info = cls.from_pretrained(folder, torch_dtype=dtype, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise WeightsError(
            f"{folder} cannot be loaded as {cls.__name__}: {str(error).strip().splitlines()[0]}",
            "Fetch the model again.",
        ) from error
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    check_shapes(dict.fromkeys(missing, ()), dict.fromkeys(unexpected, ()), folder)
    return network.eval().requires_grad_(False)


def scheduler_fields(folder: Path) -> dict[str, Any]:
    """The fields of a ``scheduler_config.json`` that any scheduler may be made of."""
    fields = read_json(folder / SCHEDULER)
    return {
        key: value
        for key, value in fields.items()
        if not key.startswith("_") and key not in _FIELDS_OF_LEARNED_VARIANCE
    }


@contextmanager
def _silence() -> Iterator[None]:
    """Keep both libraries from drawing and warning on stderr, which belongs to the caller."""
    shown = transformers_logging.is_progress_bar_enabled()
    levels = transformers_logging.get_verbosity(), diffusers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
        diffusers_logging.enable_progress_bar()
        transformers_logging.set_verbosity(levels[0])
        diffusers_logging.set_verbosity(levels[1])
