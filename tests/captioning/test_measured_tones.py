"""Brightness, contrast and colour casts are measured, and the colour of a subject is no cast."""

import numpy as np
import pytest
from measured_pictures import dead_leaves, page_of_text, to_bytes

from xpsr_cli.captioning.measured import MeasuredCaptioner, quality_text
from xpsr_cli.photos.photo import Photo
from xpsr_cli.quality_words import BLUR, JPEG, NOISE


@pytest.fixture(params=[0, 1, 2], scope="module")
def picture(request):
    """Things of all colours."""
    return dead_leaves(400, 300, request.param)


def look(pixels):
    """All measurements."""
    return MeasuredCaptioner().look(Photo(pixels))


def added(pixels):
    """What the text says beside blur, noise and compression."""
    levels = {level.words[0] for level in (*BLUR, *NOISE, *JPEG)}
    return [words for words in quality_text(look(pixels)).split(", ") if words not in {"", *levels}]


def test_nothing_is_said_of_usual_pictures(picture):
    assert added(picture) == []
    assert added(page_of_text(300, 200, 0)) == []


def test_dark_and_bright_pictures_are_told(picture):
    assert added(picture // 4) == ["underexposed"]
    assert added(255 - (255 - picture) // 4) == ["overexposed"]
    highlights = [look(to_bytes(picture * gain)).highlights for gain in (0.2, 0.5, 0.8, 1.1)]
    assert highlights == sorted(highlights)


def test_clipped_pixels_are_counted(picture):
    clipped = picture.copy()
    clipped[:150] = 255
    assert look(clipped).clipped == pytest.approx(0.5, abs=0.02)
    assert look(picture).clipped < 0.01


def test_low_contrast_is_told(picture):
    assert added(to_bytes(110 + picture * 0.15)) == ["low contrast"]
    contrasts = [look(to_bytes(128 + (picture - 128.0) * factor)).contrast for factor in (0.1, 0.4, 0.7, 1)]
    assert contrasts == sorted(contrasts)


@pytest.mark.parametrize(
    ("gains", "name"),
    [
        ((1, 0.45, 0.4), "red"),
        ((1, 0.7, 0.3), "orange"),
        ((1, 0.95, 0.3), "yellow"),
        ((0.4, 1, 0.45), "green"),
        ((0.35, 1, 1), "cyan"),
        ((0.4, 0.5, 1), "blue"),
        ((1, 0.35, 1), "magenta"),
    ],
)
def test_a_colour_over_the_whole_picture_is_a_cast(gains, name):
    grey = dead_leaves(300, 300, 5).mean(axis=2, keepdims=True)
    assert f"{name} colour cast" in added(to_bytes(grey * np.array(gains)))


def test_a_stronger_cast_is_measured_as_stronger():
    grey = dead_leaves(300, 300, 5).mean(axis=2, keepdims=True)
    casts = [look(to_bytes(grey * np.array((1, 1, gain)))).cast for gain in (1, 0.9, 0.7, 0.5, 0.3)]
    assert casts == sorted(casts)
    assert casts[0] < 0.02


def test_a_lawn_before_a_grey_wall_is_no_cast(picture):
    lawn = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    lawn[60:] = lawn[60:] * np.array((0.5, 1, 0.3))
    assert added(to_bytes(lawn)) == []
