"""The tables of the terminal and of the page: what they say of methods, and what they do not."""

import math
from dataclasses import replace

import numpy as np
import pytest
from small_evaluations import FID, LPIPS, PSNR, SHARPNESS, evaluation_of

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.report import summary_tables
from xpsr_cli.evaluation.statistics import summarise
from xpsr_cli.evaluation.tables import MOST_COLUMNS, detail_table, heading, number, p_value

BASE = np.linspace(20, 30, 40)


def two_methods(shift, **more):
    scores = {("old", PSNR): BASE.tolist(), ("new", PSNR): (BASE + shift).tolist()}
    return evaluation_of(scores, **more)


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_a_row_per_method_and_a_column_per_metric():
    scores = {("old", PSNR): [20.0, 30.0], ("old", LPIPS): [0.1, 0.1], ("new", LPIPS): [0.2, 0.4]}
    evaluation = evaluation_of(scores, metrics=(PSNR, LPIPS, FID), whole={("new", 0, "fid"): 101.256})
    means = summary_tables(evaluation)[0]
    assert means.columns == ("Method", "PSNR, dB ↑ (osediff)", "LPIPS ↓", "FID ↓")
    assert texts(means) == [
        ["old", "25.00 ± 5.00", "0.1000 ± 0.0000", "–"],
        ["new", "–", "0.3000 ± 0.1000", "101.26"],
    ]
    assert "new: 0 of 2 pictures have PSNR, dB ↑ (osediff)." in means.notes
    assert means.title == "somewhere: 2 pictures, enlarged 4 times"
    assert any(note.startswith("FID ↓: one value of all pictures") for note in means.notes)
    assert "osediff: luma (Y of BT.601 limited range, 16 to 235), border kept" in "\n".join(means.notes)


def test_means_over_some_of_the_pictures_say_so_beside_the_number():
    scores = {("half", PSNR): [30.0, 30.0, None, None], ("all", PSNR): [30.0, 30.0, 20.0, 20.0]}
    scores |= {(method, LPIPS): values for (method, _), values in list(scores.items())}
    means = summary_tables(evaluation_of(scores, metrics=(PSNR, LPIPS)))[0]
    assert texts(means)[0] == ["half", "30.00 ± 0.00 (2 of 4)", "30.0000 ± 0.0000 (2 of 4)"]
    assert "of 4" not in "".join(texts(means)[1])
    (note,) = [note for note in means.notes if note.startswith("half:")]
    assert note == "half: 2 of 4 pictures have PSNR, dB ↑ (osediff), LPIPS ↓; the means are over these alone."


def test_a_metric_that_no_picture_has_is_no_column_of_dashes():
    scores = {("m", PSNR): [20.0, 21.0], ("m", LPIPS): [None, None]}
    means = summary_tables(evaluation_of(scores, metrics=(PSNR, LPIPS)))[0]
    assert means.columns == ("Method", "PSNR, dB ↑ (osediff)")
    assert "No picture of any method has LPIPS ↓." in means.notes


@pytest.mark.parametrize(("count", "told"), [(5, True), (6, False)])
def test_too_few_pictures_to_decide_are_told(count, told):
    scores = {("old", PSNR): [20.0 + i for i in range(count)], ("new", PSNR): [21.0 + 1.1 * i for i in range(count)]}
    against = summary_tables(evaluation_of(scores))[1]
    assert any("With so few pictures no p is below 0.06" in note for note in against.notes) == told
    assert texts(against)[0][-1] == ("not told apart" if told else "better")


def test_many_metrics_stand_below_one_another():
    protocols = [f"p{index}" for index in range(MOST_COLUMNS + 1)]
    metrics = tuple(replace(PSNR, protocol=name) for name in protocols)
    scores = {(method, facts): (BASE + shift).tolist() for method, shift in (("a", 0), ("b", 1)) for facts in metrics}
    means = summary_tables(evaluation_of(scores, metrics=metrics))[0]
    assert means.columns == ("Metric", "a", "b")
    assert [row[0].text for row in means.rows] == [f"PSNR, dB ↑ ({name})" for name in protocols]
    assert [(row[1].text[:5], row[2].text[:5], row[2].best) for row in means.rows] == [("25.00", "26.00", True)] * 8
    assert summary_tables(evaluation_of(scores, metrics=metrics[:-1]))[0].columns[0] == "Method"


def test_the_best_one_is_marked_where_it_is_more_than_chance():
    means, against = summary_tables(two_methods(0.2))
    assert [row[1].best for row in means.rows] == [False, True]
    assert means.rows[1][1].text.endswith(" *")
    assert any(note.startswith("* Better than every other method") for note in means.notes)
    assert texts(against)[0][-1] == "better"


def test_nothing_is_marked_where_it_could_be_chance():
    means, against = summary_tables(two_methods(np.random.default_rng(0).normal(0, 1, 40)))
    assert not any(cell.best for row in means.rows for cell in row)
    assert not any("*" in cell.text for row in means.rows for cell in row)
    assert not any(note.startswith("*") for note in means.notes)
    assert texts(against)[0][-1] == "not told apart"


def test_the_comparison_has_gains_intervals_wins_and_p():
    scores = {("old", LPIPS): [0.5, 0.5, 0.5, None], ("new", LPIPS): [0.4, 0.5, 0.6, 0.1]}
    (row,) = texts(summary_tables(evaluation_of(scores, metrics=(LPIPS,)))[1])
    assert row[:4] == ["new", "LPIPS ↓", "3 of 4", "0.0000"]
    assert row[4].startswith("-0.")
    assert row[5:] == ["50%", "1.00", "not told apart"]


def test_the_reference_can_be_named():
    against = summary_tables(two_methods(0.2), "new")[1]
    assert against.title == "Against new, picture by picture"
    assert texts(against)[0][0] == "old"
    assert texts(against)[0][-1] == "worse"
    with pytest.raises(UsageError):
        summary_tables(two_methods(0.2), "nobody")


def test_one_method_is_compared_with_nothing():
    assert len(summary_tables(evaluation_of({("only", PSNR): [20.0, 21.0]}))) == 1


def test_published_numbers_are_in_none_of_them():
    tables = summary_tables(two_methods(0.2, dataset="realsr"))
    assert not any("SeeSR" in cell.text for table in tables for row in table.rows for cell in row)


def test_pictures_that_equal_their_originals_are_told():
    means = summary_tables(evaluation_of({("same", PSNR): [math.inf, math.inf], ("near", PSNR): [40.0, math.inf]}))[0]
    assert [row[1].text for row in means.rows] == ["∞", "40.00"]
    assert any(note.startswith("same: 2 pictures equal their originals") for note in means.notes)
    assert any(note.startswith("near: 1 picture equals its original") for note in means.notes)
    against = summary_tables(evaluation_of({("a", PSNR): [30.0, 30.0], ("b", PSNR): [math.inf, 40.0]}))[1]
    assert texts(against)[0][3] == "+10.00"
    assert any("its gain is left out of the mean" in note for note in against.notes)


def test_the_spread_between_seeds_is_told():
    made = evaluation_of({("fixed", PSNR): [20.0, 21.0], ("drawn", PSNR): [[20.0, 30.0], [21.0, 31.0], [22.0, 32.0]]})
    notes = [note for note in summary_tables(made)[0].notes if "seeds" in note]
    assert notes == ["drawn: 3 seeds; standard deviation between those of one picture: PSNR, dB ↑ (osediff) 1.00."]


def test_the_details_name_the_worst_pictures():
    evaluation = evaluation_of({("m", SHARPNESS): np.linspace(0.1, 1, 100).tolist()}, metrics=(SHARPNESS,))
    (row,) = texts(detail_table(evaluation, summarise(evaluation)))
    assert row[0] == "sharpness → 1"
    assert row[-1] == "picture_000, picture_001, picture_002 and 2 more"


def test_words_and_numbers():
    assert heading(PSNR) == "PSNR, dB ↑ (osediff)"
    assert [number(value, PSNR) for value in (None, math.inf, 3.14159)] == ["–", "∞", "3.14"]
    assert [number(gain, PSNR, signed=True) for gain in (0.5, -0.5, 0.0, -0.0, -0.001)] == [
        "+0.50",
        "-0.50",
        "0.00",
        "0.00",
        "0.00",
    ]
    assert [p_value(p) for p in (0.00001, 0.0012345, 0.049, 1)] == ["< 0.0001", "0.0012", "0.05", "1.00"]
