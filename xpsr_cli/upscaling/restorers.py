"""Restorers of others, from their files: Real-ESRGAN, SwinIR, BSRGAN, HAT, SCUNet and whatever else spandrel loads."""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from xpsr_cli.device import Placement, is_out_of_memory, memory_errors
from xpsr_cli.errors import MissingExtraError, WeightsError
from xpsr_cli.integrity import hash_file
from xpsr_cli.upscaling.resample import next_multiple
from xpsr_cli.upscaling.restoration import LATTICE_PX, OVERLAP_PX, WINDOW_PX, Restorer

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
WIDE_OVERLAP_PX = 128
"""What windows share where spandrel discourages tiling: such networks see farther."""
_FETCH_AGAIN = "Fetch it again, as .safetensors if there is one."

_log = logging.getLogger(__name__)


def load_restorer(file: Path, placement: Placement, *, window_px: int = WINDOW_PX) -> Restorer:
    """The restorer in a file of weights, told by its content.

    Safetensors are preferable. Others are pickles, which may hold programs: those are read with torch's restricted
    unpickler, which makes tensors and plain containers and nothing else. (spandrel's own loader has such an unpickler
    too, but runs TorchScript archives, whatever their suffix.)

    Networks that do not bear the placement's type run in float32.

    Raises:
        MissingExtraError: spandrel is not installed, or cannot be imported.
        WeightsError: the file is not there, holds no weights, those of an unknown architecture or of one that is no
            restorer of whole photos.
        OutOfMemoryError: the device's memory does not suffice for the network.
    """
    if not file.is_file():
        raise WeightsError(f"{file} is not there, or is no file.", "Give the file of a restorer's weights.")
    if file.suffix.lower() not in SUFFIXES:
        raise WeightsError(
            f"{file} is no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file.",
            "Give the file of a restorer's weights.",
        )
    spandrel = _import_spandrel()
    with memory_errors(f"loading {file}", "Use --device cpu, or a smaller restorer."):
        descriptor = _read(file, spandrel)
        _check(file, descriptor, spandrel)
        identity = {
            "name": "spandrel",
            "weights": hash_file(file),
            "architecture": str(descriptor.architecture.id),
            "scale": descriptor.scale,
            "spandrel": spandrel.__version__,
        }
        discouraged = descriptor.tiling is not spandrel.ModelTiling.SUPPORTED
        return Restorer(
            _Described(descriptor),
            descriptor.scale,
            replace(placement, dtype=_dtype(file, descriptor, placement.dtype)),
            channels=descriptor.input_channels,
            identity=identity,
            window_px=window_px,
            overlap_px=WIDE_OVERLAP_PX if discouraged else OVERLAP_PX,
            lattice_px=next_multiple(LATTICE_PX, descriptor.size_requirements.multiple_of),
        )


class _Described(nn.Module):
    """A network as spandrel describes it, which pads what is too small for it and clamps what it makes."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network: nn.Module = descriptor.model
        self._descriptor = descriptor
        self.network.register_forward_hook(_show_overflow)

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self._descriptor(image)
        return made


def _show_overflow(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Infinity, which a clamp would make white, as what stays no number."""
    return output.masked_fill(output.isinf(), torch.nan) if isinstance(output, Tensor) else output


def _import_spandrel() -> Any:
    try:
        return importlib.import_module("spandrel")
    except Exception as error:  # a torchvision that does not fit torch raises anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == "spandrel"
        reason = "is not installed" if missing else f"cannot be imported ({_first_line(error)})"
        raise MissingExtraError(
            f"Restorers need spandrel, which {reason}.", "Run: pip install 'xpsr[activators]'"
        ) from error


def _read(file: Path, spandrel: Any) -> Any:
    """What spandrel makes of a file."""
    try:
        weights = spandrel.canonicalize_state_dict(_weights(file))
        return spandrel.ModelLoader().load_from_state_dict(weights)
    except spandrel.UnsupportedModelError:
        raise WeightsError(
            f"{file} holds weights of no architecture that spandrel {spandrel.__version__} knows.",
            "Use those of a restorer such as Real-ESRGAN, SwinIR or HAT.",
        ) from None
    except UnpicklingError as error:
        reason = "it is damaged, or holds more than weights"
        raise WeightsError(f"{file} is not read: {reason}.", _FETCH_AGAIN) from error
    except Exception as error:  # files of other kinds, and networks that are built of odd shapes, raise anything
        if is_out_of_memory(error):
            raise
        raise WeightsError(
            f"{file} holds no weights that can be loaded: {_first_line(error)}.", _FETCH_AGAIN
        ) from error


def _weights(file: Path) -> Any:
    if file.suffix.lower() == ".safetensors":
        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _check(file: Path, descriptor: Any, spandrel: Any) -> None:
    """Refuse what is no restorer of whole photos."""
    name, channels = descriptor.architecture.name, (descriptor.input_channels, descriptor.output_channels)
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        reason = "fills what a mask hides"
    elif descriptor.purpose == "FaceSR":
        reason = "restores single faces"
    elif channels not in ((1, 1), (3, 3)):
        reason = f"makes {channels[1]} channels of {channels[0]}"
    else:
        return
    raise WeightsError(
        f"{file} holds {name}, which {reason}.", "Use a restorer of whole photos, in grey or red, green and blue."
    )


def _dtype(file: Path, descriptor: Any, wanted: torch.dtype) -> torch.dtype:
    """The type the network bears."""
    bears = {torch.float16: descriptor.supports_half, torch.bfloat16: descriptor.supports_bfloat16}
    if bears.get(wanted, True):
        return wanted
    _log.info("%s does not bear %s and runs in float32.", file.name, wanted)
    return torch.float32


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
