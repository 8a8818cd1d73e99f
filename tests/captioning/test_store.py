"""Captions are kept by photo, captioner and regions; what is torn or cannot be kept harms nothing."""

import contextlib
import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xpsr_cli.captioning import json_files
from xpsr_cli.captioning.captions import Box, Caption, CaptionerKey, RegionText
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.user_cache import cache_folder

SHA, OTHER = "ab" * 32, "ac" * 32
KEY = CaptionerKey("one", "weights", (("instruction", "say"),))
BOXES = (Box(0, 0, 8, 8), Box(8, 0, 8, 8))
CAPTION = Caption("a dög", "noisy", "one")
WITH_REGIONS = Caption("a dög", "noisy", "one", tuple(RegionText(box, f"part {box.left}") for box in BOXES))


@pytest.fixture
def store(tmp_path):
    return CaptionStore(tmp_path / "captions")


def files(store):
    return [path for path in store.folder.rglob("*") if path.is_file()]


def test_what_is_written_is_read_again(store):
    assert store.read(SHA, KEY) is None
    store.write(SHA, KEY, CAPTION)
    store.write(SHA, KEY, WITH_REGIONS, BOXES)
    again = CaptionStore(store.folder)
    assert again.read(SHA, KEY) == CAPTION
    assert again.read(SHA, KEY, BOXES) == WITH_REGIONS
    assert [path.parent.name for path in files(store)] == ["ab", "ab"]
    assert all("a dög" in path.read_text(encoding="utf-8") for path in files(store))


def test_another_photo_captioner_or_region_is_another_caption(store):
    store.write(SHA, KEY, CAPTION)
    store.write(SHA, KEY, WITH_REGIONS, BOXES)
    others = [
        CaptionerKey("two", "weights", KEY.settings),
        CaptionerKey("one", "other weights", KEY.settings),
        CaptionerKey("one", "weights", (("instruction", "sing"),)),
        CaptionerKey("one", "weights", KEY.settings, version=2),
    ]
    assert [store.read(SHA, key) for key in others] == [None] * 4
    assert store.read(OTHER, KEY) is None
    assert store.read(SHA, KEY, BOXES[:1]) is None
    assert store.read(SHA, KEY, BOXES[::-1]) is None


def test_a_captioner_without_texts_for_regions_is_not_asked_again(store):
    store.write(SHA, KEY, CAPTION, BOXES)
    assert store.read(SHA, KEY, BOXES) == CAPTION
    assert store.read(SHA, KEY) is None


@pytest.mark.parametrize(
    "content",
    [b"", b'{"photo_sha256": "ab', b"[]", b"3", b'{"high": "a"}', b"\xff\xfe", b"[" * 100_000, b'"text"', b"null"],
)
def test_a_torn_file_counts_as_absent_and_is_made_good(store, content):
    store.write(SHA, KEY, CAPTION)
    files(store)[0].write_bytes(content)
    assert store.read(SHA, KEY) is None
    store.write(SHA, KEY, CAPTION)
    assert store.read(SHA, KEY) == CAPTION


def test_a_file_that_says_another_photo_counts_as_absent(store):
    store.write(SHA, KEY, CAPTION)
    path = files(store)[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"photo_sha256": OTHER}))
    assert store.read(SHA, KEY) is None


def test_a_cache_that_cannot_be_written_is_told_of_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    store = CaptionStore(tmp_path / "file" / "captions")
    with caplog.at_level(logging.WARNING, "xpsr_cli"):
        store.write(SHA, KEY, CAPTION)
        store.write(OTHER, KEY, CAPTION)
    assert store.read(SHA, KEY) is None
    (message,) = caplog.messages
    assert message.startswith("Captions are not kept for the next time: ")
    assert str(tmp_path / "file") in message
    assert message.endswith(".")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
def test_a_full_disk_is_told_of_and_leaves_nothing_half_written(store, caplog, monkeypatch):
    monkeypatch.setattr("xpsr_cli.photos.whole_file.os.fsync", lambda handle: os.write(os.open("/dev/full", 1), b"0"))
    store.write(SHA, KEY, CAPTION)
    assert "No space left" in caplog.text
    assert files(store) == []


def test_text_that_is_no_unicode_is_kept(store):
    caption = Caption("half \udc80 a character", "", "one")
    store.write(SHA, KEY, caption)
    assert store.read(SHA, KEY) == caption


def test_many_writers_at_once_leave_whole_files_only(store):
    shas = [f"{number:064x}" for number in range(8)]

    def write(_):
        for sha in shas:
            CaptionStore(store.folder).write(sha, KEY, CAPTION)
            assert store.read(sha, KEY) == CAPTION

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(8)))
    assert len(files(store)) == 8


@pytest.mark.skipif(os.name != "posix", reason="locks are those of POSIX")
def test_what_killed_runs_left_is_cleared_away_but_not_what_is_being_written(store):
    import fcntl

    store.folder.joinpath("ab").mkdir(parents=True)
    ages = {"just-made": 0, "left": 60, "locked": 60, "old": 7200}
    paths = {name: store.folder / "ab" / f".caption-{name}.tmp" for name in ages}
    for name, path in paths.items():
        path.write_text('{"hi')
        os.utime(path, (time.time() - ages[name],) * 2)
    with paths["locked"].open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        store.write(SHA, KEY, CAPTION)
    assert [name for name, path in paths.items() if path.exists()] == ["just-made", "locked"]


def test_what_is_being_written_is_locked(store, monkeypatch):
    held = []

    def look(handle):
        (path,) = store.folder.rglob(".caption-*.tmp")
        os.utime(path, (time.time() - 60,) * 2)
        with contextlib.suppress(OSError):
            held.append(json_files._is_left_over(path))

    monkeypatch.setattr("xpsr_cli.photos.whole_file.os.fsync", look)
    store.write(SHA, KEY, CAPTION)
    assert held == []
    assert store.read(SHA, KEY) == CAPTION


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XPSR_CACHE", str(tmp_path / "named"))
    assert CaptionStore().folder == tmp_path / "named" / "captions"
    monkeypatch.delenv("XPSR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, variable, value, expected in (
        ("linux", "XDG_CACHE_HOME", "", tmp_path / ".cache" / "xpsr"),
        ("linux", "XDG_CACHE_HOME", "/x", Path("/x/xpsr")),
        ("darwin", "XDG_CACHE_HOME", "/x", tmp_path / "Library" / "Caches" / "xpsr"),
        ("win32", "LOCALAPPDATA", "/local", Path("/local/xpsr/cache")),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv(variable, value)
        assert cache_folder() == expected
