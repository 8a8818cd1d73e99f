"""Noise belongs to a place of the canvas, and is as good as any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from xpsr_cli.sampling.noise import CanvasNoise, philox, window_noise
from xpsr_cli.sampling.tiles import Window, window_grid

# Counter and key in, words out: the test vectors of Random123, the reference implementation of Philox 4x32-10.
VECTORS = [
    ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("given", "words"), VECTORS)
def test_philox(given, words):
    a, b, c, d = (np.array([word], dtype=np.uint64) for word in given[:4])
    result = philox(a, b, c, d, (np.uint64(given[4]), np.uint64(given[5])))
    assert tuple(int(word[0]) for word in result) == words


def test_a_windows_noise_is_the_crop_of_the_canvas():
    canvas = CanvasNoise(5, 6)(7, Window(0, 0, 41, 57))
    for window in [*window_grid(41, 57, 16, 5), Window(40, 56, 1, 1), Window(3, 5, 17, 2)]:
        assert torch.equal(window_noise(window, 6, seed=5, draw=7), window.crop(canvas))


def drawn(seed, channels, draw, height, width):
    return CanvasNoise(seed, channels)(draw, Window(0, 0, height, width))


def test_a_larger_canvas_begins_with_the_smaller_one():
    assert torch.equal(drawn(5, 4, 3, 80, 90)[..., :41, :57], drawn(5, 4, 3, 41, 57))
    assert torch.equal(drawn(5, 16, 3, 9, 9)[:, :6], drawn(5, 6, 3, 9, 9))


@pytest.mark.parametrize("seed", [0, 2**40 + 3])
def test_it_is_standard_normal(seed):
    noise = CanvasNoise(seed, 16)(3, Window(0, 0, 128, 128))
    assert noise.dtype == torch.float32
    values = noise.flatten().double().numpy()
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert abs(values.mean()) < 4 / len(values) ** 0.5
    assert abs(values.var() - 1) < 4 * (2 / len(values)) ** 0.5
    assert abs(stats.kurtosis(values)) < 4 * (24 / len(values)) ** 0.5


def test_everything_it_is_addressed_by_makes_it_independent():
    base = drawn(1, 8, 3, 64, 64)
    others = [drawn(2, 8, 3, 64, 64), drawn(1 + 2**32, 8, 3, 64, 64), drawn(1, 8, 4, 64, 64)]
    others += [base.roll(1, dims=dim) for dim in (1, 2, 3)]
    for other in others:
        assert abs((base * other).mean()) < 5 / base.numel() ** 0.5


def test_a_seed_means_the_same_picture_for_good():
    """Results are promised to be reproducible: these values may only change with a major version."""
    noise = window_noise(Window(2, 3, 1, 2), 4, seed=42, draw=3)
    wanted = [0.56831646, -1.91130567, -0.70475858, 0.45038229, -2.29242492, 0.60337681, 0.57139903, -0.12508643]
    torch.testing.assert_close(noise, torch.tensor(wanted).view(1, 4, 1, 2), rtol=0, atol=1e-6)
