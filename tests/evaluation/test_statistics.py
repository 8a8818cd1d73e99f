"""What is said of the scores of an evaluation, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from small_evaluations import FID, LPIPS, PSNR, SHARPNESS, evaluation_of

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.statistics import summarise


def summary_of(scores, facts=PSNR):
    return summarise(evaluation_of({("m", facts): scores}, metrics=(facts,))).summaries["m", facts.key]


def test_mean_spread_and_counts():
    summary = summary_of([24.0, 26.0, 28.0, None])
    assert (summary.mean, summary.spread) == (26.0, 2.0)
    assert (summary.count, summary.absent, summary.infinite) == (3, 1, 0)
    assert 24 <= summary.interval.low < 26 < summary.interval.high <= 28
    assert summary.seed_spread is None


def test_nan_is_an_absent_score():
    summary = summary_of([24.0, math.nan, 28.0])
    assert (summary.mean, summary.count, summary.absent) == (26.0, 2, 1)


def test_one_picture_has_a_mean_and_nothing_else():
    summary = summary_of([24.0])
    assert (summary.mean, summary.spread, summary.interval) == (24.0, None, None)
    assert (summary.worst, summary.worst_mean) == (("picture_000",), 24.0)


def test_no_picture_has_nothing():
    evaluation = evaluation_of({("m", PSNR): [20.0, 21.0], ("n", PSNR): [None, None]})
    summary = summarise(evaluation).summaries["n", PSNR.key]
    assert (summary.count, summary.absent, summary.mean, summary.worst, summary.worst_mean) == (0, 2, None, (), None)


def test_equal_scores():
    summary = summary_of([27.3] * 5)
    assert (summary.mean, summary.spread, summary.interval.half) == (pytest.approx(27.3), pytest.approx(0), 0)


def test_infinite_scores_stay_out_of_the_mean_and_are_counted():
    summary = summary_of([24.0, math.inf, 28.0])
    assert (summary.mean, summary.count, summary.infinite) == (26.0, 3, 1)
    assert summary.interval.high <= 28
    assert summary.worst == ("picture_000",)
    alone = summary_of([math.inf, math.inf])
    assert (alone.mean, alone.spread, alone.interval, alone.infinite, alone.worst_mean) == (None, None, None, 2, None)


@pytest.mark.parametrize(
    ("facts", "worst", "mean"),
    [
        (PSNR, ("picture_000", "picture_001"), 0.0255),  # the lowest
        (LPIPS, ("picture_039", "picture_038"), 1.9635),  # the highest
        (SHARPNESS, ("picture_000", "picture_039"), 0.9945),  # 0 and 1.989: the farthest from 1 on both sides
    ],
)
def test_the_worst_five_percent(facts, worst, mean):
    summary = summary_of([0.051 * index for index in range(40)], facts)
    assert summary.worst == worst
    assert summary.worst_mean == pytest.approx(mean)


def test_several_seeds_are_averaged_for_each_picture_and_their_spread_is_told():
    seeds = [[20.0, 30.0, 26.0], [22.0, 30.0, None], [24.0, 33.0, None]]
    summary = summary_of(seeds)
    assert summary.mean == pytest.approx((22 + 31 + 26) / 3)
    assert summary.seed_spread == pytest.approx((2 + math.sqrt(3)) / 2)  # the third picture has one seed only
    assert summary.spread == pytest.approx(np.std([22, 31, 26], ddof=1))


def test_a_metric_of_the_whole_set_has_only_seeds_to_differ():
    evaluation = evaluation_of(
        {("m", PSNR): [[20.0, 21.0], [20.0, 21.0]], ("n", PSNR): [20.0, 21.0]},
        metrics=(PSNR, FID),
        whole={("m", 0, "fid"): 120.0, ("m", 1, "fid"): 124.0},
    )
    summaries = summarise(evaluation).summaries
    found = summaries["m", "fid"]
    assert (found.mean, found.interval, found.count) == (122.0, None, 2)
    assert found.seed_spread == pytest.approx(math.sqrt(8))
    assert (summaries["n", "fid"].mean, summaries["n", "fid"].absent) == (None, 2)


def test_the_reference_is_the_first_method_or_the_one_named():
    evaluation = evaluation_of({("a", PSNR): [20.0, 21.0], ("b", PSNR): [22.0, 22.0]})
    assert summarise(evaluation).against_reference("b", PSNR.key).gain == 1.5
    assert summarise(evaluation, "b").against_reference("a", PSNR.key).gain == -1.5
    assert summarise(evaluation).against_reference("a", PSNR.key) is None
    with pytest.raises(UsageError, match="The reference c is none of the methods") as caught:
        summarise(evaluation, "c")
    assert "a, b" in caught.value.hint


def test_the_best_method_beats_each_of_the_others():
    low = np.linspace(20, 30, 40)
    noise = np.random.default_rng(0).normal(0, 1, 40)
    scores = {("a", PSNR): low.tolist(), ("b", PSNR): (low + 1).tolist(), ("c", PSNR): (low + 1 + noise).tolist()}
    assert summarise(evaluation_of(scores)).best(PSNR.key) is None  # b and c cannot be told apart
    scores["c", PSNR] = (low + 0.5).tolist()
    assert summarise(evaluation_of(scores)).best(PSNR.key) == "b"
    assert summarise(evaluation_of({("a", PSNR): low.tolist()})).best(PSNR.key) is None


def test_the_best_method_is_the_lowest_where_lower_is_better():
    high = np.linspace(0.2, 0.6, 40)
    scores = {("a", LPIPS): high.tolist(), ("b", LPIPS): (high - 0.05).tolist()}
    assert summarise(evaluation_of(scores, metrics=(LPIPS,))).best("lpips") == "b"


def test_a_set_without_pictures_or_metrics_of_pictures():
    evaluation = evaluation_of({("m", PSNR): [20.0]}, metrics=(FID,), whole={("m", 0, "fid"): 100.0})
    found = summarise(evaluation)
    assert (found.summaries["m", "fid"].mean, found.comparisons) == (100.0, {})
