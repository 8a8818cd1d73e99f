"""Which devices a run takes, and how it is asked to stop."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch
from tiny_training import tiny_recipe

from xpsr_cli.errors import UsageError
from xpsr_cli.training.processes import StopRequest, make_accelerator


def test_a_process_may_train_with_one_precision_after_another() -> None:
    for precision, accumulation in (("no", 1), ("bf16", 3), ("no", 2)):
        changes = [f"optimizer.mixed_precision={precision}", f"optimizer.accumulation={accumulation}"]
        accelerator = make_accelerator(tiny_recipe("sd", *changes), "cpu")
        assert accelerator.device == torch.device("cpu")
        assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps) == (precision, accumulation)


def test_what_a_machine_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="optimizer.mixed_precision is 'fp16', which does not work on a CPU"):
        make_accelerator(tiny_recipe("sd", "optimizer.mixed_precision=fp16"), "cpu")
    with pytest.raises(UsageError, match="nothing"):
        make_accelerator(tiny_recipe("sd"), "nothing")


def test_a_deadline_and_a_clock_ask_to_stop_and_to_save() -> None:
    accelerator, now = make_accelerator(tiny_recipe("sd"), "cpu"), time.monotonic()
    assert StopRequest().agreed(accelerator) == (False, False)
    assert StopRequest(deadline=now).agreed(accelerator) == (True, False)
    assert StopRequest(save_seconds=0).agreed(accelerator) == (False, True)
    request = StopRequest(save_seconds=1000)
    request.saved()
    assert request.agreed(accelerator) == (False, False)


def test_a_signal_asks_to_stop_while_it_is_listened_to() -> None:
    request, before = StopRequest(), signal.getsignal(signal.SIGTERM)
    with request.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.agreed(make_accelerator(tiny_recipe("sd"), "cpu")) == (True, False)
    assert request.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_listens() -> None:
    failures = []

    def work() -> None:
        try:
            with StopRequest().listening():
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
