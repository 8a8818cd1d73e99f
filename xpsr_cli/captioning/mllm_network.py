"""A multimodal model's network from its folder: strictly, without running code of the folder, onto the device."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils import logging as transformers_logging

from xpsr_cli.captioning.mllm_files import MAX_NEW_TOKENS, MllmFiles, read_config, weights_files
from xpsr_cli.captioning.quantization import kept_modules, memory_share, quantization_config, quiet_bitsandbytes
from xpsr_cli.device import Placement, memory_errors
from xpsr_cli.errors import MissingExtraError, OutOfMemoryError, WeightsError
from xpsr_cli.settings import Quantization

LESS_MEMORY = "Use --quantize 4bit, a smaller --model, or --model measured, which needs no memory."
_FETCH = "Fetch it again, or take another one."


def load_config(files: MllmFiles) -> Any:
    """The model's config; :class:`WeightsError` if transformers does not know it as an image-text-to-text model."""
    try:
        config = AutoConfig.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if "auto_map" in read_config(files.folder):
            message = f"{files.name} brings code of its own, which xpsr does not run."
            raise WeightsError(message, "Take a model that transformers itself knows.") from error
        raise _unloadable(files, error) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise WeightsError(
            f"{files.folder} holds a model of the kind {config.model_type!r}, which does not answer on images.",
            "Give a model whose page on the hub says image-text-to-text.",
        )
    return config


def load_network(files: MllmFiles, config: Any, placement: Placement, quantize: Quantization) -> Any:
    """The network on the device in its type, in eval mode, its language model quantised.

    Raises:
        WeightsError: weights that are damaged, missing or no safetensors.
        MissingExtraError: the weights are stored in a format that takes a package which is not installed.
        OutOfMemoryError: it does not fit into the memory.
    """
    _check_memory(files, config, placement, quantize)
    try:
        kept = _kept(config) if quantize is not Quantization.NONE else []
        with memory_errors(f"loading {files.name}", LESS_MEMORY), quiet_bitsandbytes():
            network, info = AutoModelForImageTextToText.from_pretrained(
                files.folder,
                config=config,
                dtype=placement.dtype,
                quantization_config=quantization_config(quantize, placement.dtype, kept),
                device_map={"": str(placement.device)},
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except ImportError as error:
        message = f"{files.name} takes a package that is not installed: {_reason(error)}."
        raise MissingExtraError(message, "Install it, or take another model.") from error
    except Exception as error:  # transformers and safetensors raise anything on damaged files
        if isinstance(error, OutOfMemoryError):
            raise
        raise _unloadable(files, error) from error
    _check_whole(files, info)
    return network.eval().requires_grad_(False)


def greedy(stored: GenerationConfig, tokenizer: Any) -> GenerationConfig:
    """The likeliest word each time, whatever the model's own settings say of sampling."""
    ends = stored.eos_token_id if stored.eos_token_id is not None else tokenizer.eos_token_id
    padding = stored.pad_token_id if stored.pad_token_id is not None else tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=[ends] if isinstance(ends, int) else list(ends or ()),
        pad_token_id=padding,
        bos_token_id=stored.bos_token_id,
        decoder_start_token_id=stored.decoder_start_token_id,
    )


def free(device: torch.device) -> None:
    """Give back the device's memory of what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing and warning on stderr, which belongs to the caller."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()


def _kept(config: Any) -> list[str]:
    with torch.device("meta"):
        return kept_modules(AutoModelForImageTextToText.from_config(config))


def _check_memory(files: MllmFiles, config: Any, placement: Placement, quantize: Quantization) -> None:
    """Refuse a model that the main memory cannot hold, which the system would answer by ending the program."""
    if placement.device.type != "cpu":
        return
    size = sum(file.stat().st_size for file in weights_files(files.folder))
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float16
    wanted = placement.dtype.itemsize if quantize is Quantization.NONE else 2 * memory_share(quantize)
    needed, there = size * wanted / stored.itemsize, psutil.virtual_memory().available
    if needed > there:
        raise OutOfMemoryError(
            f"{files.name} needs about {needed / 1e9:.1f} GB of memory, and {there / 1e9:.1f} GB are free.",
            LESS_MEMORY,
        )


def _check_whole(files: MllmFiles, info: dict[str, Any]) -> None:
    for problem in ("missing_keys", "mismatched_keys"):
        if keys := sorted(str(key) for key in info[problem]):
            raise WeightsError(
                f"{len(keys)} weights in {files.folder} are missing or do not fit its config.json, {keys[0]} for one.",
                "Fetch the whole model.",
            )


def _unloadable(files: MllmFiles, error: BaseException) -> WeightsError:
    return WeightsError(f"The model in {files.folder} cannot be loaded: {_reason(error)}.", _FETCH)


def _reason(error: BaseException) -> str:
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line.partition(". ")[0].rstrip(".")
