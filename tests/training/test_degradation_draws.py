"""What is drawn follows the published table: probabilities, ranges and uniform distributions, from 4,000 draws."""

from math import pi

import pytest
from scipy.stats import binomtest, kstest, uniform

from xpsr_cli.training.degradation import Degrader
from xpsr_cli.training.degradation_steps import Blur, Jpeg, Noise, Resize

SURE = 1e-3  # how unlikely a deviation has to be before it counts as one
SIZES = (7, 9, 11, 13, 15, 17, 19, 21)
FAMILIES = {
    "iso": 0.45,
    "aniso": 0.25,
    "generalised_iso": 0.12,
    "generalised_aniso": 0.03,
    "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}


def draws_of(preset, count=4000):
    """Many draws."""
    degrader = Degrader({preset: 1.0})
    return [degrader.draw([11, index]) for index in range(count)]


@pytest.fixture(scope="module")
def xpsr():
    return draws_of("xpsr")


@pytest.fixture(scope="module")
def light():
    return draws_of("light")


def steps(draws, stage, kind):
    """All steps of one kind in one stage."""
    return [step for draw in draws for step in draw.stages[stage] if isinstance(step, kind)]


def has_share(found, probability):
    """Whether so many of ``found`` are true as ``probability`` says."""
    found = list(found)
    return binomtest(sum(found), len(found), probability).pvalue > SURE


def is_uniform(values, low, high):
    """Whether values lie in the range and fill it evenly."""
    inside = all(low <= value <= high for value in values)
    return inside and kstest(values, uniform(low, high - low).cdf).pvalue > SURE


def equally_likely(values, choices):
    """Whether each choice has the same share and there is no other value."""
    return set(values) == set(choices) and all(
        has_share((value == choice for value in values), 1 / len(choices)) for choice in choices
    )


def follows_noise_table(noises, sigma, scale, gaussian):
    """Whether kind, strength and colour of noise are drawn as the table says."""
    gaussians, poissons = ([n.strength for n in noises if n.kind == kind] for kind in ("gaussian", "poisson"))
    return (
        len(gaussians) + len(poissons) == len(noises)
        and has_share((noise.kind == "gaussian" for noise in noises), gaussian)
        and is_uniform(gaussians, *sigma)
        and is_uniform(poissons, *scale)
        and has_share((noise.grey for noise in noises), 0.4)
        and len({noise.seed for noise in noises}) == len(noises)
    )


@pytest.mark.parametrize(("stage", "sigma", "share"), [(0, (0.2, 3.0), 1.0), (1, (0.2, 1.5), 0.8)])
def test_kernels(xpsr, stage, sigma, share):
    assert has_share((isinstance(draw.stages[stage][0], Blur) for draw in xpsr), share)
    kernels = [step.kernel for step in steps(xpsr, stage, Blur)]
    assert equally_likely([kernel.size_px for kernel in kernels], SIZES)
    assert has_share((kernel.family == "sinc" for kernel in kernels), 0.1)
    sincs = [kernel for kernel in kernels if kernel.family == "sinc"]
    assert is_uniform([kernel.cutoff for kernel in sincs if kernel.size_px < 13], pi / 3, pi)
    assert is_uniform([kernel.cutoff for kernel in sincs if kernel.size_px >= 13], pi / 5, pi)

    others = [kernel for kernel in kernels if kernel.family != "sinc"]
    assert {kernel.family for kernel in others} == set(FAMILIES)
    for family, probability in FAMILIES.items():
        assert has_share((kernel.family == family for kernel in others), probability)
    assert is_uniform([kernel.sigma_x_px for kernel in others], *sigma)
    long = [kernel for kernel in others if kernel.family.endswith("aniso")]
    assert is_uniform([kernel.sigma_y_px for kernel in long], *sigma)
    assert is_uniform([kernel.angle for kernel in long], -pi, pi)
    assert all(k.sigma_x_px == k.sigma_y_px and k.angle == 0 for k in others if not k.family.endswith("aniso"))


def test_exponents(xpsr):
    kernels = [step.kernel for stage in (0, 1) for step in steps(xpsr, stage, Blur)]
    generalised = [kernel.beta for kernel in kernels if kernel.family.startswith("generalised")]
    assert has_share((beta < 1 for beta in generalised), 0.5)
    assert is_uniform([beta for beta in generalised if beta < 1], 0.5, 1)
    assert is_uniform([beta for beta in generalised if beta >= 1], 1, 4)
    plateau = [kernel.beta for kernel in kernels if kernel.family.startswith("plateau")]
    assert has_share((beta == 1 for beta in plateau), 0.5)
    assert is_uniform([beta for beta in plateau if beta != 1], 1, 2)
    assert all(kernel.beta == 1 for kernel in kernels if kernel.family in ("iso", "aniso"))


@pytest.mark.parametrize(
    ("stage", "shares", "up", "down"),
    [(0, (0.2, 0.7, 0.1), (1, 1.5), (0.15, 1)), (1, (0.3, 0.4, 0.3), (1, 1.2), (0.3, 1))],
)
def test_resizes(xpsr, stage, shares, up, down):
    resizes = steps(xpsr, stage, Resize)
    assert len(resizes) == len(xpsr)
    factors = {direction: [r.factor for r in resizes if r.direction == direction] for direction in ("up", "down")}
    for direction, share in zip(("up", "down", "keep"), shares, strict=True):
        assert has_share((resize.direction == direction for resize in resizes), share)
    assert is_uniform(factors["up"], *up)
    assert is_uniform(factors["down"], *down)
    assert all(resize.factor == 1 for resize in resizes if resize.direction == "keep")
    assert equally_likely([resize.mode for resize in resizes], ("area", "bilinear", "bicubic"))
    assert all(resize.of_small == (stage == 1) and not resize.antialias for resize in resizes)


def test_noise(xpsr):
    first, second = (steps(xpsr, stage, Noise) for stage in (0, 1))
    assert len(first) == len(second) == len(xpsr)
    assert follows_noise_table(first, (1, 30), (0.05, 3), 0.5)
    assert follows_noise_table(second, (1, 25), (0.05, 2.5), 0.5)


def test_order_of_steps(xpsr):
    for draw in xpsr:
        first, second, _ = draw.stages
        assert [type(step) for step in first] == [Blur, Resize, Noise, Jpeg]
        assert [type(step) for step in second if not isinstance(step, Blur)] == [Resize, Noise]


def test_jpeg(xpsr):
    assert is_uniform([jpeg.quality for jpeg in steps(xpsr, 0, Jpeg)], 30, 95)
    assert is_uniform([jpeg.quality for jpeg in steps(xpsr, 2, Jpeg)], 30, 95)


def test_the_end(xpsr):
    ends = [draw.stages[2] for draw in xpsr]
    assert has_share((isinstance(end[-1], Jpeg) for end in ends), 0.5)
    for end in ends:
        assert [type(step) for step in end if not isinstance(step, Jpeg)] in ([Resize, Blur], [Resize])
        assert isinstance(end[0], Jpeg) != isinstance(end[-1], Jpeg)
    resizes = steps(xpsr, 2, Resize)
    assert all(resize.factor == 1 and resize.of_small for resize in resizes)
    assert equally_likely([resize.mode for resize in resizes], ("area", "bilinear", "bicubic"))
    assert has_share((any(isinstance(step, Blur) for step in end) for end in ends), 0.8)
    kernels = [step.kernel for step in steps(xpsr, 2, Blur)]
    assert {kernel.family for kernel in kernels} == {"sinc"}
    assert equally_likely([kernel.size_px for kernel in kernels], SIZES)
    assert is_uniform([kernel.cutoff for kernel in kernels], pi / 3, pi)


def test_every_sample_draws_its_own_branches(xpsr):
    first = [draw.stages[0][1].direction for draw in xpsr[:100]]
    assert len(set(first[:10])) > 1
    assert len({draw.stages[0][1].factor for draw in xpsr[:100] if draw.stages[0][1].direction != "keep"}) > 60


def test_light(light):
    kernels = [step.kernel for step in steps(light, 0, Blur)]
    assert len(kernels) == len(light)
    assert {kernel.size_px for kernel in kernels} == {21}
    assert is_uniform([kernel.sigma_x_px for kernel in kernels], 0.5, 3.2)
    for family, share in {"iso": 0.51, "aniso": 0.34, "generalised_iso": 0.09, "generalised_aniso": 0.06}.items():
        assert has_share((kernel.family == family for kernel in kernels), share)
    assert all(step.of_small and step.factor == 1 and step.antialias for step in steps(light, 0, Resize))
    assert has_share((any(isinstance(step, Noise) for step in draw.steps) for draw in light), 0.6)
    assert follows_noise_table(steps(light, 0, Noise), (0.5, 8), (0.14, 0.55), 0.7)
    assert has_share((isinstance(draw.steps[-1], Jpeg) for draw in light), 0.4)
    assert is_uniform([jpeg.quality for jpeg in steps(light, 0, Jpeg)], 60, 98)


def test_shares_of_presets():
    degrader = Degrader({"light": 0.9, "xpsr": 0.1})
    presets = [degrader.draw([5, index]).preset for index in range(2000)]
    assert set(presets) == {"light", "xpsr"}
    assert has_share((preset == "xpsr" for preset in presets), 0.1)
