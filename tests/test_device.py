"""Where networks run, in which type, and what a lack of memory turns into."""

from __future__ import annotations

import pytest
import torch

from xpsr_cli.device import Placement, choose_placement, memory_errors
from xpsr_cli.errors import OutOfMemoryError, PhotoError, UsageError
from xpsr_cli.settings import Precision


def test_a_cpu_computes_in_bf16_only_where_it_has_it(monkeypatch):
    for has_it, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("xpsr_cli.device._has_bf16", lambda device, has_it=has_it: has_it)
        assert choose_placement("cpu") == Placement(torch.device("cpu"), dtype)


@pytest.mark.parametrize(("precision", "dtype"), [(Precision.FP32, torch.float32), (Precision.BF16, torch.bfloat16)])
def test_a_named_precision_is_taken(precision, dtype):
    assert choose_placement("cpu", precision).dtype is dtype


def test_fp16_is_refused_on_a_cpu():
    with pytest.raises(UsageError, match="fp16") as caught:
        choose_placement("cpu", Precision.FP16)
    assert "fp32" in caught.value.hint


@pytest.mark.parametrize("name", ["cuda", "mps", "cuda:3"])
def test_devices_that_are_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=name) as caught:
        choose_placement(name)
    assert "cpu" in caught.value.hint


def test_words_that_are_no_device():
    with pytest.raises(UsageError, match="'gpu'"):
        choose_placement("gpu")


def test_modules_and_values_move_together():
    placement = Placement(torch.device("cpu"), torch.bfloat16)
    conv = placement.place(torch.nn.Conv2d(4, 4, 3))
    assert conv.weight.dtype is torch.bfloat16
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not conv.training
    assert not conv.weight.requires_grad
    values = placement.put(torch.randn(1, 4, 6, 6))
    assert values.is_contiguous(memory_format=torch.channels_last)
    fetched = placement.fetch(conv(values))
    assert fetched.dtype is torch.float32
    assert fetched.is_contiguous()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_every_lack_of_memory_is_one_error(error):
    with pytest.raises(OutOfMemoryError, match="photo.png") as caught, memory_errors("photo.png", "Do less."):
        raise error
    assert caught.value.hint == "Do less."


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), PhotoError("damaged"), ValueError("no")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, memory_errors("photo.png", ""):
        raise error
    assert caught.value is error


def test_a_real_allocation_that_cannot_work():
    with pytest.raises(OutOfMemoryError), memory_errors("everything", ""):
        torch.empty(2**50, dtype=torch.uint8)
