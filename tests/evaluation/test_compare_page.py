"""The page of a comparison: whole or absent, with what is known of the files and how like each other they are."""

import io
import json
import math

import numpy as np
import pytest
import skimage.metrics
from PIL import Image
from small_photos import refusal
from test_slider import Tags, held

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation import comparison, page_pictures
from xpsr_cli.evaluation.compare_page import file_size, write_comparison, write_comparisons
from xpsr_cli.evaluation.comparison import Subject, compare
from xpsr_cli.evaluation.metrics import METRICS
from xpsr_cli.evaluation.subjects import find_subjects


def picture(path, seed=0, size=(64, 48)):
    """A picture that has something to be measured in it, and is like no other of another seed."""
    random = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 180
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((smooth[..., None] + random.integers(0, 60, (size[1], size[0], 3))).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def a(tmp_path):
    return picture(tmp_path / "a.png", 1)


@pytest.fixture
def b(tmp_path):
    return picture(tmp_path / "b.png", 2)


@pytest.fixture
def page(tmp_path):
    return tmp_path / "page.html"


def test_a_page_holds_its_pictures_and_what_is_known_of_them(a, b, page, tmp_path):
    small = picture(tmp_path / "small.jpg", 3, (32, 24))
    made = write_comparison([("first", a), ("second", b), ("small", small)], page, title="Three & more")
    tags = Tags(page.read_text(encoding="utf-8"))
    assert [held(image) for image in tags.of("img")] == [path.read_bytes() for path in (a, b, small)]
    assert {"Three & more", "first", "64 x 48", "32 x 24", file_size(a.stat().st_size), str(small)} <= set(tags.texts)
    assert [likeness.names for likeness in made.likenesses] == [("first", "second")]
    assert f"{made.likenesses[0].psnr:.2f} dB" in tags.texts
    assert f"{made.likenesses[0].ssim:.4f}" in tags.texts
    policy = next(
        meta["content"] for meta in tags.of("meta") if "content" in meta and "default-src" in meta["content"]
    )
    assert policy.startswith("default-src 'none'; img-src data:")


def test_the_measures_are_those_of_the_whole_pictures(a, b, monkeypatch):
    """Whatever the height of the bands that they are computed in; and another library finds the same PSNR."""
    one, other = (np.asarray(Image.open(path)) for path in (a, b))
    for rows in (2**21, 64 * 20, 64 * 3):
        monkeypatch.setattr(page_pictures, "_BAND_PIXELS", rows)
        found = compare(Subject("", (("a", a), ("b", b))))[0].likenesses[0]
        assert found.psnr == pytest.approx(METRICS["psnr"](one, other), abs=1e-9)
        assert found.ssim == pytest.approx(METRICS["ssim"](one, other), abs=1e-9)
        assert not found.identical
    weights = np.array([65.481, 128.553, 24.966]) / 255
    lumas = [values @ weights for values in (one, other)]
    assert found.psnr == pytest.approx(skimage.metrics.peak_signal_noise_ratio(*lumas, data_range=255), abs=1e-6)


def test_the_same_file_twice_is_identical(a, page):
    likeness = write_comparison([("a", a), ("a (2)", a)], page).likenesses[0]
    assert (likeness.psnr, likeness.ssim, likeness.identical) == (math.inf, pytest.approx(1), True)
    assert json.loads(json.dumps(likeness.to_dict()))["psnr"] is None
    assert "every pixel is the same" in Tags(page.read_text(encoding="utf-8")).texts


def test_transparent_pictures_are_measured_on_grey(tmp_path):
    files = []
    for colour in (0, 255):
        layers = np.full((20, 20, 4), (colour, colour, colour, 0), np.uint8)
        Image.fromarray(layers).save(tmp_path / f"{colour}.png")
        files.append((str(colour), tmp_path / f"{colour}.png"))
    assert compare(Subject("", tuple(files)))[0].likenesses[0].identical


@pytest.mark.parametrize("damage", ["cut", "gone", "text"])
def test_a_picture_that_cannot_be_read_leaves_no_page(a, b, page, damage):
    if damage == "cut":
        b.write_bytes(b.read_bytes()[: b.stat().st_size // 2])
    elif damage == "gone":
        b.unlink()
    else:
        b.write_bytes(b"words")
    page.write_text("before")
    with refusal(PhotoError, str(b)):
        write_comparison([("a", a), ("b", b)], page)
    assert page.read_text() == "before"
    assert not list(page.parent.glob(".xpsr*"))


def test_one_picture_is_refused(a, page):
    with refusal(UsageError, "Only", str(a)):
        write_comparison([("a", a)], page)
    assert not page.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("page.png", "no name for a page"), ("no/page.html", "there is no folder"), (".", "is a folder")],
)
def test_a_place_that_is_none_for_a_page_is_refused_first(a, tmp_path, name, words):
    with refusal(UsageError, words):
        write_comparison([("a", a), ("b", tmp_path / "not there.png")], tmp_path / name)


def test_one_bad_picture_of_many_is_left_out_and_told_of(tmp_path, page):
    subjects = [
        Subject(str(n), (("x", picture(tmp_path / f"{n}x.png", n)), ("y", picture(tmp_path / f"{n}y.png", n + 9))))
        for n in range(3)
    ]
    (tmp_path / "1y.png").write_bytes(b"words")
    made = write_comparisons(subjects, page, title="many")
    assert [each.title for each in made.comparisons] == ["0", "2"]
    assert [(subject.title, "1y.png" in error.message) for subject, error in made.failures] == [("1", True)]
    tags = Tags(page.read_text(encoding="utf-8"))
    assert len(tags.of("figure")) == 2
    means = comparison.mean_likenesses(made.comparisons)[("x", "y")]
    assert means.psnr == pytest.approx(sum(each.likenesses[0].psnr for each in made.comparisons) / 2)
    assert "Mean of 2" in tags.texts
    assert f"{means.psnr:.2f} dB" in tags.texts


def test_a_reduced_picture_says_so_and_is_measured_as_it_is(a, b, page, monkeypatch):
    before = compare(Subject("", (("a", a), ("b", b))))[0].likenesses
    monkeypatch.setattr(page_pictures, "MAX_PIXELS", 1000)
    made = write_comparison([("a", a), ("b", b)], page)
    assert made.pictures[0].change.startswith("reduced to 36 x 27 pixels")
    assert (made.pictures[0].width, made.pictures[0].height) == (64, 48)
    assert made.likenesses == before
    assert Image.open(io.BytesIO(held(Tags(page.read_text(encoding="utf-8")).of("img")[0]))).width < 64


def test_files_are_one_subject_with_names_that_differ(a, b, tmp_path):
    (only,), alone = find_subjects([a, b])
    assert (only.title, only.pictures, alone) == ("a.png / b.png", (("a.png", a), ("b.png", b)), [])
    other = picture(tmp_path / "other" / "a.png")
    assert [name for name, _ in find_subjects([a, other])[0][0].pictures] == [f"{tmp_path.name}/a.png", "other/a.png"]
    assert [name for name, _ in find_subjects([a, a])[0][0].pictures] == [a.name, f"{a.name} (2)"]


def test_folders_are_paired_by_the_names_of_their_files(tmp_path):
    left = [picture(tmp_path / "before" / name) for name in ("one.png", "two.png", "three.png")]
    right = [picture(tmp_path / "after" / name) for name in ("one.jpg", "two_x4.png", "four.png")]
    subjects, alone = find_subjects([tmp_path / "before", tmp_path / "after"])
    assert [(each.title, each.pictures) for each in subjects] == [
        ("one", (("before", left[0]), ("after", right[0]))),
        ("two", (("before", left[1]), ("after", right[1]))),
    ]
    assert set(alone) == {left[2], right[2]}


def test_folders_without_a_pair_are_refused(tmp_path):
    picture(tmp_path / "before" / "one.png")
    picture(tmp_path / "after" / "two.png")
    with refusal(UsageError, "before", "after", "no picture of the same name"):
        find_subjects([tmp_path / "before", tmp_path / "after"])


def test_a_folder_and_a_file_are_refused(a, tmp_path):
    picture(tmp_path / "before" / "one.png")
    with refusal(UsageError, "before", str(a)):
        find_subjects([tmp_path / "before", a])


def test_two_pictures_of_one_name_in_the_first_folder_are_refused(tmp_path):
    for name in ("before/one.png", "before/one.jpg", "after/one.png"):
        picture(tmp_path / name)
    with refusal(UsageError, "several pictures called one"):
        find_subjects([tmp_path / "before", tmp_path / "after"])


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999 bytes"), (1234, "1.2 kB"), (45_600_000, "45.6 MB"), (3 * 10**9, "3.0 GB")]
)
def test_sizes_of_files_in_words(count, words):
    assert file_size(count) == words
