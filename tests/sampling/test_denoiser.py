"""XPSR on windows: what is computed how often, and that a canvas does not show where it was cut."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_networks import TEXT_WIDTH, TINY_CONTROLNET, TINY_UNET, randomise

from xpsr_cli.device import choose_placement
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.sampling import denoiser as module
from xpsr_cli.sampling.denoiser import Guided, TunedDenoiser, XpsrDenoiser
from xpsr_cli.sampling.prompts import guidance_rows
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import Window, window_grid
from xpsr_cli.settings import Precision

PLACEMENT = choose_placement("cpu", Precision.FP32)
HEIGHT, WIDTH = 20, 28
WINDOWS = window_grid(HEIGHT, WIDTH, 12, 4)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    unet, controlnet = XpsrUNet(**TINY_UNET), XpsrControlNet(**TINY_CONTROLNET)
    return PLACEMENT.place(randomise(unet)), PLACEMENT.place(randomise(controlnet))


@pytest.fixture
def scene():
    """Two prompt pairs (negative, positive), an image and latents of one canvas."""
    pairs = [PromptPair(torch.randn(1, 5, TEXT_WIDTH), torch.randn(1, 6, TEXT_WIDTH)) for _ in range(2)]
    image = torch.rand(1, 3, 8 * HEIGHT, 8 * WIDTH)
    return pairs, lambda window: window.crop(image), torch.randn(1, 4, HEIGHT, WIDTH)


def always(*pairs):
    """The same prompts for every window."""
    texts = pairs[0] if len(pairs) == 1 else guidance_rows(2.0, *pairs)
    return lambda _: texts


def canvas_of(denoiser, latents, timestep, **options):
    """The blended prediction for a whole canvas."""
    bands = list(Tiled(denoiser, WINDOWS, **options)(lambda window: window.crop(latents), timestep))
    assert [band.place.y for band in bands] == sorted({window.y for window in WINDOWS})
    return torch.cat([band.prediction for band in bands], dim=2)


class Calls:
    """Counts how often modules run, and with which batch sizes."""

    def __init__(self, *watched):
        self.batches = []
        self.handles = [m.register_forward_hook(lambda m, inputs, out: self.note(inputs)) for m in watched]

    def note(self, inputs):
        self.batches.append(inputs[0].shape[0] if isinstance(inputs[0], torch.Tensor) else len(inputs[0]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def test_guidance_rows_are_one_batch_and_equal_separate_calls(networks, scene):
    pairs, image, latents = scene
    window = WINDOWS[1]
    cut = window.crop(latents)
    with Calls(networks[0].conv_in, networks[1].conv_in) as calls:
        both = XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT)(cut, 501, window)
    assert calls.batches == [2, 2]
    for row, pair in enumerate(pairs):
        alone = XpsrDenoiser(*networks, always(pair), image, PLACEMENT)(cut, 501, window)
        torch.testing.assert_close(both[row : row + 1], alone, rtol=0, atol=1e-4 * float(alone.abs().max()))
    assert (both[0] - both[1]).abs().max() > 1e-2 * both.abs().max()


@pytest.mark.parametrize("scale", [4.5, 1.0, 0.5, 0.0])
def test_guidance(scale):
    rows = torch.randn(2, 4, 3, 3)
    negative, positive = rows.chunk(2)
    result = Guided(lambda *_: rows, scale)(torch.zeros(1, 4, 3, 3), 1, Window(0, 0, 3, 3))
    torch.testing.assert_close(result, negative + scale * (positive - negative))


def test_only_guidance_of_one_needs_no_negative_row(scene):
    negative, positive = scene[0]
    assert guidance_rows(1.0, negative, positive) is positive
    for scale in (0.0, 0.5, 1.5, 4.5):
        rows = guidance_rows(scale, negative, positive)
        for both, first, second in zip(rows, negative, positive, strict=True):
            assert torch.equal(both, torch.cat([first, second]))
    single = torch.randn(1, 4, 3, 3)
    assert Guided(lambda *_: single, 1.0)(single, 1, Window(0, 0, 3, 3)) is single


def test_nothing_constant_is_computed_twice(networks, scene):
    pairs, image, latents = scene
    unet, controlnet = networks
    denoiser = Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT), 4.5)
    with (
        Calls(controlnet.pyramid) as pyramid,
        Calls(*controlnet.pyramid.rgb_heads, controlnet.latent_heads) as heads,
        Calls(unet) as evaluated,
    ):
        for timestep in (951, 501, 1):
            canvas_of(denoiser, latents, timestep)
    assert pyramid.batches == [1] * len(WINDOWS)
    assert heads.batches == []
    assert evaluated.batches == [2] * (3 * len(WINDOWS))


def test_nothing_is_kept_of_windows_that_are_evaluated_once(networks, scene):
    pairs, image, latents = scene
    denoiser = Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT, once=True), 4.5)
    with Calls(networks[1].pyramid) as pyramid:
        for _ in range(2):
            canvas_of(denoiser, latents, 501)
    assert len(pyramid.batches) == 2 * len(WINDOWS)


def test_features_beyond_the_limit_are_made_again(networks, scene, monkeypatch):
    pairs, image, latents = scene
    kept = canvas_of(Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT), 4.5), latents, 501)
    monkeypatch.setattr(module, "FEATURE_BYTES", 0)
    forgetful = Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT), 4.5)
    with Calls(networks[1].pyramid) as pyramid:
        for _ in range(2):
            result = canvas_of(forgetful, latents, 501)
    assert len(pyramid.batches) == 2 * len(WINDOWS)
    assert torch.equal(result, kept)


@pytest.mark.parametrize("at_a_time", [2, 3, 4, 100])
def test_windows_at_a_time_change_nothing(networks, scene, at_a_time):
    pairs, image, latents = scene
    denoiser = Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT), 4.5)
    together = canvas_of(denoiser, latents, 501, at_a_time=at_a_time)
    assert torch.equal(together, canvas_of(denoiser, latents, 501))


def test_one_window_is_the_plain_prediction(networks, scene):
    pairs, image, latents = scene
    denoiser = Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT), 4.5)
    whole = Window(0, 0, HEIGHT, WIDTH)
    (band,) = Tiled(denoiser, [whole])(lambda window: latents, 501)
    assert torch.equal(band.prediction, denoiser(latents, 501, whole))
    assert band.unfinished.numel() == 0


def test_a_window_sees_its_own_part_of_the_photo_and_of_the_latents():
    """Predictions that are read off the place itself come back in place."""
    rows = torch.arange(HEIGHT).view(1, 1, -1, 1) + torch.arange(WIDTH) / 100
    canvas = rows.expand(1, 4, -1, -1)

    def read(latents, timestep, window):
        assert torch.equal(latents, window.crop(canvas))
        return latents + timestep

    torch.testing.assert_close(canvas_of(read, canvas, 7), canvas + 7)


def test_a_model_without_low_prompts(networks, scene):
    pairs, image, latents = scene
    pairs = [PromptPair(pair.high, None) for pair in pairs]
    result = canvas_of(Guided(XpsrDenoiser(*networks, always(*pairs), image, PLACEMENT), 2.0), latents, 501)
    assert result.shape == latents.shape


@pytest.fixture(scope="module")
def reading_networks():
    """The same with reference attention in windows, and without the overflow that random weights tend to."""
    torch.manual_seed(1)
    controlnet = XpsrControlNet(**TINY_CONTROLNET)
    options = {"reference_window": 4, "reference_channels": controlnet.reference_channels}
    unet = XpsrUNet(**TINY_UNET, reference_attention=(True, True, True), **options)
    return PLACEMENT.place(randomise(unet)), PLACEMENT.place(randomise(controlnet))


def test_features_of_the_reference_are_computed_once_per_window(reading_networks, scene):
    pairs, image, latents = scene
    unet, controlnet = reading_networks
    picture = torch.rand(1, 3, 8 * HEIGHT, 8 * WIDTH)
    options = {"reference": lambda window: window.crop(picture)}
    denoiser = Guided(XpsrDenoiser(unet, controlnet, always(*pairs), image, PLACEMENT, **options), 4.5)
    with Calls(controlnet.pyramid) as pyramid, Calls(unet) as evaluated:
        results = [canvas_of(denoiser, latents, timestep) for timestep in (951, 501, 1)]
    assert pyramid.batches == [1] * (2 * len(WINDOWS))
    assert evaluated.batches == [2] * (3 * len(WINDOWS))
    without = Guided(XpsrDenoiser(unet, controlnet, always(*pairs), image, PLACEMENT), 4.5)
    assert (canvas_of(without, latents, 1) - results[-1]).abs().max() > 1e-3


def test_a_window_reads_its_own_part_of_the_reference(reading_networks, scene):
    pairs, image, latents = scene
    picture = torch.rand(1, 3, 8 * HEIGHT, 8 * WIDTH)
    seen = []

    def reference(window):
        seen.append(window)
        return window.crop(picture)

    denoiser = XpsrDenoiser(*reading_networks, always(*pairs), image, PLACEMENT, reference=reference)
    for window in WINDOWS:
        denoiser(window.crop(latents), 501, window)
    assert seen == [window.scaled(8) for window in WINDOWS]


def test_a_window_that_overflows_is_predicted_again_with_its_reference(reading_networks, scene):
    pairs, image, latents = scene
    options = {"reference": lambda window: window.crop(torch.ones(1, 3, 8 * HEIGHT, 8 * WIDTH))}
    window = WINDOWS[0]
    expected = XpsrDenoiser(*reading_networks, always(*pairs), image, PLACEMENT, **options)
    without = XpsrDenoiser(*reading_networks, always(*pairs), image, PLACEMENT)

    def overflow(module, _, output):
        return output if output.dtype is torch.float32 else output * float("inf")

    coarse = replace(PLACEMENT, dtype=torch.bfloat16)
    networks = [coarse.place(copy.deepcopy(network)) for network in reading_networks]
    handle = networks[0].conv_out.register_forward_hook(overflow)
    again = XpsrDenoiser(*networks, always(*pairs), image, coarse, **options)(window.crop(latents), 501, window)
    handle.remove()
    right, wrong = (denoiser(window.crop(latents), 501, window) for denoiser in (expected, without))
    assert (again - right).abs().mean() < 0.1 * (again - wrong).abs().mean()


def test_a_tuned_unet_sees_its_window_of_the_photo_and_no_low_prompts(networks, scene):
    pairs, image, latents = scene
    sizes = {name: TINY_UNET[name] for name in ("block_out_channels", "layers_per_block")}
    tuner = PLACEMENT.place(randomise(SkipTuner(**sizes, hint_channels=(4, 6, 8, 10))))
    pairs = [PromptPair(pair.high, None) for pair in pairs]
    window = WINDOWS[1]
    rows = TunedDenoiser(networks[0], tuner, always(*pairs), image, PLACEMENT)(window.crop(latents), 501, window)
    hints = tuner.hints(image(window.scaled(8)))
    for row, pair in zip(rows.split(1), pairs, strict=True):
        with torch.no_grad():
            alone = networks[0](window.crop(latents), 501, pair.high, partial(tuner, hints=hints))
        torch.testing.assert_close(row, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))
