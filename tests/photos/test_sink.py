"""A file that comes out is exact, and whole or absent; what cannot be held is said before the work."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_photos import EXTENSIONS, camera_exif, refusal

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.sink import check_output, result_info, write_photo
from xpsr_cli.photos.source import read_photo
from xpsr_cli.settings import Compression, OutputOptions

LOSSLESS = (".png", ".webp", ".tif", ".tiff")


@pytest.fixture
def photo(pixels):
    return Photo(pixels)


def check(path, size, photo, *, quality=None, allow_input=False):
    """What is asked before the work when ``photo`` becomes ``size`` and goes to ``path``."""
    options = OutputOptions(quality=quality)
    info = result_info(photo.info, size, path, options)
    check_output(path, info, options, transparent=photo.transparent(), source_path=photo.path, allow_input=allow_input)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("extension", LOSSLESS)
def test_lossless_formats_give_every_value_back(tmp_path, pixels, extension, with_alpha, grey):
    colour = pixels[..., :1].repeat(3, axis=2) if grey else pixels
    alpha = pixels[..., 1] // 2 if with_alpha else None
    write_photo(Photo(colour, alpha, grey=grey), tmp_path / f"a{extension}")
    again = read_photo(tmp_path / f"a{extension}")
    np.testing.assert_array_equal(again.pixels, colour)
    if with_alpha:
        np.testing.assert_array_equal(again.alpha, alpha)
    else:
        assert again.alpha is None
    assert again.grey == (grey and extension != ".webp")


@pytest.mark.parametrize(("extension", "mode"), [(".png", "L"), (".jpg", "L"), (".tif", "L"), (".webp", "RGB")])
def test_grey_is_written_grey_where_the_format_can(tmp_path, pixels, extension, mode):
    write_photo(Photo(pixels[..., :1].repeat(3, axis=2), grey=True), tmp_path / f"a{extension}")
    with Image.open(tmp_path / f"a{extension}") as image:
        assert image.mode == mode


def test_jpeg_is_not_subsampled_and_takes_a_quality(tmp_path, photo, pixels):
    sizes = []
    for quality in (None, 95, 30, 100):
        write_photo(photo, tmp_path / "a.jpg", quality=quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
        with Image.open(tmp_path / "a.jpg") as image:
            assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
    assert sizes[0] == sizes[1]
    assert sizes[2] < sizes[1] < sizes[3]
    assert np.abs(read_photo(tmp_path / "a.jpg").pixels.astype(int) - pixels).max() <= 4


def test_webp_becomes_lossy_only_when_a_quality_is_named(tmp_path, photo):
    write_photo(photo, tmp_path / "a.webp")
    write_photo(photo, tmp_path / "b.webp", quality=50)
    assert (tmp_path / "b.webp").stat().st_size < (tmp_path / "a.webp").stat().st_size / 2


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_quality_of_a_lossless_format_is_refused(tmp_path, photo, name):
    with refusal(UsageError, 90, "lossless", name):
        check(tmp_path / name, (40, 24), photo, quality=90)
    with refusal(UsageError, 90, "lossless", name):
        write_photo(photo, tmp_path / name, quality=90)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_that_does_not_exist_is_refused(tmp_path, photo, quality):
    with pytest.raises(UsageError, match=f"{quality}, allowed is 1 to 100"):
        write_photo(photo, tmp_path / "a.jpg", quality=quality)
    assert list(tmp_path.iterdir()) == []


def test_an_opaque_alpha_channel_is_no_transparency(tmp_path, pixels):
    opaque = Photo(pixels, np.full((24, 40), 255, np.uint8))
    check(tmp_path / "a.jpg", (40, 24), opaque)
    write_photo(opaque, tmp_path / "a.jpg")
    write_photo(opaque, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"


def test_what_a_format_cannot_hold_is_refused_with_those_that_can(tmp_path, photo, pixels):
    glass = replace(photo, alpha=pixels[..., 0])
    profile = replace(photo, grey=True, metadata=Metadata(icc=b"\0" * 16 + b"GRAY" + b"\0" * 108))
    talkative = replace(photo, metadata=Metadata(exif=camera_exif(thumbnail=False) + bytes(70000)))
    for name, size, subject, words in (
        ("a.jpg", (40, 24), glass, ("transparency", "PNG", "WebP", "TIFF")),
        ("a.jpeg", (65536, 24), photo, ("65535", "65536 x 24", "PNG", "TIFF")),
        ("a.webp", (24, 16384), photo, ("16383", "24 x 16384", "PNG", "JPEG", "TIFF")),
        ("a.webp", (40, 24), profile, ("grey", "PNG", "JPEG", "TIFF")),
        ("a.jpg", (40, 24), talkative, ("EXIF", "PNG", "WebP", "TIFF")),
    ):
        with refusal(PhotoError, tmp_path / name, *words) as caught:
            check(tmp_path / name, size, subject)
        for other in {"PNG", "JPEG", "WebP", "TIFF"} - set(words):
            assert other not in caught.value.hint
    check(tmp_path / "a.jpg", (65535, 24), photo)
    check(tmp_path / "a.webp", (16383, 16383), glass)
    check(tmp_path / "a.png", (100000, 100000), glass)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.gif", "a", "a.jp2", "a.png.bak"])
def test_other_extensions_are_refused_with_the_list(tmp_path, photo, name):
    for act in (lambda: check(tmp_path / name, (40, 24), photo), lambda: write_photo(photo, tmp_path / name)):
        with refusal(PhotoError, tmp_path / name, ".png, .jpg, .jpeg, .webp, .tif, .tiff"):
            act()


def test_upper_case_extensions_are_the_same(tmp_path, photo):
    write_photo(photo, tmp_path / "A.PNG")
    assert (tmp_path / "A.PNG").read_bytes().startswith(b"\x89PNG")


def test_places_that_cannot_be_written_to_are_refused(tmp_path, photo):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for path, words in (
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "nowhere" / "a.png", "no folder"),
        (tmp_path / "file" / "a.png", "no folder"),
        (tmp_path / "pipe.png", "no regular file"),
        (tmp_path / f"{'x' * 300}.png", "name too long"),
        (tmp_path / "nul\0.png", ""),
    ):
        with refusal(PhotoError, path, words):
            check(path, (40, 24), photo)
    with refusal(PhotoError, "nowhere"):
        write_photo(photo, tmp_path / "nowhere" / "a.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path, photo):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with refusal(PhotoError, tmp_path, "ermission"):
        check(tmp_path / "a.png", (40, 24), photo)


def test_the_input_itself_is_refused_unless_allowed(tmp_path, photo):
    write_photo(photo, tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    source = read_photo(tmp_path / "a.png")
    for name in ("a.png", "link.png"):
        with refusal(UsageError, tmp_path / name, "input"):
            check(tmp_path / name, (40, 24), source)
        check(tmp_path / name, (40, 24), source, allow_input=True)
    check(tmp_path / "b.png", (40, 24), source)


def test_a_link_stays_a_link_and_a_new_file_has_the_usual_permissions(tmp_path, photo):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"old")
    (tmp_path / "a.png").symlink_to("real/a.png")
    write_photo(photo, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_symlink()
    np.testing.assert_array_equal(read_photo(tmp_path / "real" / "a.png").pixels, photo.pixels)
    (tmp_path / "plain").touch()
    assert (tmp_path / "real" / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["a.png"]


@contextmanager
def files_limited_to(size):
    """No file may grow beyond ``size`` bytes: what a full disk is to an encoder."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 700])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_no_room_leaves_the_old_file_and_nothing_else(tmp_path, photo, extension, limit):
    path = tmp_path / f"a{extension}"
    path.write_bytes(b"old")
    with files_limited_to(limit), refusal(PhotoError, path, "could not be written"):
        write_photo(photo, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("compression", [None, Compression.NONE])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_no_room_in_the_middle_of_a_picture_is_noticed(tmp_path, extension, compression):
    noise = np.random.default_rng(0).integers(0, 65536, (500, 600, 3), dtype=np.uint16)
    with files_limited_to(1_000_000), refusal(PhotoError, "could not be written", "File too large"):
        write_photo(Photo(noise), tmp_path / f"a{extension}", OutputOptions(compression=compression))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError("odd")])
def test_any_failure_of_an_encoder_leaves_nothing(tmp_path, photo, monkeypatch, failure):
    def save(self, stream, *_args, **_options):
        stream.write(b"half of a file")
        raise failure

    monkeypatch.setattr(Image.Image, "save", save)
    expected = PhotoError if isinstance(failure, RuntimeError) else failure
    with pytest.raises(expected):
        write_photo(photo, tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, numpy as np
import signal
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.sink import write_photo
noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background may ignore it
print("ready", flush=True)
write_photo(Photo(noise), sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_writer_leaves_the_old_file(tmp_path, number):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        writer.stdout.readline()
        deadline = time.monotonic() + 20
        while not any(part.stat().st_size for part in tmp_path.glob(".xpsr-*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.002)
        writer.send_signal(number)
        assert writer.wait(20) != 0
    assert path.read_bytes() == b"old"
    left = [entry.name for entry in tmp_path.iterdir() if entry != path]
    if number == signal.SIGINT:
        assert left == []
    else:  # nobody can tidy up after this one; what stays is hidden and no photo by its name
        assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
