"""References are kept whole, by what they were made of, within bounds, and never fail a run that can do without."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.photo import Photo
from xpsr_cli.upscaling.reference_store import ReferenceStore, content_digest, keep_reference, open_reference

SIZE = (30, 20)  # width, height
KEY, OTHER, THIRD = "ab" * 32, "cd" * 32, "ef" * 32
BYTES = 6 * 30 * 20 + 32  # of the pixels, and their SHA-256


def picture(seed=0):
    return np.random.default_rng(seed).random((20, 30, 3), dtype=np.float32)


def bands(seed=0):
    yield from np.split(picture(seed), [7, 12])


@pytest.fixture
def store(tmp_path):
    return ReferenceStore(tmp_path / "references")


@pytest.mark.parametrize("in_file", [True, False])
def test_a_reference_is_the_picture_to_half_a_step_of_sixteen_bits(tmp_path, in_file):
    kept = keep_reference(bands(), SIZE, tmp_path / "new" / "one.rgb" if in_file else None)
    assert (kept.width, kept.height) == SIZE
    window = kept.read(5, 3, 11, 20)
    expected = torch.from_numpy(picture()[5:16, 3:23]).permute(2, 0, 1)
    assert (window - expected).abs().max() <= 0.51 / 65535
    assert window.dtype is torch.float32


def test_files_and_memory_hold_the_same_bits(tmp_path):
    in_file, in_memory = keep_reference(bands(), SIZE, tmp_path / "one.rgb"), keep_reference(bands(), SIZE, None)
    assert torch.equal(in_file.read(0, 0, 20, 30), in_memory.read(0, 0, 20, 30))


def test_values_out_of_range_are_cut(tmp_path):
    kept = keep_reference(iter([np.full((20, 30, 3), 1.5, np.float32)]), SIZE, None)
    assert kept.read(0, 0, 20, 30).max() == 1


def test_what_was_begun_and_not_ended_is_not_there(tmp_path):
    def killed():
        yield picture()[:7]
        raise KeyboardInterrupt

    path = tmp_path / "one.rgb"
    with pytest.raises(KeyboardInterrupt):
        keep_reference(killed(), SIZE, path)
    assert list(tmp_path.iterdir()) == []
    assert open_reference(path, SIZE) is None


def test_a_file_of_another_length_counts_as_absent(tmp_path):
    path = tmp_path / "one.rgb"
    path.write_bytes(b"\0" * (BYTES - 1))
    assert open_reference(path, SIZE) is None


@pytest.mark.parametrize("damage", [slice(0, 1), slice(1000, 1006), slice(BYTES - 1, BYTES)])
def test_a_file_of_other_bytes_counts_as_absent(tmp_path, damage):
    path = tmp_path / "one.rgb"
    keep_reference(bands(), SIZE, path)
    values = bytearray(path.read_bytes())
    values[damage] = bytes(255 - value for value in values[damage])
    path.write_bytes(values)
    assert open_reference(path, SIZE) is None


def test_a_reference_outlives_its_file(tmp_path):
    path = tmp_path / "one.rgb"
    kept = keep_reference(bands(), SIZE, path)
    path.unlink()
    assert kept.read(0, 0, 20, 30).shape == (3, 20, 30)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("xpsr_cli.upscaling.reference_store.tempfile.mkstemp", full)
    with pytest.raises(PhotoError, match="could not be kept"):
        keep_reference(bands(), SIZE, tmp_path / "one.rgb")


def test_a_disk_that_fills_up_meanwhile_is_one_sentence_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES - 40, limits[1]))
    try:
        with pytest.raises(PhotoError, match="could not be kept"):
            keep_reference(bands(), SIZE, tmp_path / "one.rgb")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_by_a_folder_is_one_sentence(tmp_path):
    path = tmp_path / "one.rgb"
    path.mkdir()
    with pytest.raises(PhotoError, match="could not be kept"):
        keep_reference(bands(), SIZE, path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_runs_left_goes_after_a_day(store):
    path = store.place(KEY, SIZE)
    keep_reference(bands(), SIZE, path)
    fresh, old = (path.with_name(f".reference-{name}") for name in ("fresh", "old"))
    for half_done in (fresh, old):
        half_done.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    store.tidy(path)
    assert sorted(path.parent.iterdir()) == sorted([fresh, path])


def test_what_was_used_longest_ago_goes_first(store):
    store.most_bytes = 2 * BYTES
    paths = {}
    for age, key in enumerate((KEY, OTHER)):
        paths[key] = store.place(key, SIZE)
        keep_reference(bands(), SIZE, paths[key])
        os.utime(paths[key], (1000 + age, 1000 + age))
    assert store.find(KEY, SIZE) is not None  # used again now
    third = store.place(THIRD, SIZE)
    keep_reference(bands(), SIZE, third)
    store.tidy(third)
    assert [path.is_file() for path in (paths[KEY], paths[OTHER], third)] == [True, False, True]


def test_one_in_use_stays_though_it_is_the_only_one_too_many(store):
    path = store.place(KEY, SIZE)
    keep_reference(bands(), SIZE, path)
    store.most_bytes = 1
    store.tidy(path)
    assert path.is_file()


def test_what_is_larger_than_the_store_has_no_place_in_it(store):
    store.most_bytes = BYTES - 1
    assert store.place(KEY, SIZE) is None
    store.most_bytes = BYTES
    assert store.place(KEY, SIZE) is not None


def test_a_store_that_cannot_be_written_has_no_place(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert ReferenceStore(tmp_path / "file").place(KEY, SIZE) is None


def test_the_store_lies_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("XPSR_CACHE", "somewhere")
    assert ReferenceStore().folder == Path("somewhere") / "references"


def test_the_digest_is_that_of_the_content():
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    photo = Photo(pixels, name="one")
    assert content_digest(photo) == content_digest(replace(photo, name="two"))
    changed = pixels.copy()
    changed[-1, -1, -1] += 1
    opaque = np.full((20, 30), 255, np.uint8)
    others = [
        Photo(changed),
        replace(photo, alpha=opaque),
        replace(photo, grey=True),
        Photo(pixels.reshape(30, 20, 3)),
    ]
    assert len({content_digest(photo), *map(content_digest, others)}) == 5
