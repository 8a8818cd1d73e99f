"""Items are the same however they are come by; files are opened seldom and memory stays small."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from small_sources import CROP, encoded, make_pairs, make_recipe, picture, same_item, save, write_shard
from torch.utils.data import DataLoader

from xpsr_cli.training import crops as crops_module
from xpsr_cli.training.crops import LANES, Crops
from xpsr_cli.training.dataset import read_source
from xpsr_cli.training.pictures import PhotoFile

COUNT = 64
ENDLESS = 2**40  # where the transform of a small model takes its crops from


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        save(folder / f"{number:02d}.png", picture(number, 48 + number, 40))
    return folder


@pytest.fixture(params=[1, 4], ids="crops_per_reading={}".format)
def overrides(request):
    """Everything random at once."""
    return (
        f"data.crops_per_reading={request.param}", "data.degradations={light = 0.5, xpsr = 0.5}",
        "data.high_dropout=0.2", "data.low_dropout=0.2", "data.negative_probability=0.2", "data.clean_condition=0.2",
    )  # fmt: skip


def kept(folder):
    return read_source(folder, make_recipe()).photos


def lazy(folder):
    return read_source(folder, make_recipe(), memory_bytes=0).photos


def test_items_depend_on_their_index_alone(folder, overrides, monkeypatch):
    straight = make_pairs(kept(folder), *overrides)
    indices = [*range(COUNT), ENDLESS, ENDLESS + 1]
    items = {index: straight[index] for index in indices}
    assert len({item["target_pm1"].numpy().tobytes() for item in items.values()}) == len(items)

    files = make_pairs(lazy(folder), *overrides)
    assert all(same_item(files[index], items[index]) for index in indices)
    assert all(same_item(files[index], items[index]) for index in indices)  # once more, after other crops
    backwards = make_pairs(lazy(folder), *overrides)
    assert all(same_item(backwards[index], items[index]) for index in reversed(indices))
    for index in indices[::7]:
        assert same_item(make_pairs(lazy(folder), *overrides)[index], items[index])
    monkeypatch.setattr(crops_module, "READY_BYTES", 3 * CROP**2 * 3)
    forgetful = make_pairs(lazy(folder), *overrides)
    assert all(same_item(forgetful[index], items[index]) for index in indices)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(folder, overrides, workers):
    pairs = make_pairs(lazy(folder), *overrides)
    loader = DataLoader(pairs, batch_size=2, sampler=range(10, 30), num_workers=workers)
    expected = make_pairs(kept(folder), *overrides)
    for number, batch in enumerate(loader):
        for place in range(2):
            item = {name: value[place] for name, value in batch.items()}
            assert same_item(item, expected[10 + 2 * number + place])


def test_another_seed_gives_other_items(folder, overrides):
    first, other = make_pairs(kept(folder), *overrides), make_pairs(kept(folder), *overrides, "seed=1")
    assert not any(torch.equal(first[index]["target_pm1"], other[index]["target_pm1"]) for index in range(5))


@pytest.fixture
def openings(monkeypatch):
    """Counts how often each file is opened."""
    counted = Counter()
    really_open = PhotoFile.open

    def counting(self):
        counted[self.path.name] += 1
        return really_open(self)

    monkeypatch.setattr(PhotoFile, "open", counting)
    return counted


def test_a_file_is_opened_once_for_several_crops(folder, openings):
    for crops_per_reading, most in ((1, 1.0), (8, 0.3)):
        photos = lazy(folder)
        crops = Crops(photos, make_recipe(f"data.crops_per_reading={crops_per_reading}"))
        openings.clear()
        for index in range(1000, 2000):
            crops.read(index)
        assert 1000 / crops_per_reading / 2 < openings.total() <= 1000 * most
        assert min(openings[photo.file] for photo in photos) > openings.total() / 24  # all of them, and about alike


def test_photos_in_memory_are_never_opened_again(folder, openings):
    pairs = make_pairs(kept(folder), "data.crops_per_reading=8")
    openings.clear()
    for index in range(20):
        pairs[index]
    assert not openings


def test_workers_do_not_open_each_others_photos(folder, openings):
    openings_of = []
    for workers in (1, LANES):
        openings.clear()
        for worker in range(workers):
            crops = Crops(lazy(folder), make_recipe("data.crops_per_reading=8"))
            openings.subtract(photo.file for photo in crops.photos)  # those of looking at the headers
            for batch in range(500 + worker, 1000, workers):
                for index in (2 * batch, 2 * batch + 1):
                    crops.read(index)
        openings_of.append(openings.total())
    assert openings_of[1] <= 1.05 * openings_of[0]


def test_a_batch_has_several_photos(folder):
    crops = Crops(kept(folder), make_recipe("data.crops_per_reading=8", "data.batch_size=8"))
    batches = [{crops.read(8 * batch + item)[0].file for item in range(8)} for batch in range(50)]
    assert sum(map(len, batches)) / 50 > 4  # of twelve; five or six come out of eight draws


def test_crops_cut_before_their_turn_take_little_memory(folder, monkeypatch):
    monkeypatch.setattr(crops_module, "READY_BYTES", 20 * CROP**2 * 3)
    crops = Crops(lazy(folder), make_recipe("data.crops_per_reading=16"))
    for index in range(200):
        crops.read(index)
        assert len(crops._ready) <= 20


def test_every_part_of_a_photo_is_cut(tmp_path):
    save(tmp_path / "a.png", picture(width=CROP + 2, height=CROP + 1))
    crops = Crops(kept(tmp_path), make_recipe())
    corners = {crops._draw(index)[0] for index in range(100)}
    assert {(place.top, place.left) for place in corners} == {(top, left) for top in range(2) for left in range(3)}
    save(tmp_path / "a.png", picture(width=CROP, height=CROP))
    crops = Crops(kept(tmp_path), make_recipe())
    assert crops.read(0)[1].large.shape == (CROP, CROP, 3)


def test_shards_are_read_lazily_with_the_same_items(tmp_path, overrides):
    members = {f"{number}.png": encoded(picture(number)) for number in range(6)}
    shard = write_shard(tmp_path / "0.tar", members)
    whole, parts = make_pairs(kept(shard), *overrides), make_pairs(lazy(shard), *overrides)
    assert all(same_item(whole[index], parts[index]) for index in range(20))
