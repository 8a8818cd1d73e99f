"""Every picture is read once, scored by what is not known yet, and refused with a sentence if it does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_sets import Brightness, save, scene, written_set

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.judging import Judge, SamplesOfFiles, Task
from xpsr_cli.evaluation.metrics import make_metrics
from xpsr_cli.evaluation.score_store import ScoreStore


@pytest.fixture
def tasks(tmp_path):
    pictures = written_set(tmp_path / "set")
    for number, pair in enumerate(pictures.pairs):
        save(scene(10 + number), tmp_path / "made" / f"{pair.name}.png")
    return [Task("made", 0, pair, tmp_path / "made" / f"{pair.name}.png") for pair in pictures.pairs]


def judged(judge, tasks):
    return judge.with_networks([judge.keep(judge.look(task)) for task in tasks])


def test_scores_are_those_of_the_metric(tmp_path, tasks):
    (psnr,), _ = make_metrics(["psnr"], ["rgb"], scale=4)
    brightness = Brightness()
    done = judged(Judge([psnr, brightness], ScoreStore(tmp_path)), tasks)
    for number, one in enumerate(done):
        error = np.mean((scene(10 + number).astype(float) - scene(number)) ** 2)
        assert one.scores["psnr@rgb"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
        assert one.scores["brightness"] == scene(10 + number).mean()
    assert brightness.batches == [["a", "b", "c"]]


def test_what_is_known_is_not_computed_again(tmp_path, tasks):
    judged(Judge([Brightness()], ScoreStore(tmp_path)), tasks)
    metric = Brightness()
    done = judged(Judge([metric], ScoreStore(tmp_path)), tasks)
    assert metric.batches == []
    assert all(one.known_before for one in done)
    assert [one.scores["brightness"] for one in done] == [scene(10 + number).mean() for number in range(3)]


def test_a_changed_picture_is_scored_again_and_the_others_are_not(tmp_path, tasks):
    judged(Judge([Brightness()], ScoreStore(tmp_path)), tasks)
    save(scene(50), tasks[1].path)
    metric = Brightness()
    done = judged(Judge([metric], ScoreStore(tmp_path)), tasks)
    assert metric.batches == [["b"]]
    assert done[1].scores["brightness"] == scene(50).mean()


@pytest.mark.parametrize(("needs", "again"), [((), []), (("hr",), [["b"]])])
def test_a_changed_original_matters_to_metrics_that_look_at_it(tmp_path, tasks, needs, again):
    judged(Judge([Brightness(needs=needs)], ScoreStore(tmp_path)), tasks)
    save(scene(50), tasks[1].pair.hr)
    metric = Brightness(needs=needs)
    judged(Judge([metric], ScoreStore(tmp_path)), tasks)
    assert metric.batches == again


def test_networks_see_pictures_of_one_size_together(tmp_path, tasks):
    save(scene(11, 192, 128), tasks[1].path)
    save(scene(1, 192, 128), tasks[1].pair.hr)
    metric = Brightness()
    judged(Judge([metric], ScoreStore(tmp_path)), tasks)
    assert metric.batches == [["a", "c"], ["b"]]


def test_a_picture_of_another_size_is_named_and_has_no_score(tmp_path, tasks):
    save(scene(0, 88, 64), tasks[1].path)
    done = judged(Judge([Brightness()], ScoreStore(tmp_path)), tasks)
    assert [one.fits for one in done] == [True, False, True]
    (failure,) = done[1].failures
    assert failure.reason == f"{tasks[1].path} is 88 x 64 pixels, and {tasks[1].pair.hr} is 96 x 64."


def test_without_originals_a_result_has_to_be_an_enlargement(tmp_path, tasks):
    alone = [Task(t.method, t.seed, type(t.pair)(t.pair.name, t.pair.lr, None), t.path) for t in tasks]
    save(scene(0, 96, 48), alone[0].path)
    done = judged(Judge([Brightness()], ScoreStore(tmp_path)), alone)
    assert [one.fits for one in done] == [False, True, True]
    assert "96 x 48 pixels, which is no enlargement of the 24 x 16" in done[0].failures[0].reason


class Picky(Brightness):
    """Refuses pictures that begin with a black pixel, as a metric may refuse what is too small for it."""

    def score(self, samples):
        if any(not sample.result[0, 0].any() for sample in samples):
            raise PhotoError("It is too dark.")
        return super().score(samples)


def test_a_picture_that_a_network_refuses_costs_the_others_nothing(tmp_path, tasks):
    dark = scene(11)
    dark[0, 0] = 0
    save(dark, tasks[1].path)
    done = judged(Judge([Picky("picky"), Brightness()], ScoreStore(tmp_path)), tasks)
    assert ["picky" in one.scores for one in done] == [True, False, True]
    assert all("brightness" in one.scores for one in done)
    assert done[1].failures[0].reason == "picky: It is too dark."


def test_samples_of_files_are_read_when_they_are_asked_for(tasks):
    samples = SamplesOfFiles(tasks)
    tasks[0].path.unlink()
    assert len(samples) == 3
    assert [sample.name for sample in samples[1:]] == ["b", "c"]
    assert np.array_equal(samples[2].result, scene(12))
    with pytest.raises(PhotoError, match="does not exist"):
        samples[0]
