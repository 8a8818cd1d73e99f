"""The seam meter finds the seams that are there, and none where there are none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from xpsr_cli.sampling.tiles import Blend, Window, window_grid
from xpsr_cli.upscaling.seams import SeamMeter

HEIGHT, WIDTH = 1408, 2000
WINDOWS = window_grid(HEIGHT, WIDTH, tile=256, overlap=64)


def ramp():
    """From black to white across and down, each a little."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.stack([(rows / HEIGHT + columns / WIDTH) / 2] * 3)


def sky():
    """A bright blue that fades, with the noise of a camera."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    fade = rows / HEIGHT + 0.2 * np.sin(columns / 600)
    base = np.stack([0.45 + 0.2 * fade, 0.6 + 0.15 * fade, 0.9 + 0.05 * fade]).astype(np.float32)
    return base + np.random.default_rng(1).normal(0, 0.004, base.shape).astype(np.float32)


def black():
    return np.zeros((3, HEIGHT, WIDTH), np.float32)


def noise():
    return np.random.default_rng(2).random((3, HEIGHT, WIDTH), dtype=np.float32)


def measure(result, enlarged, windows=WINDOWS, heights=(64,)):
    height, width = result.shape[1:]
    meter = SeamMeter(windows, width, height)
    top, turn = 0, 0
    while top < height:
        rows = slice(top, min(height, top + heights[turn % len(heights)]))
        meter.add(top, result[:, rows], enlarged[:, rows])
        top, turn = rows.stop, turn + 1
    return meter.report()


def with_steps(image, windows=WINDOWS, size=1 / 255):
    """Every other cell of the grid brighter, as if its window had drifted, with a hard edge at the overlap's end."""
    columns = sorted({(window.x, window.w) for window in windows})
    edges = [0, *(start for start, _ in columns[1:]), image.shape[2]]
    stepped = image.copy()
    for number, (left, right) in enumerate(pairwise(edges)):
        stepped[:, :, left:right] += size * (number % 2)
    return stepped


@pytest.mark.parametrize("make", [ramp, sky, black, noise])
def test_a_picture_without_seams_has_none(make):
    image = make()
    report = measure(image, image)
    assert report.index_low <= report.index <= report.index_high
    assert 0.98 <= report.index <= 1.02
    assert report.brightness_step < 0.1


def test_black_is_known_to_have_none():
    report = measure(black(), black())
    assert (report.index, report.index_low, report.index_high, report.brightness_step) == (1, 1, 1, 0)


def test_the_far_digits_of_a_flat_picture_count_for_nothing():
    flat = np.full((3, HEIGHT, WIDTH), 0.25, np.float32)
    rounded = flat.copy()
    for window in WINDOWS[::2]:
        rounded[:, window.y : window.y + window.h, window.x : window.x + window.w] += 1e-7
    report = measure(rounded, flat)
    assert report.index == pytest.approx(1, abs=0.01)
    assert report.brightness_step < 0.001


@pytest.mark.parametrize("make", [ramp, sky, black])
def test_a_step_of_one_level_is_found(make):
    image = make()
    report = measure(with_steps(image), image)
    assert report.index_low > 1.02
    # neighbours across differ by 1/255 less what lies between the edge and the middle of the overlap, below not at all
    assert 0.2 < report.brightness_step < 0.6


def test_the_brightness_step_of_windows_side_by_side_is_the_step():
    windows = window_grid(256, WIDTH, tile=256, overlap=0)
    image = ramp()[:, :256]
    columns = [window.x for window in windows[:-1]]
    stepped = image.copy()
    for number, (left, right) in enumerate(pairwise([*columns, WIDTH])):
        stepped[:, :, left:right] += number % 2 / 255
    windows = [Window(0, left, 256, right - left) for left, right in pairwise([*columns, WIDTH])]
    assert measure(stepped, image, windows).brightness_step == pytest.approx(1, abs=1e-3)
    assert measure(stepped, stepped, windows).brightness_step == 0


def test_a_step_hidden_in_noise_is_found_by_brightness_if_not_by_index():
    image = noise()
    report = measure(with_steps(image), image)
    assert report.index < 1.02
    assert report.brightness_step > 0.2


@pytest.mark.parametrize("heights", [(1,), (1408,), (7, 64, 3), (33,), (191, 2)])
def test_the_heights_of_bands_do_not_matter(heights):
    image, enlarged = with_steps(sky()), sky()
    one, other = (measure(image, enlarged, heights=heights) for heights in (heights, (64,)))
    for name in ("index", "index_low", "index_high", "brightness_step"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)


@pytest.mark.parametrize("drift", [0.0, 4 / 255])
def test_blended_windows_leave_no_line_even_if_they_drift(drift):
    """The weights of a window fall to nearly nothing at its border: the change lies within the overlap."""
    image = torch.from_numpy(ramp())
    blend, total = Blend(WINDOWS), torch.zeros(3, HEIGHT, WIDTH)
    for number, window in enumerate(WINDOWS):
        window.crop(total).add_((window.crop(image) + drift * (number % 2)) * blend.share(window))
    report = measure(total.numpy(), image.numpy())
    assert report.index <= 1.001
    assert report.index >= (0.999 if drift == 0 else 0.8)
    assert (report.brightness_step > 0.5) is (drift > 0)


def test_tensors_are_as_good_as_arrays():
    image = torch.from_numpy(sky())
    assert measure(image, image) == measure(image.numpy(), image.numpy())


def test_one_window_has_no_seams():
    image = noise()
    report = measure(image, 1 - image, [Window(0, 0, HEIGHT, WIDTH)])
    assert (report.index, report.index_low, report.index_high, report.brightness_step) == (1, 1, 1, 0)


def test_windows_may_reach_beyond_the_picture():
    image = sky()[:, :1400, :1990]
    assert measure(image, image).index == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("height", "width"), [(16, 2000), (2000, 16), (133, 270), (300, 263)])
def test_odd_pictures_are_measured(height, width):
    image = np.random.default_rng(3).random((3, height, width), dtype=np.float32)
    report = measure(image, image, window_grid(height, width, tile=128, overlap=32))
    assert report.index_low < 1 < report.index_high
    assert report.brightness_step == 0


def test_the_interval_covers_what_it_says():
    windows, sure = window_grid(128, 512, tile=128, overlap=32), 0
    for seed in range(200):
        image = np.random.default_rng(seed).random((3, 128, 512), dtype=np.float32)
        report = measure(image, image, windows)
        sure += report.index_low <= 1 <= report.index_high
    assert sure >= 193  # of 200, 99 of 100 on average


def test_a_band_out_of_order_is_refused():
    meter = SeamMeter(WINDOWS, WIDTH, HEIGHT)
    image = black()
    with pytest.raises(ValueError, match="does not follow row 0"):
        meter.add(64, image[:, 64:128], image[:, 64:128])
    meter.add(0, image[:, :64], image[:, :64])
    with pytest.raises(ValueError, match="64 of 1408 rows"):
        meter.report()
