"""The one loop: schedulers take their own steps, and a hook corrects the estimate without otherwise being felt."""

from __future__ import annotations

import diffusers
import pytest
import torch

from xpsr_cli.errors import UsageError, WeightsError, XpsrError
from xpsr_cli.sampling.latent_canvas import LatentCanvas
from xpsr_cli.sampling.noise import STEP_0, CanvasNoise
from xpsr_cli.sampling.sampler import sample, start_latents
from xpsr_cli.sampling.schedulers import add_noise, from_x0, make_scheduler, to_x0
from xpsr_cli.sampling.tiled import Tiled
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import SamplingPreset, SchedulerName, StartLatent

SD15 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
CONFIGS = {
    "epsilon": SD15,
    "v": {**SD15, "prediction_type": "v_prediction"},
    "v, zero SNR": {
        **SD15,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
        "set_alpha_to_one": True,
    },
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
every_scheduler = pytest.mark.parametrize("name", list(SchedulerName))
NOISE = CanvasNoise(3, 4)
WHOLE = Window(0, 0, 6, 9)


def predict(latents, timestep, window=WHOLE):
    """A prediction that depends on all it is given, of about unit size."""
    return torch.tanh(0.7 * latents.roll(1, dims=1) + timestep / 1000) + 0.1 * latents


def start():
    return NOISE(1, WHOLE)


def sampled(model, latents, scheduler, noise=NOISE, hook=None, windows=(WHOLE,)):
    """What :func:`sample` makes of ``latents``, as a tensor."""
    canvas = LatentCanvas(*latents.shape[1:])
    canvas.write(Window(0, 0, *latents.shape[2:]), latents)
    canvas.turn()
    sample(Tiled(model, windows), canvas, scheduler, noise, hook=hook)
    return canvas.read(Window(0, 0, *latents.shape[2:]))


def run(name, config, hook=None, steps=5, model=predict):
    return sampled(model, start(), make_scheduler(name, config, steps), hook=hook)


@every_config
@every_scheduler
def test_a_hook_that_changes_nothing_is_not_felt(name, config):
    seen = []

    def identity(x0, timestep):
        seen.append(timestep)
        return x0

    plain, hooked = run(name, config), run(name, config, identity)
    assert seen == make_scheduler(name, config, 5).timesteps.tolist()
    torch.testing.assert_close(hooked, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.parametrize("config", [CONFIGS["epsilon"], CONFIGS["v"]])
def test_a_hook_that_pins_the_estimate_gets_it(config):
    wanted = torch.randn(1, 4, 6, 9)
    for name in (SchedulerName.DDPM, SchedulerName.UNIPC, SchedulerName.DPMSOLVERPP):
        result = run(name, config, lambda x0, timestep: wanted)
        torch.testing.assert_close(result, wanted, rtol=0, atol=2e-4)


def test_a_hook_sees_the_clean_latents():
    """With the true noise as the prediction, the estimate is what was noised."""
    scheduler = make_scheduler(SchedulerName.DDIM, CONFIGS["epsilon"], 4)
    clean, noise = torch.randn(1, 4, 6, 9), torch.randn(1, 4, 6, 9)
    timestep = int(scheduler.timesteps[0])
    seen = []
    noisy = add_noise(scheduler, clean, noise, timestep)
    sampled(lambda latents, t, window: noise, noisy, scheduler, hook=lambda x0, t: seen.append(x0) or x0)
    torch.testing.assert_close(seen[0].float(), clean, rtol=0, atol=1e-5)


@every_config
def test_estimate_and_prediction_are_inverses(config):
    scheduler = make_scheduler(SchedulerName.DDIM, config, 4)
    latents, prediction = torch.randn(1, 4, 6, 9), torch.randn(1, 4, 6, 9)
    for timestep in scheduler.timesteps.tolist():
        x0 = to_x0(scheduler, prediction, latents, timestep)
        torch.testing.assert_close(from_x0(scheduler, x0, latents, timestep), prediction, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "stock"),
    [
        (SchedulerName.DDIM, diffusers.DDIMScheduler),
        (SchedulerName.UNIPC, diffusers.UniPCMultistepScheduler),
        (SchedulerName.DPMSOLVERPP, diffusers.DPMSolverMultistepScheduler),
    ],
)
def test_without_a_hook_it_is_the_stock_loop_bit_for_bit(name, stock):
    options = {"clip_sample": False, "timestep_spacing": "leading"} if name is SchedulerName.DDIM else {}
    scheduler = stock.from_config(SD15, **options)
    scheduler.set_timesteps(6)
    latents = start()
    for timestep in scheduler.timesteps:
        latents = scheduler.step(predict(latents, int(timestep)), timestep, latents).prev_sample
    assert torch.equal(run(name, SD15, steps=6), latents)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ancestral_sampling_is_the_stock_ddpm_with_our_noise(prediction):
    config = {**SD15, "prediction_type": prediction}
    stock = diffusers.DDPMScheduler.from_config(
        config, variance_type="fixed_small", clip_sample=False, timestep_spacing="leading"
    )
    stock.set_timesteps(7)
    generator = torch.Generator().manual_seed(1)
    latents = start()
    for timestep in stock.timesteps:
        latents = stock.step(predict(latents, int(timestep)), timestep, latents, generator=generator).prev_sample

    drawn = torch.Generator().manual_seed(1)
    noises = {STEP_0 + step: torch.randn(start().shape, generator=drawn) for step in range(7)}
    scheduler = make_scheduler(SchedulerName.DDPM, config, 7)
    ours = sampled(predict, start(), scheduler, lambda draw, window: window.crop(noises[draw]))
    torch.testing.assert_close(ours, latents, rtol=0, atol=2e-5)


@every_config
@every_scheduler
def test_every_scheduler_stays_finite(name, config):
    for steps in range(1, 26):
        assert run(name, config, steps=steps).isfinite().all(), steps


def test_networks_that_overflow_are_an_error():
    with pytest.raises(XpsrError, match="not numbers") as caught:
        run(SchedulerName.DDIM, SD15, model=lambda latents, timestep, window: latents * torch.inf)
    assert "fp32" in caught.value.hint


@every_config
@every_scheduler
@pytest.mark.parametrize("hook", [None, lambda x0, timestep: x0.clamp(-2, 2)], ids=["plain", "hooked"])
def test_bands_change_nothing(name, config, hook):
    """A model that looks at each cell alone gives the same canvas whole and in bands: no scheduler mixes them up."""
    latents = torch.randn(1, 4, 31, 17)
    whole = [Window(0, 0, 31, 17)]
    rows = [Window(0, 0, 16, 17), Window(15, 0, 16, 17)]

    def run(windows):
        return sampled(predict, latents, make_scheduler(name, config, 4), hook=hook, windows=windows)

    torch.testing.assert_close(run(rows), run(whole), rtol=1e-4, atol=1e-4)


def test_start_from_noise_leaves_the_photo_out():
    preset = SamplingPreset(start=StartLatent.NOISE, start_noise=0.5)
    scheduler = make_scheduler(SchedulerName.DDIM, CONFIGS["v, zero SNR"], 1)
    latents = start_latents(preset, scheduler, NOISE, WHOLE, None, None)
    assert torch.equal(latents, 0.5 * NOISE(1, WHOLE))


def test_other_predictions_are_refused():
    with pytest.raises(WeightsError, match="'sample'"):
        make_scheduler(SchedulerName.DDIM, {**SD15, "prediction_type": "sample"}, 4)


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(UsageError, match="1000"):
        make_scheduler(SchedulerName.DDPM, SD15, 1000)
    assert int(make_scheduler(SchedulerName.DDPM, SD15, 999).timesteps[0]) == 999


@every_config
@every_scheduler
def test_stopping_and_going_on_changes_nothing(name, config):
    """Step by step is the same as all at once, whatever a scheduler remembers."""
    canvas, scheduler = LatentCanvas(4, 6, 9), make_scheduler(name, config, 5)
    canvas.begin(start())
    for step in range(1, 6):
        sample(Tiled(predict, [WHOLE]), canvas, scheduler, NOISE, until=step)
        assert canvas.step == step
    assert torch.equal(canvas.read(WHOLE), run(name, config))


@every_scheduler
def test_sampling_can_begin_at_a_later_step(name):
    """From the true picture, noised for that step, a network that knows the noise finds its way back."""
    clean, noise = torch.randn(1, 4, 6, 9), torch.randn(1, 4, 6, 9)
    scheduler = make_scheduler(name, {**SD15, "set_alpha_to_one": True, "final_sigmas_type": "zero"}, 8)
    canvas = LatentCanvas(4, 6, 9)
    canvas.begin(add_noise(scheduler, clean, noise, int(scheduler.timesteps[5])), 5)
    asked = []

    def knows(latents, timestep, window):
        asked.append(timestep)
        return from_x0(scheduler, clean, latents, timestep)

    sample(Tiled(knows, [WHOLE]), canvas, scheduler, NOISE)
    assert asked == scheduler.timesteps.tolist()[5:]
    torch.testing.assert_close(canvas.read(WHOLE), clean, rtol=0, atol=1e-4)
