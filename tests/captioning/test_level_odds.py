"""How likely levels are: probabilities, what a JPEG file settles, and what can be told of a photo without detail."""

import numpy as np
import pytest
from measured_pictures import compressed, dead_leaves, noisy
from PIL import Image

from xpsr_cli.captioning.level_odds import odds_of_flat, with_jpeg_found
from xpsr_cli.captioning.measured import LevelOdds, MeasuredCaptioner
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import open_photo

ODDS = LevelOdds(jpeg=(0.1, 0.3, 0.4, 0.2))


@pytest.mark.parametrize("noise", [0, 2, 40])
def test_odds_of_each_phrase_are_probabilities(noise):
    odds = MeasuredCaptioner().look(Photo(noisy(dead_leaves(200, 160, 1), noise))).odds
    assert all(0 <= share <= 1 for phrase in odds for share in phrase)
    assert sum(odds.noise) == pytest.approx(1)
    assert sum(odds.jpeg) == pytest.approx(1)
    assert sum(odds.blur) <= 1 + 1e-9  # the rest: as soft as a camera leaves photos


@pytest.mark.parametrize(
    ("quality", "jpeg"), [(90, (0.125, 0.375, 0.5, 0)), (60, (0.25, 0.75, 0, 0)), (20, (1, 0, 0, 0))]
)
def test_no_level_is_left_that_is_better_than_what_was_found(quality, jpeg):
    assert with_jpeg_found(ODDS, quality).jpeg == pytest.approx(jpeg)


def test_without_a_jpeg_nothing_is_ruled_out():
    assert with_jpeg_found(ODDS, 100) == ODDS


def test_what_was_found_is_certain_where_nothing_else_was_thought_possible():
    assert with_jpeg_found(LevelOdds(jpeg=(0, 0, 0, 1.0)), 70).jpeg == (0, 1, 0, 0)
    assert with_jpeg_found(LevelOdds(), 30).jpeg == (1, 0, 0, 0)


def test_of_a_photo_without_detail_only_noise_is_known():
    assert odds_of_flat(0.0) == LevelOdds(noise=(1, 0, 0, 0))
    assert odds_of_flat(6.0) == LevelOdds(noise=(0, 0, 1, 0))


def test_a_file_is_never_called_better_than_it_was_saved(tmp_path):
    for quality, possible in ((95, 3), (70, 2), (30, 1)):
        Image.fromarray(dead_leaves(160, 128, quality)).save(tmp_path / "a.jpg", quality=quality)
        with open_photo(tmp_path / "a.jpg") as photo:
            assert not any(MeasuredCaptioner().look(photo).odds.jpeg[possible:])


def test_worse_photos_are_thought_worse():
    picture = dead_leaves(256, 256, 2)
    heavy = [MeasuredCaptioner().look(Photo(noisy(picture, sigma))).odds.noise[3] for sigma in (0, 8, 25)]
    strong = [MeasuredCaptioner().look(Photo(compressed(picture, quality))).odds.jpeg[0] for quality in (95, 70, 30)]
    assert heavy == sorted(heavy)
    assert strong == sorted(strong)
    assert np.ptp(heavy) > 0.5 < np.ptp(strong)
