"""Corrections of the estimate: exact under every scheduler, in range before they project, right in their weights."""

from __future__ import annotations

import math

import diffusers
import pytest
import torch

from xpsr_cli.exploring.consistency import (
    EnergyGuidance,
    LatentCorrection,
    NoisyProjection,
    Projection,
    Threshold,
    chain,
    dps,
    pigdm,
    step_terms,
)
from xpsr_cli.exploring.operators import Operator, ResizeFilter
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.noise import CanvasNoise
from xpsr_cli.sampling.sampler import sample
from xpsr_cli.sampling.schedulers import DDPMScheduler, add_noise, from_x0, make_scheduler, to_x0
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import SchedulerName

LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
CONFIGS = {
    "epsilon": LINEAR,
    "v": {**LINEAR, "prediction_type": "v_prediction"},
    "IF": {
        "beta_schedule": "squaredcos_cap_v2",
        "variance_type": "learned_range",
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.95,
        "sample_max_value": 1.5,
    },
}
LARGE, SMALL = (18, 23), (6, 5)
WHOLE = Window(0, 0, *LARGE)
NOISE = CanvasNoise(2, 3)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def operator(kind=ResizeFilter.BICUBIC):
    return Operator(LARGE, SMALL, kind)


def network(canvas, timestep):
    """A prediction that depends on all it is given."""
    return torch.tanh(0.7 * canvas.roll(1, dims=3) + timestep / 1000) + 0.1 * canvas


def sampled(scheduler, hook=None, predict=network, noise=NOISE):
    canvas = LatentCanvas(3, *LARGE)
    canvas.begin(NOISE(1, WHOLE))
    sample(Tiled(lambda x, timestep, _: predict(x, timestep), [WHOLE]), canvas, scheduler, noise, hook=hook)
    return canvas.read(WHOLE)


def decibels(x, y_pm1, by):
    return -10 * math.log10(float((by(x) - y_pm1).square().mean()) / 4)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("name", list(SchedulerName))
@pytest.mark.parametrize("kind", [ResizeFilter.AREA, ResizeFilter.BICUBIC])
def test_projection_is_exact_under_any_scheduler(name, config, kind):
    by, y = operator(kind), random(1, 3, *SMALL)
    exact = {"set_alpha_to_one": True, "final_sigmas_type": "zero"}
    x = sampled(make_scheduler(name, {**config, **exact}, 8), chain(Threshold(config), Projection(by, y)))
    assert decibels(x, y, by) >= 100


def test_dynamic_threshold_is_the_stock_one():
    stock = diffusers.DDPMScheduler.from_config(CONFIGS["IF"])
    for scale in (0.3, 1.2, 5.0):
        x0 = scale * torch.randn(1, 3, 9, 11)
        torch.testing.assert_close(Threshold(CONFIGS["IF"])(x0.double(), 0).float(), stock._threshold_sample(x0))


def test_other_thresholds_follow_the_config():
    x0 = 3 * torch.randn(1, 3, 9, 11)
    assert torch.equal(Threshold({})(x0, 0), x0.clamp(-1, 1))
    assert torch.equal(Threshold({"clip_sample_range": 2.0})(x0, 0), x0.clamp(-2, 2))
    assert torch.equal(Threshold({"clip_sample": False})(x0, 0), x0)


@pytest.mark.parametrize("name", [SchedulerName.DDPM, SchedulerName.DDIM])
def test_a_step_moves_by_its_weight_times_the_estimate(name):
    """What :func:`step_terms` says of a step is what the stock step does."""
    scheduler = make_scheduler(name, {**LINEAR, "set_alpha_to_one": True}, 10)
    x_t, x0, change = (torch.randn(1, 3, 4, 4, dtype=torch.float64) for _ in range(3))
    for timestep in scheduler.timesteps.tolist():

        def step(clean, noise, timestep=timestep):
            extra = (noise,) if isinstance(scheduler, DDPMScheduler) else ()
            return scheduler.step(from_x0(scheduler, clean, x_t, timestep), timestep, x_t, *extra).prev_sample

        none, noise = torch.zeros_like(x_t), torch.randn_like(x_t)
        weight, deviation = step_terms(scheduler, timestep)
        torch.testing.assert_close(step(x0 + change, none) - step(x0, none), weight * change, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(step(x0, noise) - step(x0, none), deviation * noise, rtol=1e-4, atol=1e-4)


def test_a_noisy_picture_is_taken_over_as_far_as_the_noise_on_the_canvas_covers():
    scheduler = make_scheduler(SchedulerName.DDPM, {**LINEAR, "set_alpha_to_one": True}, 20)
    by = operator(ResizeFilter.AREA)  # 3 x 4.6 pixels make one
    projection = NoisyProjection(by, random(1, 3, *SMALL), 0.1, scheduler)
    timesteps = scheduler.timesteps.tolist()
    shares = [projection.shares(timestep) for timestep in timesteps]
    assert bool((shares[0] == 1).all())
    assert bool((shares[-1] < 0.1).all())
    for timestep, share in zip(timesteps, shares, strict=True):
        signal = scheduler.alphas_cumprod[timestep].double()
        noise = share * signal.sqrt() * 0.1 / by.squares.sqrt()  # that y brings onto the canvas
        assert bool((noise <= (1 - signal).sqrt() + 1e-9).all())
        assert bool(((share == 1) | (noise >= (1 - signal).sqrt() - 1e-9)).all())


@pytest.mark.parametrize("name", list(SchedulerName))
def test_hardly_any_noise_is_hardly_another_result(name):
    by, y = operator(), random(1, 3, *SMALL)
    scheduler = make_scheduler(name, {**LINEAR, "set_alpha_to_one": True}, 20)
    distances = []
    for sigma in (1e-4, 0.1):
        x = sampled(scheduler, chain(Threshold({}), NoisyProjection(by, y, sigma, scheduler)))
        distances.append(float((by(x) - y).square().mean().sqrt()))
        scheduler = make_scheduler(name, {**LINEAR, "set_alpha_to_one": True}, 20)
    assert distances[0] < 0.5 * distances[1]


def halves(latents):
    """A lossy decoder: each latent cell is 2 x 2 pixels of one value."""
    return latents.repeat_interleave(2, 2).repeat_interleave(2, 3)


def means(pixels):
    return torch.nn.functional.avg_pool2d(pixels, 2)


def test_latents_that_need_no_correction_are_left_alone():
    scheduler = make_scheduler(SchedulerName.DDPM, LINEAR, 10)
    by = Operator((12, 12), (3, 3), ResizeFilter.AREA)
    latents = random(1, 3, 6, 6).double()
    correction = LatentCorrection(Projection(by, by(halves(latents))), scheduler, halves, means)
    last = int(scheduler.timesteps[-1])
    torch.testing.assert_close(correction(latents, last), latents, rtol=0, atol=1e-6)
    y = random(1, 3, 3, 3, seed=3) / 4
    corrected = LatentCorrection(Projection(by, y), scheduler, halves, means)(latents / 4, last)
    torch.testing.assert_close(by(halves(corrected)), y, rtol=0, atol=1e-5)


def test_latents_are_corrected_late_every_second_step_and_at_the_end():
    scheduler = make_scheduler(SchedulerName.DDPM, LINEAR, 20)
    asked = []
    hook = LatentCorrection(lambda x, timestep: asked.append(timestep) or x, scheduler, halves, means)
    timesteps = scheduler.timesteps.tolist()
    for timestep in timesteps:
        hook(random(1, 3, 4, 4), timestep)
    assert [timesteps.index(timestep) for timestep in asked] == [8, 10, 12, 14, 16, 17, 18, 19]


def test_energy_pulls_the_estimate_and_stops_before_the_end():
    scheduler = make_scheduler(SchedulerName.DDPM, LINEAR, 10)
    wanted = random(1, 3, *LARGE, seed=5)
    guidance = EnergyGuidance(lambda x: (x - wanted).square().sum(), 0.1, scheduler)
    timesteps = scheduler.timesteps.tolist()
    x0 = random(1, 3, *LARGE).double()
    pulled = guidance(x0, timesteps[3])
    assert (pulled - wanted).square().sum() < (x0 - wanted).square().sum()
    spread = float(1 - scheduler.alphas_cumprod[timesteps[3]]) ** 0.5
    assert float((pulled - x0).square().mean() ** 0.5) == pytest.approx(0.1 * spread, rel=1e-4)
    assert torch.equal(guidance(x0, timesteps[-1]), x0)
    assert torch.equal(EnergyGuidance(lambda x: 0 * x.sum(), 0.1, scheduler)(x0, timesteps[0]), x0)


def test_energy_moves_only_what_the_given_picture_leaves_open():
    scheduler = make_scheduler(SchedulerName.DDPM, {**LINEAR, "set_alpha_to_one": True}, 8)
    by, y, wanted = operator(), random(1, 3, *SMALL), random(1, 3, *LARGE, seed=5)

    def distance(x):
        return (x - wanted).square().sum()

    plain = sampled(scheduler, chain(Threshold({}), Projection(by, y)))
    pulled = sampled(scheduler, chain(Threshold({}), EnergyGuidance(distance, 0.3, scheduler), Projection(by, y)))
    assert decibels(pulled, y, by) >= 100
    assert distance(pulled) < 0.9 * distance(plain)


def unlimited(x0, timestep):
    return x0


def step_under(method):
    """How far a step with the guided prediction goes beyond one with the plain prediction, and what it went by."""
    scheduler = make_scheduler(SchedulerName.DDIM, {**LINEAR, "set_alpha_to_one": True}, 10)
    by, y, timestep = operator(), random(1, 3, *SMALL), int(scheduler.timesteps[4])
    noisy = add_noise(scheduler, random(1, 3, *LARGE, seed=4), NOISE(1, WHOLE), timestep)
    guided = method(scheduler, by, y)
    plain = scheduler.step(network(noisy, timestep), timestep, noisy).prev_sample
    leaf = noisy.clone().requires_grad_()
    x0 = to_x0(scheduler, network(leaf, timestep), leaf, timestep)
    signal = float(scheduler.alphas_cumprod[timestep]) ** 0.5
    return scheduler.step(guided(noisy, timestep), timestep, noisy).prev_sample - plain, leaf, x0, by, y, signal


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_pigdm_steps_by_what_the_correction_pulls_through_the_network(sigma):
    moved, leaf, x0, by, y, signal = step_under(lambda *args: pigdm(network, *args, sigma, unlimited))
    gamma = (1 - signal**2) / sigma**2 if sigma else math.inf
    (x0 * (by.correct(x0.detach(), y, gamma) - x0.detach())).sum().backward()
    torch.testing.assert_close(moved, signal * leaf.grad, rtol=1e-3, atol=1e-5)


def test_dps_steps_by_its_size_down_the_gradient():
    moved, leaf, x0, by, y, _ = step_under(lambda *args: dps(network, *args, unlimited, size=0.5))
    torch.linalg.vector_norm(by(x0) - y).backward()
    torch.testing.assert_close(moved, -0.5 * leaf.grad, rtol=1e-3, atol=1e-5)
