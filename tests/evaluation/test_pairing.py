"""Partners are found by their names, whatever endings the field gives them, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.pairing import fitting, short_name, sides_of


@pytest.mark.parametrize(
    ("stem", "short"),
    [
        ("Canon_001_LR4", "Canon_001"),
        ("Canon_001_HR", "Canon_001"),
        ("Canon_10_x1", "Canon_10"),
        ("img_001_SRF_4_HR", "img_001"),
        ("img_001_SRF_4", "img_001"),
        ("0801_x4", "0801"),
        ("baby_bicLRx4", "baby"),
        ("babybicLRx4", "baby"),
        ("babyx4", "babyx4"),
        ("box4", "box4"),
        ("_HR", "_HR"),
        ("img_001", "img_001"),
    ],
)
def test_a_short_name_is_without_the_ending_of_a_pair(stem, short):
    assert short_name(stem) == short


def fit(stems, files):
    found = fitting({stem: [stem] for stem in stems}, [Path("p", file) for file in files])
    return {picture: path.name for picture, path in found.items()}


@pytest.mark.parametrize(
    ("stems", "files"),
    [
        (["a", "b"], ["a.png", "b.jpg"]),
        (["Canon_001_HR"], ["Canon_001_LR4.png"]),
        (["baby"], ["babyx4.png"]),
        (["0801"], ["0801x4.png"]),
        (["baby"], ["baby_x4_mine.png"]),
        (["baby"], ["babyx4-mine.png"]),
        (["Canon_001_LR4"], ["Canon_001_out.png"]),
        (["img_1", "img_12"], ["img_1_out.png", "img_12_out.png"]),
    ],
)
def test_files_fit_pictures_by_stem_ending_or_beginning(stems, files):
    assert fit(stems, files) == dict(zip(stems, files, strict=True))


def test_the_whole_name_wins_over_the_short_one():
    assert fit(["a", "a_x2"], ["a.png", "a_x2.png"]) == {"a": "a.png", "a_x2": "a_x2.png"}


def test_what_could_be_of_several_pictures_fits_none():
    assert fit(["a_x2", "a_x4"], ["a.png"]) == {}


def test_pictures_without_a_file_are_left_out():
    assert fit(["a", "b"], ["a.png"]) == {"a": "a.png"}


@pytest.mark.parametrize("files", [["a.png", "a.jpg"], ["a_one.png", "a_two.png"]])
def test_two_files_for_one_picture_are_refused_by_name(files):
    with pytest.raises(UsageError, match=r"p has a.* and a.* for the picture a"):
        fit(["a"], files)


def test_one_folder_of_both_sides_is_told_apart():
    names = ["img_001_SRF_4_HR.png", "img_001_SRF_4_LR.png", "img_001_SRF_4_SRCNN.png", "Canon_001_LR4.png"]
    small, large = sides_of([Path(name) for name in names])
    assert [path.name for path in small] == ["img_001_SRF_4_LR.png", "Canon_001_LR4.png"]
    assert [path.name for path in large] == ["img_001_SRF_4_HR.png"]
