"""Plots of evaluations: small, readable in light and dark, with the words of the metrics, and safe on a page."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from small_evaluations import FID, LPIPS, PSNR, evaluation_of

from xpsr_cli.evaluation.metric import Better, MetricFacts
from xpsr_cli.evaluation.plots import (
    COLOURS,
    MOST_POINTS,
    box_plots,
    first_perceptual,
    overview_plots,
    scatter_metrics,
    with_own_ids,
)
from xpsr_cli.evaluation.statistics import summarise

NASTY = "<script>alert(1)</script> & --> é"
SVG = "{http://www.w3.org/2000/svg}"


def evaluation(count=40, methods=("old", "new"), metrics=(PSNR, LPIPS)):
    generator = np.random.default_rng(0)
    scores = {(method, facts): generator.random(count).tolist() for method in methods for facts in metrics}
    return evaluation_of(scores, metrics=metrics)


def drawn(made):
    statistics = summarise(made)
    return overview_plots(made, statistics), box_plots(made, statistics)


@pytest.fixture(scope="module")
def plots():
    return drawn(evaluation())


def words(plot):
    return ["".join(text.itertext()).strip() for text in ElementTree.fromstring(plot.svg).iter(f"{SVG}text")]


def test_there_is_a_plot_of_each_kind(plots):
    overview, boxes = plots
    assert [plot.title for plot in overview] == ["PSNR against LPIPS", "new against old"]
    assert [plot.title for plot in boxes] == ["PSNR, dB ↑ (osediff)", "LPIPS ↓"]


def test_labels_are_letters_in_the_words_of_the_metrics_with_the_better_direction(plots):
    (scatter, wins), (psnr, lpips) = plots
    assert {"PSNR, dB ↑ (osediff)", "LPIPS ↓", "old", "new"} <= set(words(scatter))
    assert {"PSNR, dB ↑ (osediff)", "LPIPS ↓", "pictures won, %"} <= set(words(wins))
    assert {"old", "new", "PSNR, dB ↑ (osediff)"} <= set(words(psnr))
    assert "Better pictures lie to the bottom right." in scatter.about


def test_ink_is_that_of_the_page_and_nothing_is_painted_behind(plots):
    for plot in (*plots[0], *plots[1]):
        assert "currentColor" in plot.svg
        assert "#123456" not in plot.svg
        assert not re.search(r"fill: ?#(fff|000)", plot.svg)
        assert "<style" not in plot.svg  # it would hold for the whole page


def test_methods_differ_in_more_than_colour(plots):
    scatter = plots[0][0].svg
    assert COLOURS[0] in scatter
    assert COLOURS[1] in scatter
    shapes = {path.get("d") for path in ElementTree.fromstring(scatter).iter(f"{SVG}path") if path.get("id")}
    assert len({re.sub(r"[-\d.\s]+", "", shape) for shape in shapes if "z" in shape}) > 1


def test_plots_are_small_whatever_the_number_of_pictures():
    overview, boxes = drawn(evaluation(count=3000))
    assert all(len(plot.svg) < 120_000 for plot in (*overview, *boxes))
    points = len(re.findall("<use ", overview[0].svg))
    assert 2 * MOST_POINTS <= points < 2 * MOST_POINTS + 60


def test_every_picture_is_a_point_where_there_are_few(plots):
    assert 80 <= len(re.findall("<use ", plots[0][0].svg)) < 120


def test_names_are_only_text():
    overview, boxes = drawn(evaluation(methods=("old", NASTY)))
    for plot in (*overview, *boxes):
        assert "<script" not in plot.svg
        ElementTree.fromstring(plot.svg)


def test_dollars_in_names_are_dollars():
    overview, boxes = drawn(evaluation(methods=("old", "$x^2$")))
    assert "$x^2$" in words(overview[0])
    assert "$x^2$" in words(boxes[0])


def test_ids_of_two_plots_can_be_told_apart(plots):
    one, two = (with_own_ids(plots[1][0].svg, prefix) for prefix in ("a-", "b-"))
    ids = re.findall(r'\sid="([^"]*)"', one)
    assert ids
    assert all(name.startswith("a-") for name in ids)
    assert not set(ids) & set(re.findall(r'\sid="([^"]*)"', two))
    for used in re.findall(r'href="#([^"]*)"', one) + re.findall(r"url\(#([^)]*)\)", one):
        assert used in ids


def test_the_bars_end_at_the_win_rate():
    made = evaluation_of({("old", PSNR): [20.0] * 4, ("new", PSNR): [21.0, 21.0, 21.0, 19.0]}, metrics=(PSNR,))
    (wins,), _ = drawn(made)
    numbers = dict(re.findall(r'<text[^>]*x="([\d.]+)"[^>]*>(0|100)</text>', wins.svg))
    (zero, full) = sorted(float(place) for place in numbers)
    bar = max(
        float(x)
        for path in re.findall(r'<path d="([^"]*)" clip-path[^>]*style="fill: #d55e00', wins.svg)
        for x in re.findall(r"L ([\d.]+)", path)
    )
    assert (bar - zero) / (full - zero) == pytest.approx(0.75, abs=0.01)


def test_the_most_trusted_perceptual_metric_is_taken():
    niqe = MetricFacts("niqe", "NIQE", Better.LOWER, 3)
    gmsd = MetricFacts("gmsd", "GMSD", Better.LOWER, 4)
    assert first_perceptual((PSNR, gmsd, niqe)) is niqe
    assert first_perceptual((gmsd, niqe, LPIPS)) is LPIPS
    assert first_perceptual((PSNR, FID)) is None
    rgb = MetricFacts("psnr", "PSNR", Better.HIGHER, 2, "dB", "rgb")
    assert scatter_metrics((PSNR, rgb, gmsd)) == (PSNR, gmsd)
    assert scatter_metrics((gmsd,)) is None


def test_what_has_no_scores_is_not_drawn():
    nothing = evaluation_of({("m", PSNR): [None, 20.0], ("m", LPIPS): [0.1, None]}, metrics=(PSNR, LPIPS))
    overview, boxes = drawn(nothing)
    assert overview == []  # no picture has both scores, and there is nobody to win against
    assert len(boxes) == 2
    assert (
        drawn(evaluation_of({("m", PSNR): [None], ("n", LPIPS): [0.1]}, metrics=(PSNR, LPIPS)))[1][0].title
        == "LPIPS ↓"
    )


def test_one_picture_and_an_infinite_score_can_be_drawn():
    scores = {("m", PSNR): [float("inf"), 30.0], ("m", LPIPS): [0.0, 0.1]}
    overview, boxes = drawn(evaluation_of(scores, metrics=(PSNR, LPIPS)))
    assert (len(overview), len(boxes)) == (1, 2)
