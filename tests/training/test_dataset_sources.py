"""Folders of photos as they are: nested, of every format, some of them broken."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from photos import profiles
from PIL import Image
from small_photos import refusal
from small_sources import (
    CROP,
    cut_jpeg,
    cut_png,
    encoded,
    make_pairs,
    make_recipe,
    picture,
    same_item,
    save,
    write_shard,
)
from torch.utils.data import DataLoader

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.source import read_photo
from xpsr_cli.training.crops import UnreadableError
from xpsr_cli.training.dataset import read_photos, read_source, split_photos
from xpsr_cli.training.splits import without_copies


def source(path: Path, **options):
    return read_source(path, make_recipe(), **options)


def files(found):
    return [photo.file for photo in found.photos]


def reasons(found):
    return {file.file: file.reason for file in found.left_out}


def test_folders_in_folders_are_searched_but_hidden_ones_and_the_run_are_not(tmp_path):
    for name in ("b.png", "2020/a.jpg", "2020/deep/c.webp", ".trash/d.png", "run/sheet.png", "2020/.e.png"):
        save(tmp_path / name, picture())
    (tmp_path / "notes.txt").touch()
    assert files(source(tmp_path, leave_out=tmp_path / "run")) == ["2020/a.jpg", "2020/deep/c.webp", "b.png"]
    assert files(source(tmp_path / "run", leave_out=tmp_path / "run")) == ["sheet.png"]
    assert files(source(tmp_path / "b.png")) == ["b.png"]


def test_manifests_describe_the_photos_beside_and_below_them(tmp_path):
    for name in ("a.png", "sub/a.png", "sub/b.png"):
        save(tmp_path / name, picture())
    (tmp_path / "MANIFEST.csv").write_text(
        "file,photo_id,category,caption_from_filename\na.png,x,water,Sea-shore 12 at\nsub/b.png,,sky,\ngone.png,y,,\n"
    )
    (tmp_path / "sub" / "MANIFEST.csv").write_text("file,category\na.png,nonsense\n")
    first, second, third = read_photos(tmp_path)
    assert (first.photo_id, first.category, first.name) == ("x", "water", "sea shore")
    assert (second.photo_id, second.category, second.name) == ("a", "object", "")
    assert (third.photo_id, third.category) == ("b", "sky")


@pytest.mark.parametrize("content", [b"name,category\n", b"", b"file,category\n\xff\xfe.png,sky\n"])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path, content):
    save(tmp_path / "a.png", picture())
    (tmp_path / "MANIFEST.csv").write_bytes(content)
    with refusal(UsageError, tmp_path / "MANIFEST.csv"):
        read_photos(tmp_path)


@pytest.mark.parametrize("memory", [2**30, 0])
def test_every_format_gives_upright_red_green_and_blue(tmp_path, memory):
    pixels = picture()
    deep = np.random.default_rng(1).integers(0, 2**16, (40, 48, 3), dtype=np.uint16)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    save(tmp_path / "plain.png", pixels)
    save(tmp_path / "turned.jpg", pixels, exif=sideways, quality=95)
    save(tmp_path / "photo.webp", pixels, quality=95)
    save(tmp_path / "photo.tif", pixels)
    save(tmp_path / "photo.avif", pixels, quality=95)
    save(tmp_path / "grey.png", pixels[:, :, 0])
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "print.jpg", icc_profile=profiles.cmyk(), quality=95)
    found = {photo.file: photo for photo in source(tmp_path, memory_bytes=memory).photos}

    assert len(found) == 8
    assert np.array_equal(found["plain.png"].pixels, pixels)
    assert np.array_equal(found["photo.tif"].pixels, pixels)
    assert np.array_equal(found["deep.png"].pixels, (deep / 257 + 0.5).astype(np.uint8))
    assert np.array_equal(found["grey.png"].pixels, np.repeat(pixels[:, :, :1], 3, axis=2))
    assert found["turned.jpg"].pixels.shape == (48, 40, 3)
    assert np.abs(found["turned.jpg"].pixels - np.rot90(pixels, -1).astype(float)).mean() < 5
    for name in ("photo.webp", "photo.avif", "print.jpg"):
        assert np.array_equal(found[name].pixels, read_photo(tmp_path / name).pixels)
    assert all((photo.picture.kept is not None) == bool(memory) for photo in found.values())


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.dstack([picture(), np.full((40, 48), 255, np.uint8)])
    pixels[:10, :, 3] = 0
    save(tmp_path / "cut out.png", pixels)
    (photo,) = read_photos(tmp_path)
    assert (photo.pixels[:10] == 255).all()
    assert np.array_equal(photo.pixels[10:], pixels[10:, :, :3])


def test_files_that_give_no_crops_are_named_with_the_reason(tmp_path, caplog):
    save(tmp_path / "good.png", picture())
    save(tmp_path / "flat.png", picture(width=200, height=CROP))
    save(tmp_path / "small.png", picture(width=200, height=40)[:, :20])
    (tmp_path / "cut.png").write_bytes(cut_png(picture()))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "inks.jpg")
    with caplog.at_level(logging.WARNING):
        found = read_source(tmp_path, make_recipe("data.crop_px=24"))
    assert files(found) == ["good.png"]
    told = reasons(found)
    assert set(told) == {"flat.png", "small.png", "cut.png", "empty.jpg", "page.jpg", "lost.png", "inks.jpg"}
    for name, word in (("flat.png", "200 x 16"), ("small.png", "20 x 40"), ("cut.png", "cut short"),
                       ("empty.jpg", "empty"), ("page.jpg", "not a photo"), ("lost.png", "does not exist"),
                       ("inks.jpg", "CMYK")):  # fmt: skip
        assert word in told[name]
    assert all(f"left out {name}: {reason}" in caplog.text for name, reason in told.items())


def test_sources_without_photos_are_refused_in_one_sentence(tmp_path):
    with refusal(PhotoError, tmp_path / "gone", "does not exist"):
        source(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with refusal(PhotoError, tmp_path / "empty", "PNG"):
        source(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(cut_png(picture()))
    with refusal(PhotoError, tmp_path / "broken", "a.png", "cut short"):
        source(tmp_path / "broken")
    save(tmp_path / "small" / "a.png", picture())
    with refusal(UsageError, tmp_path / "small", "at least 64 pixels"):
        read_source(tmp_path / "small", make_recipe("data.crop_px=64"))


def test_photos_of_several_kinds_in_one_folder_are_refused(tmp_path):
    save(tmp_path / "set" / "HR" / "a.png", picture())
    save(tmp_path / "set" / "LR" / "a.png", picture())
    assert len(source(tmp_path).photos) == 1
    save(tmp_path / "preview.png", picture())
    with refusal(UsageError, tmp_path / "preview.png", tmp_path / "set"):
        source(tmp_path)
    (tmp_path / "preview.png").unlink()
    write_shard(tmp_path / "0.tar", {"a.png": encoded(picture())})
    with refusal(UsageError, tmp_path / "set", tmp_path / "0.tar"):
        source(tmp_path)


def test_several_sources_are_read_as_one(tmp_path):
    save(tmp_path / "photos" / "a.png", picture())
    write_shard(tmp_path / "shards" / "0.tar", {"b.png": encoded(picture())})
    both = [tmp_path / "photos", tmp_path / "shards"]
    assert files(source(both)) == ["a.png", "0.tar/b.png"]
    size = 40 * 48 * 3
    assert all(photo.is_kept for photo in source(both, memory_bytes=2 * size).photos)
    assert not any(photo.is_kept for photo in source(both, memory_bytes=2 * size - 1).photos)
    (tmp_path / "empty").mkdir()
    assert files(source([*both, tmp_path / "empty"])) == ["a.png", "0.tar/b.png"]
    with refusal(UsageError, f"{both[0]}, {both[1]}", "at least 64"):
        read_source(both, make_recipe("data.crop_px=64"))


def test_a_folder_called_hr_alone_holds_photos(tmp_path):
    save(tmp_path / "HR" / "a.png", picture())
    assert files(source(tmp_path)) == ["HR/a.png"]


def damaged_archive(folder):
    """Four photos, of which two have whole headers and broken pixels."""
    for number in range(4):
        save(folder / f"{number}.jpg", picture(number))
    for number in (1, 3):
        (folder / f"{number}.jpg").write_bytes(cut_jpeg(picture(number)))
    return source(folder, memory_bytes=0).photos


def test_damage_that_shows_only_later_is_named_and_another_photo_drawn(tmp_path, caplog):
    photos = damaged_archive(tmp_path)
    assert len(photos) == 4
    pairs = make_pairs(photos)
    assert pairs.unreadable() == []
    items = [pairs[index] for index in range(12)]
    assert caplog.text.count("a crop of 1.jpg: ") == caplog.text.count("a crop of 3.jpg: ") == 1
    assert [file.file for file in pairs.unreadable()] == ["1.jpg", "3.jpg"]
    assert all("damaged or cut short" in file.reason for file in pairs.unreadable())

    later = make_pairs(photos)  # as after a restart, which has seen no damage yet
    assert all(same_item(later[index], items[index]) for index in reversed(range(12)))
    (tmp_path / "0.jpg").unlink()
    (tmp_path / "2.jpg").unlink()
    with refusal(UnreadableError, "100 photos in a row", ".jpg"):
        later[3]
    with refusal(UnreadableError, "100 photos in a row", ".jpg"):
        next(iter(DataLoader(later, batch_size=2, num_workers=1)))


@pytest.mark.parametrize("crops_per_reading", [1, 4])
def test_a_damaged_corner_of_a_photo_costs_the_same_crops_in_any_order(tmp_path, crops_per_reading):
    tifffile.imwrite(tmp_path / "a.tif", picture(height=160), compression="zlib", rowsperstrip=16, photometric="rgb")
    save(tmp_path / "b.jpg", picture(1))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        place = tiff.pages[0].dataoffsets[4] + 4
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[place : place + 40] = bytes(40)
    (tmp_path / "a.tif").write_bytes(data)
    photos = source(tmp_path, memory_bytes=0).photos
    every = make_pairs(photos, f"data.crops_per_reading={crops_per_reading}")
    items = [every[index] for index in range(40)]
    assert [file.file for file in every.unreadable()] == ["a.tif"]
    for index in range(0, 40, 3):
        alone = make_pairs(photos, f"data.crops_per_reading={crops_per_reading}")
        assert same_item(alone[index], items[index])


def test_what_a_worker_cannot_read_is_known_to_the_main_process(tmp_path):
    pairs = make_pairs(damaged_archive(tmp_path))
    for _ in DataLoader(pairs, batch_size=2, sampler=range(12), num_workers=2):
        pass
    assert [file.file for file in pairs.unreadable()] == ["1.jpg", "3.jpg"]


def test_a_photo_that_was_replaced_is_not_mistaken_for_the_old_one(tmp_path):
    save(tmp_path / "a.png", picture())
    pairs = make_pairs(source(tmp_path, memory_bytes=0).photos)
    save(tmp_path / "a.png", picture(width=40))
    with refusal(UnreadableError, "a.png", "was changed"):
        pairs[0]


def test_whole_photographs_are_held_out(tmp_path):
    for name in ("a_1", "a_2", "b_1", "c_1", "d_1"):
        save(tmp_path / f"{name}.png", picture())
    rows = [f"{name}.png,{name[0]}" for name in ("a_1", "a_2", "b_1", "c_1", "d_1")]
    (tmp_path / "MANIFEST.csv").write_text("\n".join(["file,photo_id", *rows]))
    photos = read_photos(tmp_path)
    sides = set()
    for seed in range(20):
        recipe = make_recipe(f"seed={seed}", "data.held_out_photos=1", 'data.held_out_ids=["a"]')
        training, held_out = split_photos(photos, recipe)
        assert split_photos(photos, recipe) == (training, held_out)
        assert {p.photo_id for p in training}.isdisjoint({p.photo_id for p in held_out})
        assert len(training) + len(held_out) == 5
        assert {"a_1.png", "a_2.png"} <= {p.file for p in held_out}
        sides.add(tuple(p.file for p in held_out))
    assert len(sides) > 2


def test_a_copy_of_a_held_out_photo_is_not_trained_on(tmp_path):
    for number in range(3):
        save(tmp_path / "photos" / f"{number}.png", picture(number))
    shutil.copy(tmp_path / "photos" / "1.png", tmp_path / "photos" / "other name.png")
    (tmp_path / "photos" / "link.png").symlink_to("1.png")
    members = {"5.png": (tmp_path / "photos" / "1.png").read_bytes(), "6.png": encoded(picture(6))}
    shard = write_shard(tmp_path / "a.tar", members)
    photos = read_source([tmp_path / "photos", shard], make_recipe()).photos
    training, held_out = split_photos(photos, make_recipe('data.held_out_ids=["1"]'))
    kept, copies = without_copies(training, held_out)
    assert [photo.file for photo in held_out] == ["1.png"]
    assert [photo.file for photo in kept] == ["0.png", "2.png", "a.tar/6.png"]
    assert [copy.file for copy in copies] == ["link.png", "other name.png", "a.tar/5.png"]
    assert all("1.png, which is held out" in copy.reason for copy in copies)
    assert without_copies(training, []) == (training, [])


def test_links_to_folders_are_named_and_lead_in_no_circle(tmp_path):
    save(tmp_path / "photos" / "a.png", picture())
    save(tmp_path / "elsewhere" / "b.png", picture(1))
    (tmp_path / "photos" / "circle").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = source(tmp_path / "photos")
    assert files(found) == ["a.png"]
    assert set(reasons(found)) == {"circle", "more"}
    assert "link to a folder" in reasons(found)["more"]
    (tmp_path / "photos" / "a.png").unlink()
    with refusal(PhotoError, tmp_path / "photos", "circle", "link to a folder"):
        source(tmp_path / "photos")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert files(source(tmp_path / "link")) == ["b.png"]
