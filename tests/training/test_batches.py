"""Which samples a step sees follows from numbers alone."""

from __future__ import annotations

import torch
from tiny_training import TEXTS, Squares, tiny_tokenizer

from xpsr_cli.training.batches import Share, load_batches, to_device, useful_workers


def numbers(share: Share, first: int, last: int) -> list[list[int]]:
    return [list(batch) for batch in share.samples(first, last)]


def test_processes_and_accumulation_share_the_samples_of_one_process() -> None:
    alone = numbers(Share(batch_size=12), 0, 3)
    shares = [numbers(Share(batch_size=2, accumulation=3, processes=2, process=p), 0, 3) for p in range(2)]
    for step, samples in enumerate(alone):
        batches = [batch for share in shares for batch in share[3 * step : 3 * step + 3]]
        assert sorted(number for batch in batches for number in batch) == samples


def test_samples_are_in_the_order_of_step_batch_process_place() -> None:
    share = Share(batch_size=4, accumulation=3, processes=5, process=2)
    step, batch, place = 7, 1, 3
    expected = ((step * 3 + batch) * 5 + 2) * 4 + place
    assert numbers(share, step, step + 1)[batch][place] == expected


def test_a_run_that_goes_on_sees_what_it_would_have_seen() -> None:
    share = Share(batch_size=2, accumulation=2, processes=2, process=1)
    assert numbers(share, 0, 9)[2 * 4 :] == numbers(share, 4, 9)


def test_workers_deliver_the_samples_asked_for() -> None:
    share = Share(batch_size=2)
    pairs = Squares(16)
    batches = list(load_batches(pairs, share.samples(1, 3), workers=1))
    for number, batch in zip((2, 4), batches, strict=True):
        assert torch.equal(batch["target_pm1"][1], pairs[number + 1]["target_pm1"])
    moved = to_device(batches[0], tiny_tokenizer(), torch.device("cpu"))
    assert moved["high"].shape == moved["low"].shape == (2, 77)
    assert moved["target_pm1"].is_contiguous(memory_format=torch.channels_last)
    assert batches[0]["low"] == [TEXTS[3]] * 2


def test_a_processor_that_trains_is_left_in_peace() -> None:
    assert useful_workers(torch.device("cpu"), 1) == 1
    assert 1 <= useful_workers(torch.device("cuda"), 1) <= 16
    assert useful_workers(torch.device("cuda"), 10_000) == 1
