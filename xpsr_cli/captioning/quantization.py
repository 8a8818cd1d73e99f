"""Weights of a multimodal model in 8 or 4 bits, with bitsandbytes: what it can do here, and what to do otherwise."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from xpsr_cli.device import is_out_of_memory
from xpsr_cli.errors import MissingExtraError, UsageError
from xpsr_cli.settings import Quantization

INSTALL = "Run: pip install 'xpsr[quant]'"
BLOCK = 64
"""Weights that share a scale in 4 bits; some processors compute only with rows of whole blocks ..."""
ROWS = 32
"""... and with so many rows at a time."""
_SHARE_OF_16_BITS = {Quantization.NONE: 1.0, Quantization.EIGHT_BIT: 0.55, Quantization.FOUR_BIT: 0.35}


def check_quantization(quantize: Quantization, device: torch.device, dtype: torch.dtype) -> None:
    """Run one small quantised layer on the device, so that what cannot be done is known before a model is loaded.

    Raises:
        MissingExtraError: bitsandbytes is not installed, or not whole.
        UsageError: it is, and does not do this on this device.
    """
    if quantize is Quantization.NONE:
        return
    bitsandbytes = _import(quantize)
    try:
        with quiet_bitsandbytes(), torch.inference_mode():
            error = _error_of_a_layer(bitsandbytes, quantize, device, dtype)
    except Exception as failure:  # a kernel that is missing raises anything
        if is_out_of_memory(failure):
            raise
        reason = next(iter(str(failure).splitlines()), type(failure).__name__).rstrip(".")
        raise UsageError(*_not_here(quantize, device, reason)) from failure
    if not error < 0.5:  # NaN, too
        raise UsageError(*_not_here(quantize, device, f"its results are off by {error:.0%}"))


def quantization_config(quantize: Quantization, dtype: torch.dtype, kept: list[str]) -> Any:
    """What ``from_pretrained`` takes: 4 bits are NF4 with quantised scales; the modules ``kept`` stay as they are."""
    from transformers import BitsAndBytesConfig

    if quantize is Quantization.NONE:
        return None
    if quantize is Quantization.EIGHT_BIT:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def kept_modules(network: nn.Module) -> list[str]:
    """Names of the layers that are not quantised.

    These are all but the ones of the language model, which has nearly all of the weights: what the eyes see decides
    over everything else. And those of sizes that not every processor takes, and the last one, which chooses the words.
    """
    decoder = network.get_decoder()  # type: ignore[operator]
    inside = next((f"{name}." for name, module in network.named_modules() if module is decoder and name), "")
    last = network.get_output_embeddings()  # type: ignore[operator]
    return [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        and (not name.startswith(inside) or layer is last or layer.in_features % BLOCK or layer.out_features % ROWS)
    ]


def memory_share(quantize: Quantization) -> float:
    """Bytes a model takes, in those of its weights in 16 bits."""
    return _SHARE_OF_16_BITS[quantize]


@contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """Keep back the lines bitsandbytes logs: on a CPU one for every layer and word, in 8 bits."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _import(quantize: Quantization) -> Any:
    try:
        with quiet_bitsandbytes():
            return importlib.import_module("bitsandbytes")
    except ModuleNotFoundError as error:
        if error.name == "bitsandbytes":
            message = f"quantize {quantize.value} needs bitsandbytes, which is not installed."
            raise MissingExtraError(message, INSTALL) from None
        raise MissingExtraError(f"bitsandbytes cannot be imported: {error}.", INSTALL) from error
    except Exception as error:  # binaries that do not fit raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise MissingExtraError(f"bitsandbytes cannot be imported: {reason}.", INSTALL) from error


def _error_of_a_layer(bitsandbytes: Any, quantize: Quantization, device: torch.device, dtype: torch.dtype) -> float:
    """By how much a quantised layer's result is off on the device, in sizes of the result."""
    generator = torch.Generator().manual_seed(0)
    plain = nn.Linear(2 * BLOCK, 2 * ROWS, bias=False)
    plain.weight.copy_(torch.randn(plain.weight.shape, generator=generator))
    values = torch.randn(3, 2 * BLOCK, generator=generator)
    sizes = plain.in_features, plain.out_features
    layer: nn.Module
    if quantize is Quantization.EIGHT_BIT:
        layer = bitsandbytes.nn.Linear8bitLt(*sizes, bias=False, has_fp16_weights=False)
    else:
        layer = bitsandbytes.nn.Linear4bit(
            *sizes, bias=False, compute_dtype=dtype, compress_statistics=True, quant_type="nf4"
        )
    layer.load_state_dict(plain.state_dict())
    layer = layer.eval().requires_grad_(False).to(device)
    expected = plain(values)
    made = layer(values.to(device, dtype)).float().cpu()
    return float((made - expected).norm() / expected.norm())


def _not_here(quantize: Quantization, device: torch.device, reason: str) -> tuple[str, str]:
    other = Quantization.FOUR_BIT if quantize is Quantization.EIGHT_BIT else Quantization.EIGHT_BIT
    return (
        f"quantize {quantize.value} does not work on {device}: {reason}.",
        f"Use --quantize {other.value} or none, or another --device.",
    )
