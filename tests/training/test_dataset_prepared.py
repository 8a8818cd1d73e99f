"""Pairs that were prepared before, as the released code lays them out."""

from __future__ import annotations

import numpy as np
import pytest
from small_photos import refusal
from small_sources import CROP, cut_jpeg, make_pairs, make_recipe, picture, same_item, save

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.training.crops import Crops
from xpsr_cli.training.dataset import read_source, split_photos

TEXTS = {
    "highlevel_prompt_GT": "a red\nhouse",
    "highlevel_prompt": "something red",
    "lowlevel_prompt_q": "very blurred",
    "lowlevel_prompt_q_GT": "sharp",
}


def write_pair(folder, name="div2k/0001", *, small=None, texts=TEXTS, seed=0):
    """A pair whose large photo is its small one with every pixel four times as large each way."""
    small = picture(seed, 24, 20) if small is None else small
    save(folder / "HR" / f"{name}.png", small.repeat(4, axis=0).repeat(4, axis=1))
    save(folder / "LR" / f"{name}.png", small)
    for kind, text in texts.items():
        file = folder / kind / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def source(folder, **options):
    return read_source(folder, make_recipe(), **options)


@pytest.mark.parametrize("memory", [2**30, 0])
def test_the_same_part_of_both_photos_is_cut(tmp_path, memory):
    write_pair(tmp_path)
    crops = Crops(source(tmp_path, memory_bytes=memory).photos, make_recipe("data.crops_per_reading=3"))
    corners = set()
    for index in range(30):
        _, cut, _ = crops.read(index)
        assert cut.large.shape == (CROP, CROP, 3)
        assert np.array_equal(cut.large, cut.small.repeat(4, axis=0).repeat(4, axis=1))
        corners.add(cut.large.tobytes())
    assert len(corners) > 20


def test_small_photos_that_were_enlarged_before_are_taken_as_they_are(tmp_path):
    large = picture(width=64, height=64)
    save(tmp_path / "HR" / "a.png", large)
    save(tmp_path / "LR" / "a.webp", 255 - large, lossless=True)  # a negative, so that both are told apart
    pairs = make_pairs(source(tmp_path).photos)
    for index in range(8):
        item = pairs[index]
        assert item["target_pm1"].shape == (3, CROP, CROP)
        assert np.allclose(item["enlarged_pm1"], -item["target_pm1"], atol=1e-6)


def test_a_small_photo_is_enlarged_to_its_crop(tmp_path):
    write_pair(tmp_path, small=picture(3, 60, 60))
    pairs = make_pairs(source(tmp_path).photos, "data.crop_px=64")
    for index in range(4):
        item = pairs[index]
        assert item["enlarged_pm1"].shape == (3, 64, 64)
        assert np.corrcoef(item["enlarged_pm1"].ravel(), item["target_pm1"].ravel())[0, 1] > 0.98


def test_texts_come_from_their_files(tmp_path):
    write_pair(tmp_path / "dataset_0")
    write_pair(tmp_path / "dataset_1", "0002", texts={"highlevel_prompt": "a dog", "lowlevel_prompt_q": "noisy"})
    write_pair(tmp_path / "dataset_1", "0003", texts={})
    found = source(tmp_path).photos
    assert [photo.file for photo in found] == [
        "dataset_0/HR/div2k/0001.png", "dataset_1/HR/0002.png", "dataset_1/HR/0003.png",
    ]  # fmt: skip

    def texts(photo, *overrides):
        items = [make_pairs([photo], *overrides)[index] for index in range(20)]
        return {(item["high"].removesuffix("clean.").strip(), item["low"]) for item in items}

    assert texts(found[0]) == {("a red house", "very blurred")}
    assert texts(found[1]) == {("a dog", "noisy")}
    assert texts(found[2]) == {("", "")}
    assert texts(found[0], 'data.captions="none"') == {("", "very blurred")}
    assert texts(found[0], "data.clean_condition=1.0") == {("a red house", "sharp")}
    (words,) = {high for high, _ in texts(found[1], "data.clean_condition=1.0")}
    assert words == "a dog"
    assert all("noisy" not in low for _, low in texts(found[1], "data.clean_condition=1.0"))


def test_the_condition_is_at_times_the_target(tmp_path):
    write_pair(tmp_path)
    photos = source(tmp_path).photos
    item = make_pairs(photos, "data.clean_condition=1.0")[0]
    assert np.array_equal(item["enlarged_pm1"], item["target_pm1"])
    some = make_pairs(photos, "data.clean_condition=0.25")
    clean = sum(np.array_equal(item["enlarged_pm1"], item["target_pm1"]) for item in map(some.__getitem__, range(200)))
    assert 25 < clean < 80


def test_prepared_targets_are_not_sharpened_again(tmp_path):
    write_pair(tmp_path)
    photos = source(tmp_path).photos
    plain, sharpened = make_pairs(photos), make_pairs(photos, "data.sharpen_target=true")
    assert all(same_item(plain[index], sharpened[index]) for index in range(5))


def test_pairs_of_one_name_are_held_out_together(tmp_path):
    for folder in ("dataset_0", "dataset_1"):
        for name in ("a/1", "a/2", "b/3"):
            write_pair(tmp_path / folder, name)
    photos = source(tmp_path).photos
    assert len(photos) == 6
    training, held_out = split_photos(photos, make_recipe("data.held_out_photos=1"))
    assert len(held_out) == 2
    assert {photo.photo_id for photo in training}.isdisjoint({photo.photo_id for photo in held_out})


def test_what_is_no_pair_is_named(tmp_path):
    write_pair(tmp_path, "good")
    write_pair(tmp_path, "double")
    save(tmp_path / "HR" / "double.webp", picture())
    save(tmp_path / "HR" / "alone.png", picture())
    save(tmp_path / "LR" / "lost.png", picture())
    write_pair(tmp_path, "uneven")
    save(tmp_path / "LR" / "uneven.png", picture(width=50, height=40))
    write_pair(tmp_path, "third")
    save(tmp_path / "LR" / "third.png", picture(width=32, height=32))
    save(tmp_path / "HR" / "third.png", picture(width=96, height=96))
    write_pair(tmp_path, "cut")
    (tmp_path / "LR" / "cut.png").write_bytes(cut_jpeg(picture(width=24, height=20)))
    write_pair(tmp_path, "words")
    (tmp_path / "lowlevel_prompt_q" / "words.txt").write_bytes(b"\xff\xfe\xff")
    save(tmp_path / "LR" / ".hidden" / "x.png", picture())
    found = source(tmp_path)
    assert [photo.file for photo in found.photos] == ["HR/double.png", "HR/good.png"]
    told = {file.file: file.reason for file in found.left_out}
    for file, word in (("HR/double.webp", "same name"), ("HR/alone.png", "LR"), ("LR/lost.png", "HR"),
                       ("HR/uneven.png", "50 x 40"), ("HR/third.png", "3 times"), ("HR/cut.png", "LR/cut.png"),
                       ("HR/words.png", "words.txt")):  # fmt: skip
        assert word in told.pop(file)
    assert not told


def test_folders_without_a_pair_are_refused(tmp_path):
    (tmp_path / "HR").mkdir()
    (tmp_path / "LR").mkdir()
    with refusal(PhotoError, tmp_path):
        source(tmp_path)
    write_pair(tmp_path)
    with refusal(UsageError, "128 pixels"):
        read_source(tmp_path, make_recipe("data.crop_px=128"))
