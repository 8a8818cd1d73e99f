"""Files, folders and patterns become photos, and no two results share a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_photos import refusal

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.inputs import find_photos, output_paths


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
    assert output_paths([photo], "there.x", suffix="_x4", extension=".webp") == {photo: Path("there.x/a_x4.webp")}
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
