"""What is compared: plain resampling that is Pillow's, and folders of pictures by anybody."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from evaluation_sets import SCALE, save, scene, written_set
from PIL import Image

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.baseline import Baseline
from xpsr_cli.evaluation.methods import check_names, named_path, predicted, resampled
from xpsr_cli.evaluation.scores import EvaluationSet, Pair


@pytest.fixture
def pictures(tmp_path):
    return written_set(tmp_path / "set")


def names(method):
    return {place: path.name for place, path in method.results.items()}


@pytest.mark.parametrize("baseline", list(Baseline))
def test_baselines_are_what_pillow_makes_of_the_small_photos(tmp_path, pictures, baseline):
    method = resampled(pictures, baseline, SCALE, tmp_path / "out")
    assert method.name == baseline.value
    assert method.seeds == (0,)
    for pair in pictures.pairs:
        wanted = Image.open(pair.lr).resize((96, 64), Image.Resampling[baseline.name])
        found = method.results[0, pair.name]
        assert np.array_equal(np.asarray(Image.open(found)), np.asarray(wanted))
        assert found.parent == tmp_path / "out" / "predictions" / baseline.value / "seed-0"


def test_a_baseline_is_made_once(tmp_path, pictures):
    first = resampled(pictures, Baseline.BICUBIC, SCALE, tmp_path)
    times = [path.stat().st_mtime_ns for path in first.results.values()]
    again = resampled(pictures, Baseline.BICUBIC, SCALE, tmp_path)
    assert [path.stat().st_mtime_ns for path in again.results.values()] == times


def test_pictures_made_in_another_way_are_replaced_only_when_asked(tmp_path, pictures):
    resampled(pictures, Baseline.BICUBIC, SCALE, tmp_path)
    with pytest.raises(UsageError, match=r"a\.png exists and was made differently: scale was 4 and is 2") as raised:
        resampled(pictures, Baseline.BICUBIC, 2.0, tmp_path)
    assert "--overwrite" in raised.value.hint
    method = resampled(pictures, Baseline.BICUBIC, 2.0, tmp_path, overwrite=True)
    assert Image.open(method.results[0, "a"]).size == (48, 32)


def test_a_small_photo_that_cannot_be_read_fails_alone(tmp_path, pictures):
    pictures.pairs[1].lr.write_bytes(b"no photo")
    method = resampled(pictures, Baseline.BICUBIC, SCALE, tmp_path)
    assert set(method.results) == {(0, "a"), (0, "c")}
    assert [(gap.picture, "is not a photo" in gap.reason) for gap in method.failures] == [("b", True)]


def test_a_baseline_without_small_photos_is_refused(tmp_path, pictures):
    large = EvaluationSet("large", tuple(Pair(pair.name, None, pair.hr) for pair in pictures.pairs), None)
    with pytest.raises(UsageError, match="bicubic needs small photos"):
        resampled(large, Baseline.BICUBIC, SCALE, tmp_path)


def test_predictions_are_matched_by_name_whatever_follows_it(tmp_path, pictures):
    for name in ("a.png", "b_x4_theirs.png", "cx4.png"):
        save(scene(0), tmp_path / "theirs" / name)
    method = predicted(pictures, "theirs", tmp_path / "theirs")
    assert names(method) == {(0, "a"): "a.png", (0, "b"): "b_x4_theirs.png", (0, "c"): "cx4.png"}
    assert method.failures == method.notes == ()


def test_half_a_folder_of_predictions_names_what_is_missing(tmp_path, pictures):
    save(scene(0), tmp_path / "theirs" / "b.png")
    method = predicted(pictures, "theirs", tmp_path / "theirs")
    assert names(method) == {(0, "b"): "b.png"}
    assert [(gap.method, gap.seed, gap.picture) for gap in method.failures] == [("theirs", 0, "a"), ("theirs", 0, "c")]
    assert "has no picture of this name" in method.failures[0].reason


def test_pictures_that_fit_nothing_are_worth_a_word_unless_a_part_is_looked_at(tmp_path, pictures):
    for name in ("a.png", "b.png", "c.png", "z.png"):
        save(scene(0), tmp_path / "theirs" / name)
    assert "1 pictures of" in predicted(pictures, "theirs", tmp_path / "theirs").notes[0]
    assert predicted(pictures, "theirs", tmp_path / "theirs", whole=False).notes == ()


def test_folders_of_seeds_are_several_runs(tmp_path, pictures):
    for seed in (0, 2):
        for name in "abc":
            save(scene(seed), tmp_path / "theirs" / f"seed-{seed}" / f"{name}.png")
    method = predicted(pictures, "theirs", tmp_path / "theirs")
    assert method.seeds == (0, 2)
    assert method.results[2, "b"] == tmp_path / "theirs" / "seed-2" / "b.png"


def test_a_folder_without_any_picture_of_the_set_is_refused(tmp_path, pictures):
    save(scene(0), tmp_path / "theirs" / "z.png")
    with pytest.raises(UsageError, match=r"No picture of .*theirs is one of small") as raised:
        predicted(pictures, "theirs", tmp_path / "theirs")
    assert "a, b" in raised.value.hint


def test_a_folder_that_is_not_there_is_named(tmp_path, pictures):
    with pytest.raises(UsageError, match="nowhere, the folder of pictures of theirs, does not exist"):
        predicted(pictures, "theirs", tmp_path / "nowhere")


def test_a_folder_may_have_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_path("SeeSR=out/a")[0] == "SeeSR"
    assert named_path("out/a=b")[0] == "a=b"
    assert named_path(".")[0] == tmp_path.name
    (tmp_path / "x=y").mkdir()
    assert named_path("x=y")[0] == "x=y"


@pytest.mark.parametrize("given", [["a", "a"], ["a/b"], [""], [".."], ["a", "b:c"]])
def test_names_that_clash_or_cannot_be_folders_are_refused(given):
    with pytest.raises(UsageError, match="called"):
        check_names(given)


def test_our_own_output_can_be_given_as_predictions(tmp_path, pictures):
    made = resampled(pictures, Baseline.NEAREST, SCALE, tmp_path / "out")
    shutil.copytree(tmp_path / "out" / "predictions" / "nearest", tmp_path / "kept")
    method = predicted(pictures, "kept", tmp_path / "kept")
    assert names(method) == names(made)
