"""The worst and the best pictures: chosen by their scores, shown next to what they are compared with."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from small_evaluations import LPIPS, PSNR, SHARPNESS, evaluation_of, with_files

from xpsr_cli.evaluation.cases import MOST_CASES, SIDE_PX, Case, case_metrics, case_pictures, choose_cases
from xpsr_cli.evaluation.scores import Pair
from xpsr_cli.evaluation.statistics import summarise


def chosen(evaluation):
    return choose_cases(evaluation, summarise(evaluation))


def save(path, shape, value):
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def files(tmp_path):
    """An evaluation of two methods on one picture, scale 4; the results have grey 10 and 20, the photos 30 and 40."""

    def make(width=160, height=96, seeds=1):
        scores = {("old", PSNR): [20.0], ("new", PSNR): [[21.0]] * seeds}
        pair = Pair(
            "picture_000",
            save(tmp_path / "lr.png", (height // 4, width // 4), 40),
            save(tmp_path / "hr.png", (height, width), 30),
        )
        results = {("old", 0, "picture_000"): save(tmp_path / "old.png", (height, width), 10)}
        results["new", seeds - 1, "picture_000"] = save(tmp_path / "new.png", (height, width), 20)
        return with_files(evaluation_of(scores), [pair], results)

    return make


def pictures_of(evaluation, method="new"):
    case = Case(evaluation.set.pairs[0], method)
    found = case_pictures(evaluation, summarise(evaluation), case)
    return {name: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for name, data in found}


def test_the_worst_and_the_best_come_first_and_the_next_ones_after_them():
    scores = [25.0, 21.0, 29.0, 22.0, 28.0, 24.0, 26.0]
    cases = chosen(evaluation_of({("m", PSNR): scores}))
    assert [case.pair.name[-1] for case in cases] == ["1", "2", "3", "4", "5", "6"]
    assert cases[0].why == "worst PSNR, dB ↑ (osediff): m 21.00"
    assert cases[3].why == "second best PSNR, dB ↑ (osediff): m 28.00"


def test_by_the_perceptual_metric_first_and_by_psnr_in_its_direction():
    scores = {("m", PSNR): [20.0, 30.0], ("m", LPIPS): [0.1, 0.4], ("m", SHARPNESS): [0.5, 1.0]}
    evaluation = evaluation_of(scores, metrics=(PSNR, SHARPNESS, LPIPS))
    assert case_metrics(evaluation) == [LPIPS, PSNR]
    one, other = chosen(evaluation)
    assert (one.pair.name, one.why) == ("picture_001", "worst LPIPS ↓: m 0.4000; best PSNR, dB ↑ (osediff): m 30.00")
    assert other.pair.name == "picture_000"


def test_without_either_it_is_the_first_metric():
    evaluation = evaluation_of({("m", SHARPNESS): [0.5, 1.0]}, metrics=(SHARPNESS,))
    assert chosen(evaluation)[0].why == "worst sharpness → 1: m 0.500"


def test_a_picture_is_shown_once_for_all_methods():
    scores = {("a", PSNR): [20.0, 30.0], ("b", PSNR): [21.0, 31.0]}
    worst, best = chosen(evaluation_of(scores))
    assert worst.why == "worst PSNR, dB ↑ (osediff): a 20.00, b 21.00"
    assert (worst.method, best.pair.name) == ("a", "picture_001")


def test_there_are_not_too_many():
    generator = np.random.default_rng(0)
    scores = {(method, facts): generator.random(200).tolist() for method in "abcdef" for facts in (PSNR, LPIPS)}
    cases = chosen(evaluation_of(scores, metrics=(PSNR, LPIPS)))
    assert len(cases) == MOST_CASES
    assert len({case.pair.name for case in cases}) == MOST_CASES


def test_absent_scores_are_no_cases_and_infinite_ones_are_the_best():
    cases = chosen(evaluation_of({("m", PSNR): [None, 20.0, math.inf, math.nan]}))
    assert [case.pair.name for case in cases] == ["picture_001", "picture_002"]
    assert cases[1].why == "best PSNR, dB ↑ (osediff): m ∞"
    assert chosen(evaluation_of({("m", PSNR): [None]})) == []


def test_the_reference_stands_beside_the_method_and_the_original_beside_the_reference(files):
    found = pictures_of(files())
    assert list(found) == ["old", "new", "original", "input"]
    assert [int(pixels.mean().round()) for pixels in found.values()] == [10, 20, 30, 40]
    assert found["input"].shape == (24, 40, 3)
    assert list(pictures_of(files(), "old")) == ["original", "old", "new", "input"]


def test_of_large_pictures_the_same_middle_is_shown(files):
    found = pictures_of(files(width=2 * SIDE_PX, height=400))
    assert found["new"].shape == found["original"].shape == (400, SIDE_PX, 3)
    assert found["input"].shape == (100, SIDE_PX // 4, 3)


def test_what_cannot_be_read_is_left_out(files):
    evaluation = files()
    evaluation.results["new", 0, "picture_000"].write_bytes(b"no picture")
    evaluation.set.pairs[0].lr.unlink()
    assert list(pictures_of(evaluation)) == ["old", "original"]


def test_one_of_several_seeds_is_said_to_be_one(files):
    assert "new, one of 3 seeds" in pictures_of(files(seeds=3))
