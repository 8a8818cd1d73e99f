"""Bands of windows: taken up in the middle, fewer at a time when the memory is short, in float32 after an overflow."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from tiny_networks import TEXT_WIDTH, TINY_CONTROLNET, TINY_UNET, randomise

from xpsr_cli.device import Fitting, choose_placement
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.sampling.denoiser import XpsrDenoiser
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import Window, window_grid
from xpsr_cli.settings import Precision

HEIGHT, WIDTH = 45, 40
WINDOWS = window_grid(HEIGHT, WIDTH, 16, 8)  # the last row of windows overlaps two others
CANVAS = torch.randn(1, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def latents(window):
    return window.crop(CANVAS)


def predict(latents, timestep, window):
    """A prediction that differs from window to window."""
    return latents * (1 + window.x / 7 + window.y / 5) + timestep


def test_bands_cover_the_canvas_once():
    places = [band.place for band in Tiled(predict, WINDOWS)(latents, 3)]
    assert places[0].y == 0
    assert all(a.y + a.h == b.y for a, b in zip(places, places[1:], strict=False))
    assert places[-1].y + places[-1].h == HEIGHT
    assert {(place.x, place.w) for place in places} == {(0, WIDTH)}


@pytest.mark.parametrize("first", range(1, len({window.y for window in WINDOWS})))
def test_it_goes_on_from_any_band(first):
    bands = list(Tiled(predict, WINDOWS)(latents, 3))
    rest = list(Tiled(predict, WINDOWS)(latents, 3, first, bands[first - 1].unfinished))
    assert [band.number for band in rest] == [band.number for band in bands[first:]]
    for ours, wanted in zip(rest, bands[first:], strict=True):
        assert torch.equal(ours.prediction, wanted.prediction)


def test_too_many_windows_at_a_time_become_fewer(caplog):
    """A device that holds two at a time: the ninth part of the canvas is the same, and it is said."""
    inside, lock = 0, threading.Lock()
    arrived = threading.Event()

    def scarce(values, timestep, window):
        nonlocal inside
        with lock:
            inside += 1
            crowded = inside > 2
        try:
            if crowded:
                arrived.set()
                raise torch.OutOfMemoryError("CUDA out of memory.")
            arrived.wait(0.02)  # long enough for the others to come in
            return predict(values, timestep, window)
        finally:
            with lock:
                inside -= 1

    tiled = Tiled(scarce, WINDOWS, at_a_time=4)
    bands = list(tiled(latents, 3))
    assert tiled.at_a_time <= 2
    assert "2 window(s) at a time" in caplog.text
    for ours, wanted in zip(bands, Tiled(predict, WINDOWS)(latents, 3), strict=True):
        assert torch.equal(ours.prediction, wanted.prediction)


def test_one_window_that_does_not_fit_is_an_error():
    def hopeless(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        list(Tiled(hopeless, WINDOWS, at_a_time=4)(latents, 3))


def test_other_errors_are_not_tried_again():
    calls = []

    def broken(values, timestep, window):
        calls.append(window)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        list(Tiled(broken, WINDOWS)(latents, 3))
    assert len(calls) == 1


def test_on_a_cpu_one_window_at_a_time_fits():
    tiled = Tiled(predict, WINDOWS, at_a_time=Fitting(torch.device("cpu")))
    bands = list(tiled(latents, 3))
    assert tiled.at_a_time == 1
    for ours, wanted in zip(bands, Tiled(predict, WINDOWS)(latents, 3), strict=True):
        assert torch.equal(ours.prediction, wanted.prediction)


def test_progress_advances_by_window():
    class Counter:
        count = 0

        def stage(self, name, total):
            raise AssertionError("the caller announces the stage")

        def advance(self, count=1):
            self.count += count

    counter = Counter()
    list(Tiled(predict, WINDOWS, at_a_time=2, progress=counter)(latents, 3))
    assert counter.count == len(WINDOWS)


def test_a_window_that_overflows_is_computed_again_in_float32(caplog):
    torch.manual_seed(0)
    placement = replace(choose_placement("cpu", Precision.FP32), dtype=torch.bfloat16)
    unet, controlnet = randomise(XpsrUNet(**TINY_UNET)), randomise(XpsrControlNet(**TINY_CONTROLNET))
    networks = placement.place(unet), placement.place(controlnet)
    texts = PromptPair(torch.randn(1, 5, TEXT_WIDTH), torch.randn(1, 6, TEXT_WIDTH))
    image, window = torch.rand(1, 3, 64, 64), Window(0, 0, 8, 8)

    def overflow(module, _, output):
        return output * torch.inf if output.dtype is torch.bfloat16 else output

    scene = (lambda _: texts), (lambda window: window.crop(image)), placement
    plain = XpsrDenoiser(*networks, *scene)
    values = torch.randn(1, 4, 8, 8)
    wanted = plain(values, 500, window)
    handle = networks[0].conv_out.register_forward_hook(overflow)
    result = XpsrDenoiser(*networks, *scene)(values, 500, window)
    handle.remove()
    assert result.isfinite().all()
    assert "float32" in caplog.text
    assert (result - wanted).abs().max() < 0.1 * wanted.abs().max()
    assert networks[0].dtype is torch.bfloat16
