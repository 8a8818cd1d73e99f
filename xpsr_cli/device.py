"""Where the networks run and in which floating-point type; what happens when the memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from xpsr_cli.errors import OutOfMemoryError, UsageError
from xpsr_cli.settings import Precision

Module = TypeVar("Module", bound=nn.Module)

MOST_AT_A_TIME = 8
"""Windows at a time when the memory decides; more are hardly faster."""
_OUT_OF_MEMORY_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


@dataclass(frozen=True)
class Placement:
    """A device, and the type and layout networks have on it. The latent canvas itself stays in memory, float32."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool = True  # faster convolutions on most devices

    def put(self, values: Tensor) -> Tensor:
        """``values`` on the device in the networks' type and layout."""
        return values.to(self.device, self.dtype).contiguous(memory_format=self._layout(values.ndim))

    def fetch(self, values: Tensor) -> Tensor:
        """``values`` back in memory, contiguous, in float32."""
        return values.to("cpu", torch.float32).contiguous()

    def place(self, module: Module) -> Module:
        """The module on the device in its type and layout, in eval mode and without gradients."""
        move = nn.Module.to  # not diffusers' own, which warns at every cast
        move(module, self.device, self.dtype, memory_format=self._layout(4))  # type: ignore[call-overload]
        return module.eval().requires_grad_(False)

    def _layout(self, dimensions: int) -> torch.memory_format:
        return torch.channels_last if dimensions == 4 and self.channels_last else torch.contiguous_format


def choose_placement(device: str = "auto", precision: Precision = Precision.AUTO) -> Placement:
    """The placement for ``--device`` and ``--precision``.

    ``auto`` takes CUDA, then Apple's GPU, then the CPU, and bfloat16 where the device computes in it. On a CPU float16
    is refused: it is hundreds of times slower there.

    Raises:
        UsageError: a device that this machine does not have, or a precision the device should not be used with.
    """
    chosen = _choose_device(device)
    return Placement(chosen, _choose_dtype(chosen, precision), channels_last=chosen.type != "mps")


def _choose_device(name: str) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    usable = [kind for kind, there in available.items() if there]
    if name == "auto":
        return torch.device(usable[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device is {name!r}, which is not a device.", f"Here: auto, {', '.join(usable)}.") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in usable or (device.index or 0) >= count:
        raise UsageError(f"device {name} is not there.", f"Here: auto, {', '.join(usable)}.")
    return device


def _choose_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    if precision is Precision.FP16 and device.type == "cpu":
        raise UsageError("precision fp16 does not work on a CPU.", "Use fp32, or bf16 if the CPU has it.")
    if precision is Precision.AUTO:
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    return {
        Precision.FP32: torch.float32,
        Precision.BF16: torch.bfloat16,
        Precision.FP16: torch.float16,
    }[precision]


def _has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself, rather than pretending to."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Fitting:
    """How many evaluations the memory of a device holds at a time, learned from the first.

    One on a CPU, whose cores already share the work of one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before = 0

    def begin(self) -> None:
        """The first evaluation begins."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)

    def count(self) -> int:
        """The first evaluation is over: how many would have fit."""
        if self.device.type != "cuda":
            return 1
        taken = max(torch.cuda.max_memory_allocated(self.device) - self._before, 1)
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + unused
        return max(1, min(int(0.8 * free / taken), MOST_AT_A_TIME))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether any device's memory did not suffice, as its error's type or words tell."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(s in text for s in _OUT_OF_MEMORY_SIGNS)


@contextmanager
def memory_errors(doing: str, hint: str) -> Iterator[None]:
    """Turn any device's "out of memory" inside the block into :class:`OutOfMemoryError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"The memory does not suffice for {doing}.", hint) from error
        raise
