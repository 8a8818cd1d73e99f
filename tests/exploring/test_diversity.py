"""How different answers are, and which of many are kept."""

import numpy as np
import pytest

from xpsr_cli.exploring.diversity import distances, farthest, mean_std, measure


def noise(count, side=32):
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def test_equal_pictures_have_no_diversity():
    picture = noise(1)[0]
    made = measure([picture, picture, picture], 8)
    assert made.std == pytest.approx(0, abs=1e-7)
    assert made.distance == 0


def test_one_picture_has_none_either():
    made = measure(noise(1), 8)
    assert (made.std, made.distance) == (0, 0)


def test_the_spread_is_numpys():
    pictures = noise(5)
    assert mean_std(pictures) == pytest.approx((np.stack(pictures) / 255).std(axis=0).mean(), rel=1e-9)


def test_black_and_white_are_one_apart():
    apart = distances([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)], 4)
    assert apart.tolist() == [[0, 1], [1, 0]]


def test_noise_between_pixels_counts_less_than_shapes_in_large_pictures():
    plain = np.full((256, 256, 3), 128, np.uint8)
    grain = plain + np.random.default_rng(0).choice([-40, 40], plain.shape).astype(np.int64)
    half = plain.astype(np.int64)
    half[:, :128] += 40
    half[:, 128:] -= 40
    apart = distances([plain, grain.astype(np.uint8), half.astype(np.uint8)], 16)
    assert apart[0, 2] == pytest.approx(40 / 255, rel=0.01)
    assert apart[0, 1] < apart[0, 2] / 3


def test_detail_that_the_small_picture_leaves_open_is_seen_at_every_size():
    """Two answers to one small picture of 128 pixels, which are the same at 64."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert distances([stripes, np.roll(stripes, 1, axis=1)], 128)[0, 1] == pytest.approx(1)


def test_the_farthest_are_spread_over_clusters():
    points = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 9.0])
    apart = np.abs(points[:, None] - points[None])
    assert farthest(apart, 3) == [0, 3, 5]
    assert farthest(apart, 1) == [0]
    assert farthest(apart, 6) == [0, 1, 2, 3, 4, 5]
    assert farthest(apart, 9) == [0, 1, 2, 3, 4, 5]


def test_equal_points_are_still_chosen_once_each():
    assert farthest(np.zeros((4, 4)), 3) == [0, 1, 2]
