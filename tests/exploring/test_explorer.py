"""Samples against the truth: exact posteriors, exact reductions, words where the picture leaves them room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic_priors import GaussianPrior, OneStage, ShapesPrior

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.operators import Operator, ResizeFilter
from xpsr_cli.exploring.options import ExploreOptions, Method, Travel
from xpsr_cli.exploring.priors import Request
from xpsr_cli.settings import SchedulerName

AREA = ExploreOptions(operator=ResizeFilter.AREA)
SAMPLES = 12


@pytest.fixture(scope="module")
def shapes():
    return ShapesPrior(count=1200, steps=25)


def reduced(picture_pm1, factor):
    """The small picture in [0, 1] that each ``factor`` x ``factor`` pixels of (3, H, W) are averaged to."""
    size = tuple(picture_pm1.shape[1:])
    small = tuple(side // factor for side in size)
    return Operator(size, small, ResizeFilter.AREA)(picture_pm1) / 2 + 0.5


def draw(prior, small_01, options=AREA, prompt="", seeds=range(SAMPLES)):
    return [Explorer(prior).sample(small_01, prior.size, Request(prompt, seed=seed), options) for seed in seeds]


def values(samples):
    """(samples, 3, H, W) float64 in [-1, 1]."""
    return torch.from_numpy(np.stack([sample.pixels_u8 for sample in samples])).permute(0, 3, 1, 2) / 127.5 - 1


def median(samples, figure):
    return float(np.median([getattr(sample, figure) for sample in samples]))


def against_posterior(options, sigma=0.0):
    """Samples of a prior whose posterior is known: error of their mean in units of what chance allows, and their
    deviation in units of the true one."""
    prior = GaussianPrior((16, 16), steps=100)
    operator = Operator((16, 16), (2, 2), ResizeFilter.AREA)
    small_01 = reduced(prior.draw(1)[0], 8)
    small_01 = small_01 + sigma * torch.randn(small_01.shape, generator=torch.Generator().manual_seed(1))
    mean, deviation = prior.posterior(operator, small_01 * 2 - 1, 2 * sigma)
    samples = draw(prior, small_01, options, seeds=range(16))
    true = float(deviation.square().mean().sqrt())
    error = float((values(samples).mean(0) - mean).square().mean().sqrt())
    return error / (true / 16**0.5), float(values(samples).var(0).mean().sqrt()) / true, samples


@pytest.mark.parametrize("method", [Method.DDNM, Method.PIGDM])
def test_samples_are_those_of_the_posterior(method):
    error, spread, samples = against_posterior(replace(AREA, method=method))
    assert error < 1.5
    assert spread == pytest.approx(1, abs=0.15)
    assert min(sample.raw_db for sample in samples) > 100
    assert max(sample.repair_rms for sample in samples) < 0.004  # that of rounding to 8 bits is 0.0023


@pytest.mark.parametrize("scheduler", [SchedulerName.DDPM, SchedulerName.DDIM])
def test_noise_of_the_given_picture_is_not_copied(scheduler):
    error, spread, samples = against_posterior(replace(AREA, noise=0.1, scheduler=scheduler), sigma=0.1)
    assert error < 2
    assert spread == pytest.approx(1, abs=0.2)
    assert 14 < median(samples, "final_db") < 30  # 20 dB is the noise


@pytest.mark.parametrize("method", [Method.DDNM, Method.DDNM_PLUS])
def test_the_clean_picture_is_found_behind_noise(shapes, method):
    small_01 = reduced(shapes.picture(0), 4)
    noisy_01 = small_01 + 0.1 * torch.randn(small_01.shape, generator=torch.Generator().manual_seed(1))
    error = {}
    for noise in (0.0, 0.1):
        sample = draw(shapes, noisy_01, replace(AREA, method=method, noise=noise), shapes.word(0), [0])
        error[noise] = float((reduced(values(sample)[0], 4) - small_01).square().mean().sqrt())
    assert error[0.1] < 0.3 * error[0.0]


def test_the_baseline_does_not_agree_by_itself(shapes):
    small_01 = reduced(shapes.picture(3), 8)
    dps, ddnm = (draw(shapes, small_01, replace(AREA, method=m), "disc", range(4)) for m in (Method.DPS, Method.DDNM))
    assert median(dps, "raw_db") < 40 < median(ddnm, "raw_db")
    assert median(dps, "repair_rms") > 5 * median(ddnm, "repair_rms")
    assert min(sample.final_db for sample in dps) >= 50


def test_the_more_pixels_are_missing_the_more_samples_differ(shapes):
    spread = {}
    for factor in (4, 16):
        samples = [draw(shapes, reduced(shapes.picture(i), factor), AREA, shapes.word(i), range(4)) for i in range(3)]
        assert np.median([sample.raw_db for row in samples for sample in row]) >= 35
        assert np.median([sample.repair_rms for row in samples for sample in row]) <= 0.03
        assert min(sample.final_db for row in samples for sample in row) >= 58.9
        spread[factor] = float(np.mean([values(row).std(0).mean() for row in samples]))
    assert spread[16] > max(1.5 * spread[4], 0.05)


def test_words_decide_what_the_picture_leaves_open(shapes):
    """At x8 another word than that of the true picture is obeyed; at x2 it cannot be, and the data hold."""
    obeyed = {2: [], 8: []}
    for factor, answers in obeyed.items():
        for index in range(4):
            other = shapes.vocabulary[(index + 1) % 4]
            for sample in draw(shapes, reduced(shapes.picture(index), factor), AREA, other, range(3)):
                answers.append(shapes.word_of(sample.pixels_u8) == other)
                assert sample.final_db >= 50
    assert np.mean(obeyed[8]) >= 0.8
    assert np.mean(obeyed[2]) <= 0.4


def test_an_energy_speaks_for_a_prior_without_words(shapes):
    def obeyed(energy):
        explorer = Explorer(shapes, energy=energy)
        options = replace(AREA, energy_weight=2.0)
        asked = [(index, word) for index in (0, 1) for word in shapes.vocabulary]
        requests = [(index, Request(word, seed=1, guidance_scale=0.0)) for index, word in asked]
        samples = [explorer.sample(reduced(shapes.picture(i), 16), shapes.size, r, options) for i, r in requests]
        return np.mean([shapes.word_of(s.pixels_u8) == word for s, (_, word) in zip(samples, asked, strict=True)])

    assert obeyed(shapes.energy) >= obeyed(None) + 0.4


def test_an_energy_has_no_say_where_there_are_no_words(shapes):
    small_01, options = reduced(shapes.picture(0), 16), replace(AREA, energy_weight=2.0)
    steered, free = (
        Explorer(shapes, energy=energy).sample(small_01, shapes.size, Request("", seed=1), options)
        for energy in (lambda text: lambda pixels: pixels.square().sum(), None)
    )
    assert np.array_equal(steered.pixels_u8, free.pixels_u8)


def test_a_sample_depends_on_its_seed_alone(shapes):
    small_01 = reduced(shapes.picture(0), 8)
    explorer = Explorer(shapes)
    first = [explorer.sample(small_01, shapes.size, Request("disc", seed=s), AREA).pixels_u8.tobytes() for s in (5, 6)]
    again = draw(shapes, small_01, AREA, "disc", (6, 7, 5))
    assert [again[2].pixels_u8.tobytes(), again[0].pixels_u8.tobytes()] == first
    assert first[0] != first[1]


@pytest.mark.parametrize("kind", list(ResizeFilter))
def test_any_shape_and_ratio(kind):
    prior = GaussianPrior((27, 20), steps=8)
    small_01 = (Operator((27, 20), (5, 7), kind)(prior.draw(1)[0]) / 2 + 0.5).clamp(0, 1)
    sample = draw(prior, small_01, ExploreOptions(operator=kind), seeds=[3])[0]
    assert sample.pixels_u8.shape == (27, 20, 3)
    assert sample.final_db >= 58.9


@pytest.mark.parametrize("name", list(SchedulerName))
def test_walking_on_from_a_pick(name):
    """The less strength, the nearer to the pick; none keeps it; and the picture is agreed with throughout."""
    prior = GaussianPrior((16, 16), steps=20)
    small_01 = reduced(prior.draw(1)[0], 4)
    pick = values(draw(prior, small_01, seeds=[8]))[0]
    options = replace(AREA, scheduler=name, start=pick / 2 + 0.5)
    distances = []
    for strength in (0.0, 0.1, 1.0):
        sample = draw(prior, small_01, replace(options, strength=strength), seeds=[9])
        distances.append(float((values(sample)[0] - pick).square().mean().sqrt()))
        assert sample[0].final_db >= 58.9
    assert distances[0] < 0.01
    assert distances[0] < 0.5 * distances[1]
    assert distances[1] < 0.8 * distances[2]


def test_travelling_repeats_steps_with_new_noise():
    prior = GaussianPrior((16, 16), steps=12)
    small_01 = reduced(prior.draw(1)[0], 4)
    asked = []
    plain_estimate = prior.estimate
    prior.estimate = lambda x_t, signal, prompt: asked.append(float(signal)) or plain_estimate(x_t, signal, prompt)
    plain = draw(prior, small_01, seeds=[1])[0]
    assert len(asked) == 12
    steps = list(asked)
    asked.clear()
    travelled = draw(prior, small_01, replace(AREA, travel=Travel(5, 2)), seeds=[1])[0]
    assert asked == steps[:5] * 2 + steps[5:10] * 2 + steps[10:] * 2
    assert travelled.final_db >= 58.9
    assert travelled.raw_db > 100
    assert not np.array_equal(travelled.pixels_u8, plain.pixels_u8)


class Cascade:
    """Two Gaussian stages, of which the second averages its estimate with what the first one made."""

    name, vocabulary, identity, scorers = "cascade", (), {}, {}

    def __init__(self):
        self.base = GaussianPrior((8, 8), steps=20)
        self.refiner = Refiner((16, 16), steps=10)
        self.size = (16, 16)

    def stages(self, small, large):
        return [self.base, self.refiner]


class Refiner(GaussianPrior):
    def predictor(self, request, given_pm1, before_pm1):
        self.before = before_pm1
        larger = before_pm1.double().repeat_interleave(2, 2).repeat_interleave(2, 3)
        self.estimate = lambda x_t, signal, prompt: (GaussianPrior.estimate(self, x_t, signal, "") + larger) / 2
        return super().predictor(request, given_pm1, before_pm1)


def test_each_stage_of_a_cascade_agrees_with_the_given_picture():
    prior = Cascade()
    small_01 = reduced(GaussianPrior((16, 16)).draw(1)[0], 4)
    sample = draw(prior, small_01, replace(AREA, steps=10), seeds=[2])[0]
    assert prior.refiner.before.shape == (1, 3, 8, 8)
    assert [(figures.size, figures.steps) for figures in sample.stages] == [((8, 8), 10), ((16, 16), 5)]
    assert all(figures.raw_db > 100 for figures in sample.stages)
    assert sample.raw_db == sample.stages[-1].raw_db


class Latents(OneStage):
    """Gaussian pictures behind an autoencoder that loses detail, with cells of 2 x 2 pixels."""

    def __init__(self, size):
        super().__init__(size, steps=20)
        self.cell_px = 2
        cells = tuple(-(-side // 2) for side in size)
        self.gaussian = GaussianPrior(cells)

    def estimate(self, x_t, signal, prompt):
        return self.gaussian.estimate(x_t, signal, prompt)

    def decode(self, canvas):
        return torch.nn.functional.interpolate(canvas, scale_factor=2, mode="bilinear")

    def encode(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels, 2)


def test_latents_are_exact_after_the_repair():
    prior = Latents((21, 30))
    small_01 = (Operator((21, 30), (5, 6), ResizeFilter.AREA)(GaussianPrior((21, 30)).draw(1)[0]) / 2 + 0.5).clamp(
        0, 1
    )
    sample = draw(prior, small_01, seeds=[0])[0]
    assert sample.final_db >= 58.9
    assert sample.repair_rms < 0.1
    with pytest.raises(UsageError, match="pigdm works on pixels"):
        draw(prior, small_01, replace(AREA, method=Method.PIGDM), seeds=[0])


def test_a_start_of_another_size_is_refused():
    prior = GaussianPrior((16, 16), steps=2)
    with pytest.raises(UsageError, match="12 x 10 pixels, the result 16 x 16"):
        draw(prior, torch.rand(3, 4, 4), replace(AREA, start=torch.rand(3, 10, 12)), seeds=[0])
