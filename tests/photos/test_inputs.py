"""Files, folders and patterns become photos, and no two results share a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_photos import refusal

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.inputs import ResultFormat, Shard, find_photos, output_paths, results_folder


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A folder with photos, other files, hidden ones and a folder in it; it is the current one."""
    names = ("b.jpg", "a.png", "A.JPEG", "c.tiff", "notes.txt", ".hidden.png", ".xpsr-1.tmp", "sub/d.webp", ".x/e.png")
    for name in names:
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "album" / name).touch()
    monkeypatch.chdir(tmp_path)
    return Path("album")


def names(photos):
    return [photo.as_posix() for photo in photos]


def test_folders_give_their_photos_sorted(album):
    assert names(find_photos([album])) == ["album/A.JPEG", "album/a.png", "album/b.jpg", "album/c.tiff"]
    assert names(find_photos(["album"], recursive=True))[-1] == "album/sub/d.webp"
    assert len(find_photos(["album"], recursive=True)) == 5


def test_patterns_and_files(album):
    assert names(find_photos(["album/*.jp*g", "album/a.png"])) == ["album/a.png", "album/b.jpg"]
    assert names(find_photos(["album/**/*.webp"])) == ["album/sub/d.webp"]
    assert names(find_photos(["album/*"]))[-1] == "album/c.tiff"
    assert names(find_photos(["album/notes.txt"])) == ["album/notes.txt"]  # content decides later


def test_each_photo_counts_once(album):
    (album / "same.png").symlink_to("a.png")
    assert names(find_photos(["album/a.png", "album/../album/a.png", "album/a.*", "album/same.png"])) == [
        "album/a.png"
    ]


def test_names_that_look_like_patterns_are_names_first(album):
    (album / "[1].png").touch()
    assert names(find_photos(["album/[1].png"])) == ["album/[1].png"]


def test_whatever_is_not_there_is_refused(album):
    (album / "empty").mkdir()
    for path, word in (
        ("album/x.png", "does not exist"),
        ("album/x*.png", "No photo matches"),
        ("album/empty", "no PNG, JPEG, WebP, AVIF and TIFF files"),
        ("nul\0", ""),
    ):
        with refusal(PhotoError, path, word):
            find_photos(["album/a.png", path])
    with refusal(UsageError, "No photo"):
        find_photos([])


def test_one_input_goes_to_a_file_or_a_folder(album):
    photo = album / "a.png"
    assert output_paths([photo], "out.jpg") == {photo: Path("out.jpg")}
    assert output_paths([photo], "out.gif") == {photo: Path("out.gif")}  # refused later, with the list
    assert output_paths([photo], "out") == {photo: Path("out/a.png")}
    assert output_paths([photo], "out.d/") == {photo: Path("out.d/a.png")}
    Path("there.x").mkdir()
    assert output_paths([photo], "there.x", suffix="_x4", wanted=ResultFormat.WEBP) == {
        photo: Path("there.x/a_x4.webp")
    }
    assert output_paths([photo], None, suffix="_x4") == {photo: Path("album/a_x4.png")}


def test_many_inputs_need_a_folder(album):
    photos = find_photos([album])
    with refusal(UsageError, "4 photos", "out.png"):
        output_paths(photos, "out.png")
    assert set(output_paths(photos, "out").values()) == {
        Path("out/A_jpeg.png"),
        Path("out/a_png.png"),
        Path("out/b.png"),
        Path("out/c.png"),
    }


def test_results_never_share_a_file_whatever_the_case(album):
    photos = [
        Path(name) for name in ("x/a.png", "x/a.jpg", "x/A.tif", "y/a.png", "x/a_png.webp", "x/b", "y/b", "z/c.png")
    ]
    results = output_paths(photos, "out")
    assert list(results) == photos
    assert len({path.as_posix().casefold() for path in results.values()}) == len(photos)
    assert results[Path("z/c.png")] == Path("out/c.png")
    assert results == output_paths(photos, "out")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, ["a_png.png", "a_jpg.png", "b.png", "c.png", "d.png"]),
        ("png", ["a_png.png", "a_jpg.png", "b.png", "c.png", "d.png"]),
        ("jpg", ["a_png.jpg", "a_jpg.jpg", "b.jpg", "c.jpg", "d.jpg"]),
        ("webp", ["a_png.webp", "a_jpg.webp", "b.webp", "c.webp", "d.webp"]),
        ("tif", ["a_png.tif", "a_jpg.tif", "b.tif", "c.tif", "d.tif"]),
        ("same", ["a.png", "a.jpg", "b.JPEG", "c.png", "d.png"]),
    ],
)
def test_the_format_of_results_in_a_folder(wanted, expected):
    photos = [Path("in") / name for name in ("a.png", "a.jpg", "b.JPEG", "c.avif", "d.unknown")]
    results = output_paths(photos, "out", wanted=wanted and ResultFormat(wanted))
    assert [path.as_posix() for path in results.values()] == [f"out/{name}" for name in expected]


def test_photos_that_become_one_format_by_being_the_same_do_not_share_a_file():
    photos = [Path("in") / name for name in ("a.png", "a.avif", "a.PNG", "a_avif.png")]
    results = output_paths(photos, "out", wanted=ResultFormat.SAME)
    assert len({path.as_posix().casefold() for path in results.values()}) == len(photos)
    assert results[Path("in/a_avif.png")] == Path("out/a_avif.png")


def test_the_same_format_never_replaces_an_input(album):
    with refusal(UsageError, "album/b.jpg"):
        output_paths([album / "b.jpg"], album, wanted=ResultFormat.SAME)


@pytest.mark.parametrize(
    ("photo", "output", "wanted", "fine"),
    [
        ("a.png", "b.jpeg", "jpg", True),
        ("a.png", "b.TIFF", "tif", True),
        ("a.jpg", "b.jpeg", "same", True),
        ("a.avif", "b.png", "same", True),
        ("a.png", "b.png", "jpg", False),
        ("a.png", "b.gif", "png", False),
        ("a.jpg", "b.png", "same", False),
    ],
)
def test_a_file_whose_name_says_another_format_is_refused(photo, output, wanted, fine):
    if fine:
        assert output_paths([Path(photo)], output, wanted=ResultFormat(wanted)) == {Path(photo): Path(output)}
    else:
        with refusal(UsageError, f"format is {wanted}", output):
            output_paths([Path(photo)], output, wanted=ResultFormat(wanted))


def test_folders_are_repeated_below_a_root(album):
    photos = find_photos([album], recursive=True)
    results = output_paths(photos, "out", root=album)
    assert results[Path("album/sub/d.webp")] == Path("out/sub/d.png")


def test_no_result_replaces_an_input(album):
    with refusal(UsageError, "album/a.png"):
        output_paths([album / "a.png"], album)
    with refusal(UsageError, "album/a.png"):
        output_paths([album / "a.png"], None)
    assert output_paths([album / "b.jpg"], album) == {album / "b.jpg": album / "b.png"}


def test_results_below_the_photos_are_not_taken_for_photos(album):
    (album / "out" / "deep").mkdir(parents=True)
    for name in ("out/a.png", "out/deep/b.png", "outside.png"):
        (album / name).touch()
    for paths in (["album"], ["album/**/*.png", "album/*.*"]):
        found = names(find_photos(paths, recursive=True, leave_out="album/out"))
        assert "album/outside.png" in found
        assert [name for name in found if name.startswith("album/out/")] == []
    assert names(find_photos(["album/out"], leave_out="album/out")) == ["album/out/a.png"]
    assert names(find_photos(["album/out/*.png"], leave_out="album/out")) == ["album/out/a.png"]
    assert names(find_photos(["album/out/a.png"], leave_out="album/out")) == ["album/out/a.png"]
    assert "album/out/deep/b.png" in names(find_photos(["album/out"], recursive=True, leave_out="album"))


def test_links_to_nowhere_are_taken_to_be_told_of_and_folders_with_a_photos_name_are_not(album):
    (album / "lost.png").symlink_to("nowhere")
    (album / "loop.png").symlink_to("loop.png")
    (album / "folder.png").mkdir()
    found = names(find_photos([album]))
    assert {"album/lost.png", "album/loop.png"} <= set(found)
    assert "album/folder.png" not in found
    assert names(find_photos([album / "lost.png"])) == ["album/lost.png"]


def test_avif_is_a_photo(album):
    (album / "e.avif").touch()
    assert "album/e.avif" in names(find_photos([album]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(album):
    (album / "sub").chmod(0)
    try:
        with refusal(PhotoError, album / "sub", "Permission denied"):
            find_photos([album], recursive=True)
    finally:
        (album / "sub").chmod(0o755)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shards_are_disjoint_and_complete_and_leave_names_alone(album, count):
    for name in ("a.jpg", "a.webp", "e.png", "f.png", "g.png"):
        (album / name).touch()
    results = output_paths(find_photos([album], recursive=True), "out", root=album)
    parts = [Shard(number, count).of(list(results.items())) for number in range(1, count + 1)]
    assert sorted(pair for part in parts for pair in part) == sorted(results.items())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_is_named_by_number_or_taken_from_slurm():
    assert Shard.parse("3/8", {}) == Shard(3, 8)
    assert str(Shard(3, 8)) == "3 of 8"
    task = {"SLURM_ARRAY_TASK_ID": "13", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "8"}
    assert Shard.parse("slurm", task) == Shard(4, 8)
    assert Shard.parse("slurm", {**task, "SLURM_ARRAY_TASK_ID": "16", "SLURM_ARRAY_TASK_STEP": "2"}) == Shard(4, 8)


@pytest.mark.parametrize("words", ["", "3", "0/8", "9/8", "3/0", "-1/8", "1.5/8", "a/b", "3/8/1", "Slurm"])
def test_a_shard_that_is_none_is_refused(words):
    with refusal(UsageError, "shard", repr(words)):
        Shard.parse(words, {})


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({}, "no task of a Slurm array"),
        ({"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2"}, "no task"),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, "task 9"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "4",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            "task 4",
        ),
    ],
)
def test_an_array_that_cannot_be_divided_is_refused(task, words):
    with refusal(UsageError, "slurm", words):
        Shard.parse("slurm", task)


def test_the_folder_of_all_results(tmp_path):
    assert results_folder("out") == Path("out")
    assert results_folder("out/a.png") == Path("out")
    assert results_folder("a.png") == Path(".")
    assert results_folder(tmp_path) == tmp_path


def test_a_file_is_taken_under_its_own_name_whatever_links_to_it_lie_beside_it(tmp_path):
    (tmp_path / "m.png").touch()
    for number in range(9):  # folders are listed in any order
        (tmp_path / f"{number}.png").symlink_to("m.png")
        (tmp_path / f"z{number}.png").symlink_to("m.png")
    assert find_photos([tmp_path]) == find_photos([tmp_path / "*.png"]) == [tmp_path / "m.png"]
