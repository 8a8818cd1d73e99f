"""Intervals of means and of shares: those of scipy, and sensible where there is little to tell from."""

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from xpsr_cli.evaluation.intervals import RESAMPLES, bootstrap_intervals, wilson_interval


def test_the_bootstrap_is_the_percentile_one_of_scipy():
    values = np.random.default_rng(3).gamma(2.0, size=60)  # skewed: the percentile interval is not symmetric
    (found,) = bootstrap_intervals(values[:, None])
    expected = bootstrap((values,), np.mean, n_resamples=100_000, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.03 * width)
    assert found.high == pytest.approx(expected.high, abs=0.03 * width)
    assert found.half == pytest.approx(width / 2, rel=0.03)
    assert found.high - values.mean() > values.mean() - found.low
    assert RESAMPLES == 10_000


def test_the_same_scores_give_the_same_interval():
    values = np.random.default_rng(0).normal(size=(20, 1))
    assert bootstrap_intervals(values) == bootstrap_intervals(values)


def test_columns_do_not_disturb_one_another_and_see_the_same_resamples():
    values = np.random.default_rng(0).normal(30, 2, size=25)
    table = np.column_stack([values, values + 5, -values])
    one, higher, turned = bootstrap_intervals(table)
    assert bootstrap_intervals(table[:, :1])[0].low == pytest.approx(one.low)
    assert (higher.low, higher.high) == pytest.approx((one.low + 5, one.high + 5))
    assert (turned.low, turned.high) == pytest.approx((-one.high, -one.low))


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_absent(hole):
    values = np.random.default_rng(0).normal(size=40)
    holes = np.where(np.arange(40) % 2, hole, values)
    (found,) = bootstrap_intervals(holes[:, None])
    (expected,) = bootstrap_intervals(values[::2, None])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.08)


def test_too_few_values_have_no_interval_and_equal_ones_one_without_width():
    table = np.array([[27.1, 27.1, np.nan], [np.nan, 27.1, np.nan], [np.nan, 27.1, np.nan]])
    one, equal, none = bootstrap_intervals(table)
    assert one is None
    assert none is None
    assert (equal.low, equal.high) == (27.1, 27.1)


@pytest.mark.parametrize(("wins", "count"), [(0, 10), (3, 10), (10, 10), (61, 100), (1, 1)])
def test_shares_have_the_interval_of_wilson(wins, count):
    expected = binomtest(wins, count).proportion_ci(method="wilson")
    found = wilson_interval(wins, count)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
