"""Which of two methods is better: scipy's p, Holm's correction by hand, and every direction of a metric."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon
from small_evaluations import LPIPS, PSNR, SHARPNESS

from xpsr_cli.evaluation.paired import compare_methods, gains, holm, rank_biserial, signed_rank_p


def compare(facts, scores, others):
    table = {("new", facts.key): np.array(scores, float), ("old", facts.key): np.array(others, float)}
    return compare_methods(("new", "old"), [facts], table)["new", "old", facts.key]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x 0.01, then 2 x 0.03, not less after it
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_p_is_that_of_scipy_and_counts_no_absent_picture():
    generator = np.random.default_rng(5)
    old = generator.normal(27, 3, 60)
    new = old + generator.normal(0.2, 0.6, 60)
    comparison = compare(PSNR, new, old)
    assert comparison.p == wilcoxon(new - old).pvalue
    assert 0 < comparison.p < 0.2
    some = np.where(np.arange(60) < 45, new, np.nan)
    assert compare(PSNR, some, old).p == wilcoxon((new - old)[:45]).pvalue


def test_gain_wins_and_their_counts_by_hand():
    comparison = compare(PSNR, [30, 31, 25, 20, None, 3], [29, 30, 25, 21, 20, None])
    assert (comparison.count, comparison.left_out) == (4, 2)
    assert (comparison.wins, comparison.ties, comparison.losses) == (2, 1, 1)
    assert comparison.win_rate == 2.5 / 4
    assert comparison.gain == pytest.approx((1 + 1 + 0 - 1) / 4)
    assert comparison.interval.low < comparison.gain < comparison.interval.high


def test_a_picture_that_both_lack_is_not_left_out_of_the_pair():
    comparison = compare(PSNR, [30, None, 25], [29, None, None])
    assert (comparison.count, comparison.left_out) == (1, 1)


def test_lower_is_better_turns_the_gain():
    comparison = compare(LPIPS, [0.1, 0.2, 0.3], [0.2, 0.3, 0.1])
    assert comparison.gain == pytest.approx((0.1 + 0.1 - 0.2) / 3)
    assert (comparison.wins, comparison.losses) == (2, 1)


def test_near_one_counts_the_distance_and_not_the_value():
    comparison = compare(SHARPNESS, [1.1, 0.9, 1.5], [0.8, 1.3, 1.1])
    assert comparison.gain == pytest.approx((0.1 + 0.2 - 0.4) / 3)
    assert (comparison.wins, comparison.losses) == (2, 1)


def test_both_ways_round_are_mirrored():
    generator = np.random.default_rng(1)
    table = {("a", "lpips"): generator.random(30), ("b", "lpips"): generator.random(30)}
    found = compare_methods(("a", "b"), [LPIPS], table)
    there, back = found["a", "b", "lpips"], found["b", "a", "lpips"]
    assert there.gain == pytest.approx(-back.gain)
    assert (there.interval.low, there.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))
    assert (there.wins, there.losses, there.p_holm) == (back.losses, back.wins, back.p_holm)
    assert there.rank_biserial == pytest.approx(-back.rank_biserial)


def test_the_correction_is_over_all_pairs_and_metrics():
    generator = np.random.default_rng(2)
    table = {(method, facts.key): generator.random(20) for method in "abc" for facts in (PSNR, LPIPS)}
    found = compare_methods(("a", "b", "c"), [PSNR, LPIPS], table)
    assert len(found) == 12  # three pairs under two metrics, both ways round
    once = [found[pair] for pair in found if pair[0] < pair[1]]
    assert [comparison.p_holm for comparison in once] == holm([comparison.p for comparison in once])
    smallest = min(once, key=lambda comparison: comparison.p)
    assert smallest.p_holm == pytest.approx(min(1, 6 * smallest.p))


def test_a_verdict_needs_more_than_chance():
    old = np.linspace(20, 30, 40)
    sure = compare(PSNR, old + 0.1, old)
    assert sure.verdict == "better"
    assert compare(PSNR, old - 0.1, old).verdict == "worse"
    assert compare(PSNR, old + np.where(np.arange(40) % 2, 0.1, -0.1), old).verdict == ""


def test_no_verdict_where_the_mean_and_the_ranks_disagree():
    old = np.full(40, 20.0)
    steps = np.array([0.1] * 35 + [-30.0] * 5) + np.arange(40) * 1e-3
    comparison = compare(PSNR, old + steps, old)
    assert comparison.gain < 0 < comparison.rank_biserial
    assert comparison.p_holm < 0.05
    assert comparison.verdict == ""


def test_one_picture_and_equal_ones_decide_nothing():
    alone = compare(PSNR, [30], [20])
    assert (alone.gain, alone.interval, alone.p, alone.verdict) == (10, None, 1.0, "")
    equal = compare(PSNR, [30, 31, 32], [30, 31, 32])
    assert (equal.gain, equal.p, equal.win_rate, equal.rank_biserial) == (0, 1.0, 0.5, 0)
    assert (equal.interval.low, equal.interval.high) == (0, 0)


def test_rounding_is_a_tie():
    comparison = compare(LPIPS, [0.3, 0.1 + 0.2], [0.1 + 0.2, 0.3])
    assert comparison.ties == 2


def test_infinite_scores_win_but_have_no_mean():
    comparison = compare(PSNR, [math.inf, math.inf, 30], [30, math.inf, 29])
    assert (comparison.wins, comparison.ties, comparison.losses) == (2, 1, 0)
    assert comparison.gain == 0.5  # of the tie and of 30 against 29
    assert compare(PSNR, [math.inf] * 8, [30] * 8).gain is None
    assert compare(PSNR, [math.inf] * 8, list(range(8))).verdict == "better"
    assert signed_rank_p(np.array([math.inf, -1, -2, -3, -4, -5])) == wilcoxon([6, -1, -2, -3, -4, -5]).pvalue


def test_methods_without_a_picture_in_common_are_not_compared():
    table = {("a", PSNR.key): np.array([1.0, np.nan]), ("b", PSNR.key): np.array([np.nan, 1.0])}
    assert compare_methods(("a", "b"), [PSNR], table) == {}


def test_gains_of_what_is_missing_are_missing():
    assert np.isnan(gains(PSNR, np.array([math.nan, 1.0]), np.array([1.0, math.nan]))).all()


def test_rank_biserial_by_hand():
    assert rank_biserial(np.array([1.0, 2.0, -3.0, 0.0])) == pytest.approx((1 + 2 - 3) / 6)
    assert rank_biserial(np.array([1.0, 2.0, 3.0])) == 1
