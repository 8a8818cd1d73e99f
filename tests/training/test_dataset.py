"""What is in a training item: the pixels, and words that are true of them."""

from __future__ import annotations

import hashlib
import logging

import numpy as np
import pytest
import torch
from small_photos import refusal
from small_sources import CROP, make_pairs, make_recipe, picture, save

from xpsr_cli.errors import UsageError
from xpsr_cli.quality_words import BLUR, JPEG, NOISE
from xpsr_cli.training.dataset import read_source
from xpsr_cli.training.words import NEGATIVE_WORDS


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", picture(number))
    rows = ["0.png,water,lake at dawn", "1.png,sky,", "2.png,sky,"]
    (tmp_path / "MANIFEST.csv").write_text("\n".join(["file,category,caption_from_filename", *rows]))
    return tmp_path


@pytest.fixture
def photos(folder):
    return read_source(folder, make_recipe()).photos


def items(pairs, count=60):
    return [pairs[index] for index in range(count)]


def high_texts(pairs):
    return {item["high"].removesuffix("clean.").strip() for item in items(pairs)}


def gradient(photo):
    return float(photo.diff(dim=-1).square().mean())


def said(levels, level, low):
    return any(word in low.split(", ") for word in levels[level].words)


def test_an_item_is_a_target_its_enlarged_small_photo_and_two_texts(photos):
    item = make_pairs(photos)[3]
    assert item.keys() == {"target_pm1", "enlarged_pm1", "high", "low"}
    for name in ("target_pm1", "enlarged_pm1"):
        assert item[name].shape == (3, CROP, CROP)
        assert item[name].dtype == torch.float32
        assert -1 <= item[name].min() < item[name].max() <= 1
    assert not torch.equal(item["target_pm1"], item["enlarged_pm1"])
    assert len(make_pairs(photos)) > 10**9


def test_crops_are_turned_and_mirrored(tmp_path):
    pixels = np.zeros((CROP, CROP, 3), np.uint8)
    pixels[: CROP // 2, :4] = 255
    save(tmp_path / "a.png", pixels)
    pairs = make_pairs(read_source(tmp_path, make_recipe()).photos)
    ways = {(item["target_pm1"] > 0)[0].numpy().tobytes() for item in items(pairs)}
    white = pixels[:, :, 0] > 0
    assert ways == {np.rot90(way, turns).tobytes() for turns in range(4) for way in (white, white[:, ::-1])}
    assert len(ways) == 8


def test_words_are_of_the_category_and_the_file_name(photos):
    said_of = high_texts(make_pairs(photos))
    assert said_of == {f"{start}{rest}" for start in ("a photo of ", "")
                       for rest in ("water", "water, lake dawn", "sky")}  # fmt: skip
    assert high_texts(make_pairs(photos, 'data.captions="none"')) == {""}
    assert high_texts(make_pairs(photos, "data.high_dropout=1")) == {""}
    asked = sum("clean." in item["high"] for item in items(make_pairs(photos), 200))
    assert 130 < asked < 190


def test_captions_come_by_the_content_of_the_file(folder, photos, caplog):
    digests = [hashlib.sha256((folder / f"{number}.png").read_bytes()).hexdigest() for number in range(3)]
    store = {digests[0]: "a lake\nat dawn", digests[2]: "clouds", "0" * 64: "another photo"}
    with caplog.at_level(logging.WARNING):
        pairs = make_pairs(photos, 'data.captions="store"', captions=store)
    assert high_texts(pairs) == {"a lake at dawn", "", "clouds"}
    assert "1 of 3 photos have no caption" in caplog.text
    assert "1.png" in caplog.text
    assert high_texts(make_pairs(pairs.photos, 'data.captions="store"')) == high_texts(pairs)
    for none in ({}, None):
        with refusal(UsageError, "none of the 3 photos", "xpsr caption"):
            make_pairs(photos, 'data.captions="store"', captions=none)
    assert "lake at dawn" not in high_texts(make_pairs(photos, captions=store))  # the recipe asks for words


def test_captions_may_be_any_mapping(folder, photos):
    class Sought(dict):
        """Knows what it is asked for, not how much it holds."""

        def __len__(self):
            raise TypeError

    digest = hashlib.sha256((folder / "0.png").read_bytes()).hexdigest()
    assert "a lake" in high_texts(make_pairs(photos, 'data.captions="store"', captions=Sought({digest: "a lake"})))


def test_low_texts_say_what_was_done(photos):
    for preset in ("light", "xpsr"):
        pairs = make_pairs(photos, f"data.degradations={{{preset} = 1.0}}")
        lows = [item["low"].split(", ") for item in items(pairs)]
        words = [{word for level in levels for word in level.words} for levels in (BLUR, NOISE, JPEG)]
        assert all(len(low) == 3 and all(choice & set(low) for choice in words) for low in lows)
    heavy = items(make_pairs(photos, "data.degradations={xpsr = 1.0}"), 40)
    assert not any(said(JPEG, -1, item["low"]) for item in heavy)  # it always compresses
    bicubic = items(make_pairs(photos, "data.degradations={bicubic = 1.0}"), 20)
    assert all(said(NOISE, 0, item["low"]) and said(JPEG, -1, item["low"]) for item in bicubic)
    assert all(item["low"] == "" for item in items(make_pairs(photos, "data.low_dropout=1"), 10))


def test_an_unknown_degradation_is_refused(photos):
    with refusal(UsageError, "heavy"):
        make_pairs(photos, "data.degradations={heavy = 1.0}")


def test_negative_samples_are_blurred_and_say_so(photos):
    always, never = make_pairs(photos, "data.negative_probability=1"), make_pairs(photos)
    for index in range(10):
        item = always[index]
        assert gradient(item["target_pm1"]) < gradient(never[index]["target_pm1"])
        assert torch.equal(item["enlarged_pm1"], never[index]["enlarged_pm1"])
        assert set(item["high"].rstrip(".").split(", ")) <= set(NEGATIVE_WORDS)
    assert {item["low"] == "clear" for item in items(always)} == {True, False}


def test_a_clean_condition_is_the_target_with_clean_words(photos):
    for item in items(make_pairs(photos, "data.clean_condition=1"), 20):
        assert torch.equal(item["enlarged_pm1"], item["target_pm1"])
        assert all(said(levels, level, item["low"]) for levels, level in ((BLUR, 0), (NOISE, 0), (JPEG, -1)))
    some = items(make_pairs(photos, "data.clean_condition=0.25"), 200)
    assert 25 < sum(torch.equal(item["enlarged_pm1"], item["target_pm1"]) for item in some) < 80


def test_targets_are_sharpened_where_the_recipe_says_so(tmp_path):
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[:, 32:] = 160
    save(tmp_path / "a.png", pixels)
    photos = read_source(tmp_path, make_recipe()).photos
    plain = make_pairs(photos, "data.crop_px=64")[0]["target_pm1"]
    sharp = make_pairs(photos, "data.crop_px=64", "data.sharpen_target=true")[0]["target_pm1"]
    assert len(plain.unique()) == 2
    assert sharp.max() > plain.max() + 0.05
    assert sharp.min() < plain.min() - 0.05
