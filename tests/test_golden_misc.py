"""The numerics around the networks against values recorded from the official code (tests/golden/misc.*)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xpsr_cli.sampling.noise import FIRST, SECOND
from xpsr_cli.sampling.sampler import start_latents
from xpsr_cli.sampling.schedulers import make_scheduler
from xpsr_cli.sampling.tiles import Centre, Window, gaussian_weights, window_grid
from xpsr_cli.settings import SamplingPreset, SchedulerName
from xpsr_cli.upscaling.canvas import _resized, resize
from xpsr_cli.upscaling.color import adain, wavelet

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
    weights = gaussian_weights(Window(0, 0, height, width), Centre.PUBLISHED)
    torch.testing.assert_close(weights.double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("width", "height"), [(8, 8), (12, 10), (7, 16)])
def test_right_window_weights_differ_from_the_published_only_by_half_a_row(misc, width, height):
    published = misc[f"gauss.W{width}H{height}"]
    weights = gaussian_weights(Window(0, 0, height, width)).double()
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


@pytest.mark.parametrize("fix", [adain, wavelet])
def test_color_fixes(misc, fix):
    photo, reference = (misc[f"color.{name}_u8"][None].float() / 255 for name in ("target", "source"))
    fixed = fix(photo, reference)[0]
    torch.testing.assert_close(fixed, misc[f"color.{fix.__name__}_float"], rtol=0, atol=2e-6)
    truncated = (fixed.clamp(0, 1) * 255).to(torch.uint8)  # as the released script stores it
    assert (truncated.int() - misc[f"color.{fix.__name__}_u8"].int()).abs().max() <= 1
    assert (truncated != misc[f"color.{fix.__name__}_u8"]).float().mean() < 1e-3


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
    start = start_latents(SamplingPreset(added_noise_level=level), ddpm(20), noise.__getitem__, z, torch.zeros_like(z))
    torch.testing.assert_close(start, misc[f"init.latent_level{level}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", ["small", "big"])
def test_input_sizing(misc, facts, case):
    from PIL import Image

    values = facts[f"resize.{case}"]
    pixels = misc[f"resize.{case}.in_u8"].permute(1, 2, 0).numpy()
    width, height = values["in_wh"]
    enlarged = resize(pixels, (width * values["upscale"], height * values["upscale"]), Image.Resampling.BICUBIC)
    result = torch.from_numpy(_resized(enlarged, values["process_size"]).copy()).permute(2, 0, 1)
    assert [result.shape[2], result.shape[1]] == values["out_wh"]
    assert torch.equal(result, misc[f"resize.{case}.out_u8"])


def test_every_recorded_value_is_checked(misc):
    """``dfc.*`` belongs to training's loss, checked in test_golden.py."""
    known = ("gauss.", "color.", "ddpm.", "init.", "step.", "resize.", "dfc.")
    assert [name for name in misc if not name.startswith(known)] == []
