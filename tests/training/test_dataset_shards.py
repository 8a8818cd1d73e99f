"""Tar shards as webdataset writes them, read where they lie."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small_photos import refusal
from small_sources import cut_jpeg, encoded, make_pairs, make_recipe, picture, same_item, save, write_shard

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.training.dataset import read_source, split_photos
from xpsr_cli.training.pictures import TarMember


def source(path, **options):
    return read_source(path, make_recipe(), **options)


@pytest.fixture
def shards(tmp_path):
    """Three photos in two shards, with every kind of text."""
    folder = tmp_path / "shards"
    about = {"high": "a red\nhouse", "low": "sharp", "photo_id": 17, "category": "building", "width": 48}
    first = {"a.png": encoded(picture(0)), "a.json": about, "a.cls": "3", "b.jpg": encoded(picture(1), "JPEG")}
    write_shard(folder / "000.tar", first | {"b.txt": "a dog\n", "notes/README": "about these", ".hidden.png": b"x"})
    write_shard(folder / "more" / "001.tar", {"x/b.webp": encoded(picture(2), "WEBP"), "x/b.json": {"category": "no"}})
    return folder


@pytest.mark.parametrize("memory", [2**30, 0])
def test_samples_are_photos_with_their_texts(shards, memory):
    found = source(shards, memory_bytes=memory)
    assert found.left_out == []
    first, second, third = found.photos
    assert [photo.file for photo in found.photos] == ["000.tar/a.png", "000.tar/b.jpg", "more/001.tar/x/b.webp"]
    assert (first.high, first.low, first.photo_id, first.category) == ("a red house", "sharp", "17", "building")
    assert (second.high, second.low, second.photo_id, second.category) == ("a dog", "", "b", "")
    assert (third.high, third.photo_id, third.category) == ("", "b", "object")
    assert np.array_equal(first.pixels, picture(0))
    assert second.picture.place.sha256() == hashlib.sha256(encoded(picture(1), "JPEG")).hexdigest()
    assert [photo.file for photo in source(shards / "more").photos] == ["001.tar/x/b.webp"]
    assert [photo.file for photo in source(shards / "000.tar").photos] == ["000.tar/a.png", "000.tar/b.jpg"]


def test_ids_keep_samples_of_one_photo_together(shards):
    training, held_out = split_photos(source(shards).photos, make_recipe('data.held_out_ids=["b"]'))
    assert [photo.file for photo in training] == ["000.tar/a.png"]
    assert len(held_out) == 2


def test_a_shard_trains_as_the_folder_it_was_made_of(tmp_path):
    contents = {f"{number}.png": picture(number) for number in range(3)}
    for name, pixels in contents.items():
        save(tmp_path / "folder" / name, pixels)
    write_shard(tmp_path / "all.tar", {name: encoded(pixels) for name, pixels in contents.items()})
    folder, shard = (source(tmp_path / name, memory_bytes=0).photos for name in ("folder", "all.tar"))
    assert all(same_item(make_pairs(folder)[index], make_pairs(shard)[index]) for index in range(10))


def test_nothing_of_a_shard_stays_behind(shards, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    pairs = make_pairs(source(shards, memory_bytes=0).photos)
    for index in range(5):
        pairs[index]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_members_that_give_no_crops_are_named(tmp_path):
    good, half = encoded(picture()), cut_jpeg(picture())
    members = {
        "good.png": good, "cut.jpg": half, "page.png": "<html>", "two.png": good, "two.jpg": good,
        "IMG.0001.png": good, "bad.png": good, "bad.json": "{", "list.png": good, "list.json": "[1]",
        "number.png": good, "number.json": {"high": 3}, "bytes.png": good, "bytes.txt": b"\xff\xff",
        "tiny.png": encoded(picture(width=10)),
    }  # fmt: skip
    found = source(write_shard(tmp_path / "0.tar", members))
    assert [photo.file for photo in found.photos] == ["0.tar/good.png", "0.tar/two.png"]
    told = {file.file.removeprefix("0.tar/"): file.reason for file in found.left_out}
    for name, word in (("cut.jpg", f"{tmp_path / '0.tar'}: cut.jpg is damaged"), ("page.png", "not a photo"),
                       ("two.jpg", "another photo"), ("IMG.0001.png", "no dots"), ("bad.png", "bad.json"),
                       ("list.png", "list.json"), ("number.png", "high"), ("bytes.png", "bytes.txt"),
                       ("tiny.png", "10 x 40")):  # fmt: skip
        assert word in told.pop(name)
    assert not told


def shard_lengths(shard: Path) -> list[int]:
    """Lengths to which a shard may be cut: anywhere, between members, within a header, before its end mark."""
    content = shard.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    second = content.index(b"1.png")
    return [0, 100, 512, 700, second, second + 200, second + 512, end - 512, end - 1, end]


@pytest.mark.parametrize("cut", range(10))
def test_a_shard_that_is_cut_short_is_named(tmp_path, cut):
    shard = write_shard(tmp_path / "0.tar", {f"{number}.png": encoded(picture(number)) for number in range(3)})
    length = shard_lengths(shard)[cut]
    shard.write_bytes(shard.read_bytes()[:length])
    with refusal(UsageError if 0 < length < 512 else PhotoError, shard):
        source(tmp_path)


def test_a_shard_with_rubbish_between_its_members_is_named(tmp_path):
    shard = write_shard(tmp_path / "0.tar", {f"{number}.png": encoded(picture(number)) for number in range(3)})
    content = bytearray(shard.read_bytes())
    place = content.index(b"1.png")
    content[place : place + 512] = b"\x55" * 512
    shard.write_bytes(content)
    with refusal(PhotoError, shard, "damaged"):
        source(tmp_path)


def test_other_files_called_tar_are_refused(tmp_path):
    shard = write_shard(tmp_path / "a" / "0.tar", {"a.png": encoded(picture())})
    packed = tmp_path / "b" / "0.tar.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(shard.read_bytes()))
    with refusal(UsageError, packed, "compressed"):
        source(tmp_path / "b")
    shard.write_bytes(encoded(picture()) * 3)
    with refusal(UsageError, shard, "no tar file"):
        source(tmp_path / "a")
    write_shard(shard, {"notes.txt": "no photo"})
    with refusal(PhotoError, tmp_path / "a"):
        source(tmp_path / "a")


def test_a_shard_that_is_gone_or_shorter_later_is_named(tmp_path):
    shard = write_shard(tmp_path / "0.tar", {"a.png": encoded(picture())})
    member = source(shard, memory_bytes=0).photos[0].picture.place
    assert isinstance(member, TarMember)
    shard.write_bytes(shard.read_bytes()[:600])
    with refusal(PhotoError, shard, "shorter"):
        member.read_bytes()
    shard.unlink()
    with refusal(PhotoError, shard):
        member.read_bytes()
