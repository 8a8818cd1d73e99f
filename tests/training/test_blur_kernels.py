"""Blur kernels: what they let through, how far they reach, and how far they are said to blur."""

import numpy as np
import pytest

from xpsr_cli.training.blur_kernels import Kernel, gaussian_kernel, plateau_kernel, sinc_kernel, spread_px

SPAN = np.arange(21) - 10
FAMILIES = ("iso", "aniso", "generalised_iso", "generalised_aniso", "plateau_iso", "plateau_aniso", "sinc")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [7, 13, 21])
def test_kernels_sum_to_one_and_are_padded_with_zeros(family, size):
    weights = Kernel(family, size, 3.0, 2.0, 0.4, 1.2, 1.7).weights()
    assert weights.shape == (21, 21)
    assert weights.dtype == np.float32
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert weights == pytest.approx(weights[::-1, ::-1])
    edge = (21 - size) // 2
    inner = weights[edge : 21 - edge, edge : 21 - edge]
    assert np.abs(inner).sum() == pytest.approx(np.abs(weights).sum())
    assert (inner[[0, -1]] != 0).any()


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.5])
@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_they_are_functions_of_the_distance_in_sigmas(angle, beta):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    precision = np.linalg.inv(turn @ np.diag([2.5**2, 1.5**2]) @ turn.T)
    squared = np.array([[[x, y] @ precision @ [x, y] for x in SPAN] for y in SPAN])
    for made, values in (
        (gaussian_kernel(2.5, 1.5, angle, beta), np.exp(-0.5 * squared**beta)),
        (plateau_kernel(2.5, 1.5, angle, beta), 1 / (1 + squared**beta)),
    ):
        assert made == pytest.approx(values / values.sum(), abs=1e-7)


def test_gaussians_have_the_spread_they_say():
    kernel = gaussian_kernel(2.0, 1.0, 0.0)
    assert (kernel.sum(axis=0) * SPAN**2).sum() == pytest.approx(4.0, abs=0.05)  # along x
    assert (kernel.sum(axis=1) * SPAN**2).sum() == pytest.approx(1.0, abs=0.05)  # along y
    assert spread_px(kernel) == pytest.approx(2**0.5, rel=0.01)
    for sigma in (0.7, 1.0, 3.0):
        assert spread_px(gaussian_kernel(sigma, sigma, 0)) == pytest.approx(sigma, rel=0.02)


def test_the_spread_of_others_is_that_of_gaussians_that_look_alike():
    assert spread_px(gaussian_kernel(3, 3, 0, size_px=7)) == pytest.approx(1.9, abs=0.05)  # cut off
    assert spread_px(gaussian_kernel(2, 2, 0, beta=0.5)) > 4  # long tails
    assert spread_px(gaussian_kernel(2, 2, 0, beta=4)) < 1.3
    assert spread_px(plateau_kernel(2, 2, 0)) > 3
    assert spread_px(sinc_kernel(1.0)) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("cutoff", [np.pi / 5, np.pi / 3, 2.0, 2.6])
def test_sinc_passes_what_is_below_its_cutoff_and_rings(cutoff):
    kernel = sinc_kernel(cutoff)
    response = np.abs(np.fft.fft2(kernel, (256, 256)))
    frequency = 2 * np.pi * np.abs(np.fft.fftfreq(256))
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    assert response[radius < cutoff - 0.4].min(initial=1) > 0.8
    assert response[radius > cutoff + 0.4].max(initial=0) < 0.2
    assert kernel.min() < 0
