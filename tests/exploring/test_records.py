"""``explore.json`` and the question whether a file is already the answer."""

import json
import math
from dataclasses import replace

import pytest

from xpsr_cli.exploring.diversity import Diversity
from xpsr_cli.exploring.records import (
    Agreement,
    ExplorationRecord,
    PromptRecord,
    SampleRecord,
    is_same_work,
    results_of,
    sample_name,
    summary,
    with_results,
)

MANIFEST = {"xpsr": "1", "seed": 3, "settings": {"prompt": "a house", "size": (4, 4)}}


def samples():
    figures = [(30.0, 61.0, 0.02), (40.0, 59.5, 0.01), (35.0, math.inf, 0.05)]
    return [SampleRecord(sample_name(1, n), n, Agreement(*values)) for n, values in enumerate(figures)]


def test_names_say_prompt_and_seed():
    assert sample_name(2, 17) == "prompt2-seed17.png"


def test_the_summary_is_the_worst_file_and_the_middle_of_the_rest():
    assert summary(samples()) == {
        "samples": 3,
        "median_raw_db": 35.0,
        "lowest_final_db": 59.5,
        "median_repair_rms": 0.02,
        "obeying": None,
    }


def test_the_summary_counts_those_that_fit_their_prompt_best():
    verdicts = zip(samples(), (True, False, None), strict=True)
    judged = [replace(sample, text_score=0.3, obeys=obeys) for sample, obeys in verdicts]
    assert summary(judged)["obeying"] == 0.5
    assert judged[0].to_dict()["text_score"] == 0.3


def test_the_record_is_json_whatever_the_figures():
    row = PromptRecord(1, "a house", ("house",), tuple(samples()), Diversity(0.1, 0.2))
    record = ExplorationRecord({"name": "a.png"}, {"width": 8}, {"model": "m"}, {"steps": 5}, (row,))
    read = json.loads(json.dumps(record.to_dict(), allow_nan=False))
    assert read["prompts"][0]["samples"][2]["final_db"] is None
    assert read["prompts"][0]["samples"][0] == {
        "file": "prompt1-seed0.png",
        "seed": 0,
        "raw_db": 30.0,
        "final_db": 61.0,
        "repair_rms": 0.02,
        "text_score": None,
        "obeys": None,
    }
    assert read["prompts"][0]["diversity"] == {"std": 0.1, "distance": 0.2}
    assert read["prompts"][0]["unknown_words"] == ["house"]


@pytest.mark.parametrize("raw_db", [33.25, math.inf])
def test_a_file_with_the_same_request_is_the_answer(raw_db):
    read = json.loads(json.dumps(with_results(MANIFEST, Agreement(raw_db, 60.0, 0.01))))
    assert is_same_work(read, MANIFEST)
    assert results_of(read) == (raw_db, 0.01)


@pytest.mark.parametrize(
    "found",
    [
        None,
        MANIFEST,
        with_results({**MANIFEST, "seed": 4}, Agreement(30, 60, 0.01)),
        with_results({**MANIFEST, "more": 1}, Agreement(30, 60, 0.01)),
        {**with_results(MANIFEST, Agreement(30, 60, 0.01)), "command": "upscale"},
        {**with_results(MANIFEST, Agreement(30, 60, 0.01)), "results": "good"},
        {**with_results(MANIFEST, Agreement(30, 60, 0.01)), "results": {"raw_db": 30}},
        {**with_results(MANIFEST, Agreement(30, 60, 0.01)), "results": {"repair_rms": 30, "raw_db": "high"}},
    ],
)
def test_any_other_file_is_not(found):
    assert not is_same_work(found, MANIFEST)
