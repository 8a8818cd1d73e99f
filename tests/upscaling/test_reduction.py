"""Reduction by taps: the operator of exploration, its transpose, and the inverse of both, along one side."""

from __future__ import annotations

import pytest
import torch

from xpsr_cli.exploring.operators import ResizeFilter, resize_matrix
from xpsr_cli.upscaling.reduction import Reduction

SIDES = [(64, 16), (400, 100), (803, 200), (150, 100), (110, 100), (101, 100), (402, 400), (100, 100), (17, 16)]
LARGE_AND_SMALL = pytest.mark.parametrize(("large", "small"), SIDES)


def dense(axis, length):
    """An axis of ``length`` inputs as a matrix."""
    weights, _ = axis.taps()
    return axis(torch.eye(length), 0, torch.arange(len(weights)), -2)


@LARGE_AND_SMALL
def test_it_is_the_reduction_of_exploration(large, small):
    wanted = torch.from_numpy(resize_matrix(large, small, ResizeFilter.BICUBIC)).float()
    assert (dense(Reduction(large, small).reduce, large) - wanted).abs().max() < 1e-6


@LARGE_AND_SMALL
def test_its_transpose_is_exact(large, small):
    reduction = Reduction(large, small)
    assert torch.equal(dense(reduction.spread, small), dense(reduction.reduce, large).T)


@LARGE_AND_SMALL
def test_its_inverse_is_exact_to_the_sides_of_the_picture(large, small):
    reduction = Reduction(large, small)
    matrix, inverse = dense(reduction.reduce, large).double(), dense(reduction.solve, small).double()
    assert (matrix @ matrix.T @ inverse - torch.eye(small)).abs().max() < 1e-5


@pytest.mark.parametrize(("large", "small"), [(400, 100), (803, 200), (110, 100)])
def test_the_inverse_reaches_a_few_pixels(large, small):
    weights, _ = Reduction(large, small).solve.taps()
    assert weights.shape[1] <= 2 * 13 + 1
