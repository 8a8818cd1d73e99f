"""Scores that were computed stay computed, whatever a killed run left at the end of the file."""

from __future__ import annotations

import json
import math

import pytest
from evaluation_sets import Brightness

from xpsr_cli.evaluation.score_store import FILE, Scored, ScoreStore, key_of, metric_identity


@pytest.mark.parametrize("score", [1.0, 27.113456789012345, -0.0, math.inf, -math.inf, 1e-300])
def test_scores_come_back_to_the_last_bit(tmp_path, score):
    ScoreStore(tmp_path).add([Scored("k", score, ("rounded to 8 bits",), {"method": "m"})])
    assert ScoreStore(tmp_path).get("k") == Scored("k", score, ("rounded to 8 bits",))


def test_no_score_is_remembered_too_and_every_line_is_json(tmp_path):
    ScoreStore(tmp_path).add([Scored("k", math.nan)])
    assert math.isnan(ScoreStore(tmp_path).get("k").score)

    def refuse(word):
        raise AssertionError(word)

    for line in (tmp_path / FILE).read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_line_counts_for_nothing_and_the_next_one_counts(tmp_path, cut):
    ScoreStore(tmp_path).add([Scored("a", 1.0), Scored("b", 2.0)])
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-cut])
    store = ScoreStore(tmp_path)
    assert store.get("a").score == 1.0
    store.add([Scored("c", 3.0)])
    again = ScoreStore(tmp_path)
    assert (again.get("a").score, again.get("c").score) == (1.0, 3.0)
    assert (again.get("b") is None) == (cut > 1)


def test_lines_that_make_no_sense_are_passed_over(tmp_path):
    (tmp_path / FILE).write_bytes(b'[]\n"a"\n{"key": 1}\n{"score": 1}\n\xff\xfe\n{"key": "k", "score": 2}\n')
    assert ScoreStore(tmp_path).get("k").score == 2


def test_another_version_of_a_metric_has_other_keys():
    same, other = Brightness(version="1"), Brightness(version="2")
    assert metric_identity(Brightness()) == metric_identity(same) != metric_identity(other)


def test_the_key_knows_which_file_is_which():
    keys = {key_of("m", files) for files in (["x", "y"], ["y", "x"], ["x"], ["x", None], ["x", "y", None])}
    assert len(keys) == 5
