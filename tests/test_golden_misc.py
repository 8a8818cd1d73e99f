"""The numerics around the networks against values recorded from the official code (tests/golden/misc.*)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xpsr_cli.photos.photo import Photo
from xpsr_cli.sampling.noise import FIRST, SECOND
from xpsr_cli.sampling.sampler import start_latents
from xpsr_cli.sampling.schedulers import make_scheduler
from xpsr_cli.sampling.tiles import Centre, Window, window_grid, window_weights
from xpsr_cli.settings import SamplingPreset, SchedulerName, Sizing
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.color import Moments, adain, wavelet

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def misc():
    return load_file(GOLDEN / "misc.safetensors")


@pytest.fixture(scope="module")
def facts():
    return json.loads((GOLDEN / "misc.json").read_text(encoding="utf-8"))


def ddpm(steps):
    config = json.loads((GOLDEN / "xpsr" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return make_scheduler(SchedulerName.DDPM, config, steps)


@pytest.mark.parametrize(("width", "height"), [(8, 8), (12, 10), (7, 16)])
def test_published_window_weights(misc, width, height):
    wanted = misc[f"gauss.W{width}H{height}"]
    weights = window_weights(Window(0, 0, height, width), Centre.PUBLISHED)
    torch.testing.assert_close(weights.double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("width", "height"), [(8, 8), (12, 10), (7, 16)])
def test_right_window_weights_differ_from_the_published_only_by_half_a_row(misc, width, height):
    published = misc[f"gauss.W{width}H{height}"]
    weights = window_weights(Window(0, 0, height, width)).double()
    torch.testing.assert_close(weights, weights.flip(0))
    torch.testing.assert_close(weights, weights.flip(1))
    torch.testing.assert_close(weights[0] / weights[0].sum(), published[0] / published[0].sum())
    assert not torch.allclose(published, published.flip(0))


def test_window_grid(facts):
    example = facts["tile_boxes_example"]
    windows = window_grid(example["h"], example["w"], example["tile"], example["overlap"])
    assert sorted([window.x, window.y] for window in windows) == sorted(example["boxes_x0y0"])
    assert {(window.h, window.w) for window in windows} == {(example["tile"], example["tile"])}
    assert windows == sorted(windows)


def adain_of_whole(photo, reference):
    """The colour fix with statistics that are gathered in two bands."""
    ours, wanted = Moments(), Moments()
    for band in (slice(0, 5), slice(5, None)):
        ours.add(photo[:, band])
        wanted.add(reference[:, band])
    return adain(photo, ours, wanted)


@pytest.mark.parametrize(("name", "fix"), [("adain", adain_of_whole), ("wavelet", wavelet)])
def test_color_fixes(misc, name, fix):
    photo, reference = (misc[f"color.{role}_u8"].float() / 255 for role in ("target", "source"))
    fixed = fix(photo, reference)
    torch.testing.assert_close(fixed, misc[f"color.{name}_float"], rtol=0, atol=2e-6)
    truncated = (fixed.clamp(0, 1) * 255).to(torch.uint8)  # as the released script stores it
    assert (truncated.int() - misc[f"color.{name}_u8"].int()).abs().max() <= 1
    assert (truncated != misc[f"color.{name}_u8"]).float().mean() < 1e-3


def test_scheduler_tables(misc):
    torch.testing.assert_close(ddpm(20).alphas_cumprod.float(), misc["ddpm.alphas_cumprod"], rtol=1e-6, atol=0)
    for steps in (4, 20, 50):
        assert ddpm(steps).timesteps.tolist() == misc[f"ddpm.timesteps.{steps}"].tolist()


@pytest.mark.parametrize("timestep", [951, 501, 51, 1])
def test_ddpm_step(misc, timestep):
    result = ddpm(20).step(misc["step.eps"], timestep, misc["step.sample"], misc["step.noise"]).prev_sample
    torch.testing.assert_close(result, misc[f"step.prev_t{timestep}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("level", [800, 400])
def test_start_latent_is_noised_twice(misc, level):
    noise = {0: torch.zeros(()), FIRST: misc["init.noise1"], SECOND: misc["init.noise2"]}
    z = misc["init.z"]
    preset, whole = SamplingPreset(added_noise_level=level), Window(0, 0, *z.shape[2:])
    start = start_latents(preset, ddpm(20), lambda draw, window: noise[draw], whole, z, torch.zeros_like(z))
    torch.testing.assert_close(start, misc[f"init.latent_level{level}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", ["small", "big"])
def test_input_sizing(misc, facts, case, monkeypatch):
    """The released script rounds to 8 bits after each of up to three resizings; ours rounds once, at the end."""
    values = facts[f"resize.{case}"]
    monkeypatch.setattr("xpsr_cli.upscaling.canvas.PROCESS_SIZE_PX", values["process_size"])
    photo = Photo(misc[f"resize.{case}.in_u8"].permute(1, 2, 0).numpy())
    canvas = Canvas(photo, values["upscale"], Sizing.RESIZE)
    assert [canvas.width, canvas.height] == values["out_wh"]
    ours = canvas.image(Window(0, 0, canvas.height, canvas.width))[0] * 255
    difference = (ours - misc[f"resize.{case}.out_u8"]).abs()
    assert difference.max() < 4
    assert difference.mean() < 0.5


def test_every_recorded_value_is_checked(misc):
    """``dfc.*`` belongs to training's loss, checked in test_golden.py."""
    known = ("gauss.", "color.", "ddpm.", "init.", "step.", "resize.", "dfc.")
    assert [name for name in misc if not name.startswith(known)] == []
