"""Operators: equal to Pillow, exactly invertible, optimal, and exact in the 8-bit file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.operators import Operator, ResizeFilter

PILLOW = {
    ResizeFilter.BICUBIC: Image.Resampling.BICUBIC,
    ResizeFilter.AREA: Image.Resampling.BOX,
    ResizeFilter.BILINEAR: Image.Resampling.BILINEAR,
    ResizeFilter.LANCZOS: Image.Resampling.LANCZOS,
}
SIZES = [
    ((64, 96), (32, 48)),
    ((64, 64), (16, 16)),
    ((128, 120), (16, 15)),
    ((256, 256), (8, 8)),
    ((96, 64), (31, 20)),
]
KINDS = pytest.mark.parametrize("kind", list(ResizeFilter))
LARGE_AND_SMALL = pytest.mark.parametrize(("large", "small"), SIZES)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@KINDS
@LARGE_AND_SMALL
def test_reduces_as_pillow_does(kind, large, small):
    x = random(*large)
    expected = Image.fromarray(x.numpy()).resize(small[::-1], PILLOW[kind])
    assert np.abs(Operator(large, small, kind)(x).numpy() - np.asarray(expected)).max() < 1e-5


@KINDS
@LARGE_AND_SMALL
def test_its_inverse_is_exact(kind, large, small):
    operator, y = Operator(large, small, kind), random(3, *small)
    assert (operator(operator.inverse(y)) - y).abs().max() < 1e-5


@KINDS
def test_its_inverse_is_the_smallest_one(kind):
    operator = Operator((31, 24), (10, 6), kind)
    full = torch.kron(operator._rows.matrix, operator._columns.matrix)
    y = random(10, 6).double()
    expected = (torch.linalg.pinv(full) @ y.flatten()).reshape(31, 24)
    assert (operator.inverse(y) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("gamma", [1e-3, 0.7, 30.0, 1e4])
def test_a_correction_is_optimal(gamma):
    operator = Operator((48, 40), (12, 9))
    x, y = random(3, 48, 40), random(3, 12, 9, seed=1)
    found = operator.correct(x, y, gamma)
    rows, columns = operator._rows.matrix, operator._columns.matrix
    pull = rows.T @ (operator(found).double() - y) @ columns
    gradient = (found - x).double() + gamma * pull
    assert gradient.abs().max() < 1e-5 * max(1.0, gamma)


def test_a_correction_of_no_weight_changes_nothing_and_one_of_all_weight_projects():
    operator = Operator((48, 40), (12, 9))
    x, y = random(3, 48, 40), random(3, 12, 9, seed=1)
    assert torch.equal(operator.correct(x, y, 0), x)
    assert (operator.correct(x, y, 1e-7) - x).abs().max() < 1e-5
    projected = operator.correct(x, y)
    assert (operator.correct(x, y, 1e9) - projected).abs().max() < 1e-5
    assert (projected - (x + operator.inverse(y - operator(x)))).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
@pytest.mark.parametrize("kind", [ResizeFilter.BICUBIC, ResizeFilter.AREA])
def test_a_finished_picture_agrees_in_its_8_bits(kind, scale):
    """The picture that is corrected is another one, with black and white in it."""
    operator = Operator((128, 128), (128 // scale, 128 // scale), kind)
    truth = (2 * random(3, 128, 128) - 0.5).clamp(0, 1)
    y = (operator(truth).clamp(0, 1) * 255).round() / 255
    start = (2 * random(3, 128, 128, seed=5) - 0.5).clamp(0, 1)
    finished = operator.finish(start, y)
    assert finished.dtype == torch.uint8
    assert operator.agreement(finished, y) >= 50


def test_a_small_picture_that_no_large_one_gives_ends_the_rounds():
    operator = Operator((32, 32), (8, 8))
    y = torch.zeros(3, 8, 8)
    y[:, ::2, ::2] = 1  # sharper than the filter lets through
    finished = operator.finish(random(3, 32, 32), y)
    assert math.isfinite(operator.agreement(finished, y))


def test_an_enlargement_is_refused():
    with pytest.raises(UsageError, match="16 x 8 pixels cannot be reduced to 4 x 9"):
        Operator((8, 16), (9, 4))
