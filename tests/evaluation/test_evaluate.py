"""Every method under every metric, with what is missing and what failed, and the same numbers after any stop."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from evaluation_sets import SCALE, Brightness, save, scene, written_set

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.baseline import Baseline
from xpsr_cli.evaluation.evaluate import evaluate
from xpsr_cli.evaluation.methods import Method, predicted, resampled
from xpsr_cli.evaluation.metrics import make_metrics
from xpsr_cli.evaluation.score_store import FILE
from xpsr_cli.evaluation.scores import EvaluationSet, Missing, Pair

NAMES = "abcdefghijkl"


class Steps:
    """A progress that counts what it is told."""

    def __init__(self):
        self.stages, self.advanced, self.skipped = [], 0, 0

    def stage(self, name, total):
        self.stages.append((name, total))

    def advance(self, count=1):
        self.advanced += count

    def skip(self, count):
        self.skipped += count


@pytest.fixture
def pictures(tmp_path):
    return written_set(tmp_path / "set", NAMES)


@pytest.fixture
def methods(tmp_path, pictures):
    return [resampled(pictures, baseline, SCALE, tmp_path) for baseline in (Baseline.BICUBIC, Baseline.NEAREST)]


@pytest.fixture
def metrics():
    return make_metrics(["psnr", "ssim"], ["osediff", "rgb"], scale=SCALE)[0]


def test_every_picture_of_every_method_has_every_score(tmp_path, pictures, methods, metrics):
    found = evaluate(pictures, methods, metrics, (), tmp_path)
    keys = ("psnr@osediff", "psnr@rgb", "ssim@osediff", "ssim@rgb")
    assert found.methods == ("bicubic", "nearest")
    assert found.seeds == {"bicubic": (0,), "nearest": (0,)}
    assert [facts.key for facts in found.metrics] == list(keys)
    assert set(found.scores) == {(m, 0, p, k) for m in found.methods for p in NAMES for k in keys}
    assert all(map(math.isfinite, found.scores.values()))
    assert found.failures == found.missing == ()
    assert found.results["nearest", 0, "b"] == methods[1].results[0, "b"]


def test_a_second_run_computes_nothing_and_says_the_same(tmp_path, pictures, methods, metrics):
    first, steps = evaluate(pictures, methods, metrics, (), tmp_path), Steps()
    lines = (tmp_path / FILE).read_bytes()
    second = evaluate(pictures, methods, metrics, (), tmp_path, steps)
    assert second.scores == first.scores
    assert (tmp_path / FILE).read_bytes() == lines
    assert (steps.advanced, steps.skipped) == (0, 24)
    assert steps.stages == [("scores", 24)]


@pytest.mark.parametrize("left", [0, 1, 13, 40])
def test_after_any_stop_the_numbers_are_those_of_an_undisturbed_run(tmp_path, pictures, methods, metrics, left):
    whole = evaluate(pictures, methods, metrics, (), tmp_path)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join(lines[:left]) + lines[left][:25])
    resumed = evaluate(pictures, methods, metrics, (), tmp_path)
    assert resumed.scores == whole.scores
    kept = [line for line in (tmp_path / FILE).read_bytes().splitlines() if line != lines[left][:25]]
    assert sorted(kept) == sorted(line.rstrip() for line in lines)  # none twice


def test_a_new_metric_leaves_what_is_known_alone(tmp_path, pictures, methods, metrics):
    evaluate(pictures, methods, metrics[:2], (), tmp_path)
    count = len((tmp_path / FILE).read_bytes().splitlines())
    evaluate(pictures, methods, metrics, (), tmp_path)
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 2 * count


def test_an_undefined_score_is_absent_and_an_equal_picture_is_infinitely_good(tmp_path, pictures, metrics):
    class Undefined(Brightness):
        def score(self, samples):
            return [math.nan for _ in samples]

    same = Method("same", {(0, pair.name): pair.hr for pair in pictures.pairs})
    found = evaluate(pictures, [same], [*metrics, Undefined("undefined")], (), tmp_path)
    assert not [name for name in found.scores if name[3] == "undefined"]
    assert found.scores["same", 0, "a", "psnr@rgb"] == math.inf


def test_whole_sets_have_one_value_for_each_run_without_a_gap(tmp_path, pictures, methods):
    half = tmp_path / "half"
    for name in NAMES[::2]:
        save(scene(0), half / f"{name}.png")
    metric, all_methods = Brightness("fid", whole_set=True), [*methods, predicted(pictures, "half", half)]
    first = evaluate(pictures, all_methods, [metric, Brightness()], (), tmp_path)
    assert set(first.whole) == {("bicubic", 0, "fid"), ("nearest", 0, "fid")}
    assert [len(batch) for batch in metric.batches] == [12, 12]
    again = Brightness("fid", whole_set=True)
    assert evaluate(pictures, all_methods, [again, Brightness()], (), tmp_path).whole == first.whole
    assert again.batches == []


def test_seeds_are_scored_one_by_one(tmp_path, pictures):
    for seed in (0, 1):
        for name in NAMES:
            save(scene(seed), tmp_path / "m" / f"seed-{seed}" / f"{name}.png")
    found = evaluate(pictures, [predicted(pictures, "m", tmp_path / "m")], [Brightness()], (), tmp_path)
    assert found.seeds == {"m": (0, 1)}
    assert found.scores["m", 1, "a", "brightness"] == scene(1).mean()


def test_what_fails_is_told_and_the_rest_is_scored(tmp_path, pictures, metrics):
    folder = tmp_path / "theirs"
    for name in NAMES[:6]:
        save(scene(0, 88 if name == "b" else 96), folder / f"{name}.png")
    (folder / "c.png").write_bytes(b"no photo")
    found = evaluate(pictures, [predicted(pictures, "theirs", folder)], metrics, (), tmp_path)
    reasons = {gap.picture: gap.reason for gap in found.failures}
    assert set(reasons) == set("bc" + NAMES[6:])
    assert "88 x 64 pixels, and" in reasons["b"]
    assert "is not a photo" in reasons["c"]
    assert "has no picture of this name" in reasons["g"]
    assert {name[2] for name in found.scores} == set("adef")


def test_an_original_that_cannot_be_read_fails_for_every_method(tmp_path, pictures, methods, metrics):
    pictures.pairs[0].hr.write_bytes(b"")
    found = evaluate(pictures, methods, metrics, (), tmp_path)
    assert [(gap.method, gap.picture) for gap in found.failures] == [("bicubic", "a"), ("nearest", "a")]


def test_nothing_that_can_be_scored_is_a_photo_error(tmp_path, pictures, metrics):
    for name in NAMES:
        save(scene(0, 88), tmp_path / "theirs" / f"{name}.png")
    with pytest.raises(PhotoError, match="No picture can be scored: .*a.png is 88 x 64 pixels"):
        evaluate(pictures, [predicted(pictures, "theirs", tmp_path / "theirs")], metrics, (), tmp_path)


def test_metrics_that_lack_what_they_compare_with_are_missing_and_the_rest_runs(tmp_path, pictures, methods, metrics):
    small = EvaluationSet("small", tuple(Pair(pair.name, pair.lr, None) for pair in pictures.pairs), None)
    given = Missing("lpips", "Package lpips is not installed.", "pip install lpips")
    found = evaluate(small, methods, [*metrics, Brightness()], (given,), tmp_path)
    assert found.missing[0] == given
    assert [missing.name for missing in found.missing[1:]] == [metric.facts.key for metric in metrics]
    assert "large originals" in found.missing[1].reason
    assert [facts.key for facts in found.metrics] == ["brightness"]
    with pytest.raises(UsageError, match="No metric is left"):
        evaluate(small, methods, metrics, (), tmp_path)


def test_the_report_can_say_where_every_number_comes_from(tmp_path, pictures, methods, metrics):
    folder = tmp_path / "theirs"
    for name in NAMES:
        from tifffile import imwrite

        folder.mkdir(exist_ok=True)
        imwrite(folder / f"{name}.tif", scene(0).astype("uint16") * 257, photometric="rgb")
    theirs = predicted(pictures, "theirs", folder)
    found = evaluate(pictures, [*methods, theirs], metrics, (), tmp_path, provenance={"command": ["xpsr", "eval"]})
    assert found.provenance["command"] == ["xpsr", "eval"]
    assert found.provenance["methods"]["bicubic"]["resampling"].startswith("Pillow ")
    assert found.provenance["metrics"]["psnr@osediff"] == dict(metrics[0].provenance())
    assert found.provenance["conversions"] == ["12 of theirs: rounded to 8 bits"]
    assert {"xpsr", "python", "numpy", "scipy", "pillow", "torch"} <= set(found.provenance)
    again = evaluate(pictures, [theirs], metrics, (), tmp_path)
    assert again.provenance["conversions"] == ["12 of theirs: rounded to 8 bits"]  # known without reading them


def test_a_stop_in_the_middle_keeps_what_was_scored(tmp_path, pictures, methods, metrics):
    class Stopped(Steps):
        def advance(self, count=1):
            super().advance(count)
            if self.advanced == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(pictures, methods, metrics, (), tmp_path, Stopped())
    steps = Steps()
    evaluate(pictures, [replace(method) for method in methods], metrics, (), tmp_path, steps)
    assert steps.skipped == 10
