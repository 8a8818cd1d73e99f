"""Every photo gets a caption once: a person's words, else what was made before, else what the captioner says."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from small_captioners import BrightnessCaptioner, ChoosyCaptioner, choice_of, grey_photo

from xpsr_cli.captioning.captioning import Origin, caption_photos
from xpsr_cli.captioning.captions import Caption
from xpsr_cli.captioning.choosing import CaptionerChoice
from xpsr_cli.captioning.regions import region_boxes
from xpsr_cli.captioning.sidecars import read_sidecar, write_sidecar
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.errors import EndpointError, NoAnswerError, PhotoError
from xpsr_cli.integrity import hash_file


@pytest.fixture
def store(tmp_path):
    return CaptionStore(tmp_path / "captions")


@pytest.fixture
def photos(tmp_path):
    return [grey_photo(tmp_path / f"{number}.png", 10 + 20 * number) for number in range(7)]


def highs(items):
    """What is said of each photo, by its name."""
    return {item.photo.name: item.caption.high for item in items}


def expected(photos):
    return {photo.name: f"a surface of brightness {10 + 20 * int(photo.stem)}" for photo in photos}


def never_loaded():
    raise AssertionError("a captioner was loaded that nobody needs")


def unneeded(captioner):
    return replace(choice_of(captioner), load=never_loaded)


def test_every_photo_gets_its_own_caption_batch_by_batch(photos, store):
    captioner = BrightnessCaptioner(batch_size=3)
    items = list(caption_photos(photos, choice_of(captioner), store))
    assert highs(items) == expected(photos)
    assert captioner.described == [3, 3, 1]
    assert {item.origin for item in items} == {Origin.MADE}
    assert [item.sha256 for item in items] == [hash_file(photo) for photo in photos]
    assert all(item.seconds > 0 and item.error is None for item in items)


def test_a_second_run_loads_nothing(photos, store):
    captioner = BrightnessCaptioner()
    first = list(caption_photos(photos, choice_of(captioner), store))
    second = list(caption_photos(photos, unneeded(captioner), CaptionStore(store.folder)))
    assert [item.caption for item in second] == [item.caption for item in first]
    assert {item.origin for item in second} == {Origin.STORE}


def test_a_new_version_and_refresh_ask_again(photos, store):
    captioner = BrightnessCaptioner(batch_size=10)
    list(caption_photos(photos, choice_of(captioner), store))
    list(caption_photos(photos, choice_of(captioner, version=2), store))
    list(caption_photos(photos, choice_of(captioner), store, refresh=True))
    assert captioner.described == [7, 7, 7]


def test_captions_follow_the_content_and_not_the_name(photos, store):
    captioner = BrightnessCaptioner(batch_size=10)
    list(caption_photos(photos[:2], choice_of(captioner), store))
    moved = photos[0].rename(photos[0].with_name("moved.png"))
    grey_photo(photos[0], 200)
    items = list(caption_photos([moved, photos[0]], choice_of(captioner), store))
    assert [item.origin for item in items] == [Origin.STORE, Origin.MADE]
    assert highs(items) == {"moved.png": "a surface of brightness 10", "0.png": "a surface of brightness 200"}


def test_copies_are_described_once(photos, store):
    copy = photos[0].with_name("copy.png")
    copy.write_bytes(photos[0].read_bytes())
    captioner = BrightnessCaptioner(batch_size=10)
    items = list(caption_photos([*photos, copy], choice_of(captioner), store))
    assert sum(captioner.described) == 7
    assert [item.origin for item in items if item.photo == copy] == [Origin.STORE]
    assert highs(items) == expected(photos) | {"copy.png": "a surface of brightness 10"}


def test_a_caption_is_kept_before_it_is_given_out(photos, store):
    captioner = BrightnessCaptioner(batch_size=3)
    for number, item in enumerate(caption_photos(photos, choice_of(captioner), store), start=1):
        assert store.read(item.sha256, choice_of(captioner).key) == item.caption
        assert len(captioner.described) == -(-number // 3)  # nothing is asked before its turn
        if number == 3:
            break
    assert captioner.described == [3]


def test_a_damaged_photo_fails_alone(photos, store):
    photos[1].write_bytes(photos[1].read_bytes()[:60])
    photos[2].write_bytes(b"no photo")
    photos[3].unlink()
    photos[4].unlink()
    photos[4].mkdir()
    os.mkfifo(photos[5].with_name("pipe.png"))
    asked = [*photos, photos[5].with_name("pipe.png")]
    items = {item.photo: item for item in caption_photos(asked, choice_of(BrightnessCaptioner()), store)}
    bad = [*photos[1:5], asked[-1]]
    for photo in bad:
        assert (items[photo].caption, items[photo].origin) == (None, None)
        assert isinstance(items[photo].error, PhotoError)
        assert str(photo) in items[photo].error.message
    assert highs(items[photo] for photo in photos if photo not in bad) == expected([photos[0], *photos[5:]])


def test_no_captioner_is_loaded_for_files_that_are_no_photos(photos, store):
    photos[0].write_bytes(b"no photo")
    (item,) = caption_photos(photos[:1], unneeded(BrightnessCaptioner()), store)
    assert "is not a photo" in item.error.message


def test_a_photo_that_changes_meanwhile_is_told_of_and_not_kept(photos, store):
    class Slow(BrightnessCaptioner):
        def look(self, photo, box=None):
            seen = super().look(photo, box)
            grey_photo(photo.info.path, 222, size=(40, 40))
            return seen

    (item,) = caption_photos(photos[:1], choice_of(Slow()), store)
    assert "was changed" in item.error.message
    assert list(store.folder.rglob("*.json")) == []


def test_a_captioner_that_fails_ends_the_run_and_what_was_finished_is_kept(photos, store):
    class Fragile(BrightnessCaptioner):
        def describe(self, looks):
            if len(self.described) == 2:
                raise EndpointError("The server went away.")
            return super().describe(looks)

    done = []
    with pytest.raises(EndpointError):
        done.extend(caption_photos(photos, choice_of(Fragile()), store))
    assert highs(caption_photos(photos[:6], unneeded(Fragile()), store)) == expected(photos[:6])


def test_a_photo_that_is_not_described_fails_alone(photos, store):
    items = list(caption_photos(photos, choice_of(ChoosyCaptioner({50, 130})), store))
    failed = {item.photo.name: item.error for item in items if item.caption is None}
    assert list(failed) == ["2.png", "6.png"]
    assert all(isinstance(error, NoAnswerError) for error in failed.values())
    others = [photo for photo in photos if photo.name not in failed]
    assert highs(item for item in items if item.caption) == expected(others)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_captioner_that_describes_nothing_ends_the_run(photos, store, count):
    everything = {10 + 20 * number for number in range(7)}
    with pytest.raises(NoAnswerError):
        list(caption_photos(photos[:count], choice_of(ChoosyCaptioner(everything)), store))


def test_the_captioner_is_let_go_when_all_is_said(photos, store):
    captioner = BrightnessCaptioner()
    items = caption_photos(photos, choice_of(captioner), store)
    next(items)
    assert captioner.closed == 0
    list(items)
    assert captioner.closed == 1
    some = caption_photos(photos, choice_of(captioner, version=2), store)
    next(some)
    some.close()
    assert captioner.closed == 2


def test_what_another_captioner_says_of_the_photo_stays_beside_it(photos, store):
    first, second = choice_of(BrightnessCaptioner()), choice_of(BrightnessCaptioner(), version=2)
    list(caption_photos(photos[:1], first, store, sidecars=True))
    list(caption_photos(photos[:1], second, store, sidecars=True))
    assert read_sidecar(photos[0]).key == first.key.digest
    list(caption_photos(photos[:1], second, store, sidecars=True, refresh=True))
    assert read_sidecar(photos[0]).key == second.key.digest
    grey_photo(photos[0], 200)
    list(caption_photos(photos[:1], first, store, sidecars=True))
    assert read_sidecar(photos[0]).key == first.key.digest


def test_a_captioner_that_cannot_be_loaded_is_no_fault_of_the_photo(photos, store):
    def load():
        raise PhotoError("The model's own picture is missing.")

    choice = CaptionerChoice(choice_of(BrightnessCaptioner()).key, load)
    with pytest.raises(PhotoError):
        list(caption_photos(photos, choice, store))


class TestSidecars:
    def test_they_are_written_when_asked_for(self, photos, store):
        choice = choice_of(BrightnessCaptioner())
        list(caption_photos(photos[:2], choice, store))
        assert list(photos[0].parent.glob("*.caption.json")) == []
        list(caption_photos(photos[:3], choice, store, sidecars=True))
        assert [read_sidecar(photo).caption.high for photo in photos[:3]] == list(expected(photos[:3]).values())

    def test_a_persons_words_win_even_over_refresh(self, photos, store):
        photos[0].with_name("0.caption.json").write_text('{"high": "a barn", "low": "fine"}')
        before = photos[0].with_name("0.caption.json").read_bytes()
        for refresh in (False, True):
            choice = unneeded(BrightnessCaptioner())
            (item,) = caption_photos(photos[:1], choice, store, sidecars=True, refresh=refresh)
            assert (item.caption, item.origin) == (Caption("a barn", "fine", "person"), Origin.PERSON)
            assert item.sha256 == hash_file(photos[0])
        assert photos[0].with_name("0.caption.json").read_bytes() == before

    def test_an_edit_made_while_the_captioner_thinks_wins(self, photos, store):
        path = photos[0].with_name("0.caption.json")

        class Slow(BrightnessCaptioner):
            def describe(self, looks):
                path.write_text('{"high": "a barn", "low": "fine"}')
                return super().describe(looks)

        (item,) = caption_photos(photos[:1], choice_of(Slow()), store, sidecars=True)
        assert (item.caption.high, item.origin) == ("a barn", Origin.PERSON)
        assert path.read_text() == '{"high": "a barn", "low": "fine"}'

    def test_a_stale_one_of_a_machine_is_made_again(self, photos, store):
        choice = choice_of(BrightnessCaptioner())
        list(caption_photos(photos[:1], choice, store, sidecars=True))
        grey_photo(photos[0], 200)
        (item,) = caption_photos(photos[:1], choice, store, sidecars=True)
        assert item.origin is Origin.MADE
        assert read_sidecar(photos[0]).caption.high == "a surface of brightness 200"

    def test_a_fresh_one_counts_where_the_store_is_elsewhere(self, photos, store, tmp_path):
        choice, boxes = choice_of(BrightnessCaptioner()), small_regions
        list(caption_photos(photos[:2], choice, store, sidecars=True, boxes=boxes))
        elsewhere = CaptionStore(tmp_path / "elsewhere")
        items = list(caption_photos(photos[:2], unneeded(BrightnessCaptioner()), elsewhere, boxes=boxes))
        assert highs(items) == expected(photos[:2])
        assert {item.origin for item in items} == {Origin.STORE}
        other = list(caption_photos(photos[:2], choice_of(BrightnessCaptioner(), version=2), elsewhere))
        assert {item.origin for item in other} == {Origin.MADE}

    def test_one_that_is_no_caption_fails_its_photo_alone_and_stays(self, photos, store):
        path = photos[0].with_name("0.caption.json")
        path.write_text("high: a barn")
        items = list(caption_photos(photos[:2], choice_of(BrightnessCaptioner()), store, sidecars=True, refresh=True))
        assert [item.error is None for item in items] == [False, True]
        assert str(path) in items[0].error.message
        assert path.read_text() == "high: a barn"

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written_costs_the_sidecar_alone(self, photos, store):
        photos[0].parent.chmod(0o500)
        try:
            (item,) = caption_photos(photos[:1], choice_of(BrightnessCaptioner()), store, sidecars=True)
        finally:
            photos[0].parent.chmod(0o700)
        assert item.caption is not None
        assert isinstance(item.error, PhotoError)


def small_regions(info):
    return region_boxes(info, 8)


class TestRegions:
    @pytest.fixture
    def halves(self, tmp_path):
        """A photo whose upper half is dark and whose lower half is bright."""
        import numpy as np
        from PIL import Image

        pixels = np.repeat(np.uint8([20, 220]), 8)[:, None, None] * np.ones((1, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "halves.png")
        return tmp_path / "halves.png"

    def test_each_gets_its_own_text(self, halves, store):
        captioner = BrightnessCaptioner(batch_size=4)
        (item,) = caption_photos([halves], choice_of(captioner), store, boxes=small_regions)
        assert item.caption.high == "a surface of brightness 120"
        assert [region.high for region in item.caption.regions] == ["brightness 20"] * 3 + ["brightness 220"] * 3
        assert [region.box.top for region in item.caption.regions] == [0] * 3 + [8] * 3
        assert (captioner.described, captioner.summarized) == ([1], [4, 2])

    def test_they_are_kept_with_and_without(self, halves, store):
        captioner = BrightnessCaptioner()
        (made,) = caption_photos([halves], choice_of(captioner), store, boxes=small_regions)
        (again,) = caption_photos([halves], unneeded(captioner), store, boxes=small_regions)
        assert (again.caption, again.origin) == (made.caption, Origin.STORE)
        (whole,) = caption_photos([halves], unneeded(captioner), store)
        assert whole.caption == replace(made.caption, regions=())

    def test_only_what_is_missing_is_asked_for(self, halves, store):
        captioner = BrightnessCaptioner()
        list(caption_photos([halves], choice_of(captioner), store))
        (item,) = caption_photos([halves], choice_of(captioner), store, boxes=small_regions)
        assert (len(item.caption.regions), item.origin) == (6, Origin.MADE)
        assert (captioner.described, sum(captioner.summarized)) == ([1], 6)

    def test_a_captioner_without_content_has_none_and_is_not_asked_again(self, halves, store):
        captioner = BrightnessCaptioner()
        captioner.says_content = False
        (item,) = caption_photos([halves], choice_of(captioner), store, boxes=small_regions)
        assert item.caption.regions == ()
        assert captioner.summarized == []
        list(caption_photos([halves], unneeded(captioner), store, boxes=small_regions))


class Counted:
    """Adds up what it is told."""

    def __init__(self):
        self.total = self.advanced = self.skipped = 0

    def stage(self, name, total):
        self.total = total

    def advance(self, count=1):
        self.advanced += count

    def skip(self, count):
        self.skipped += count


def test_progress_counts_every_photo_once(photos, store):
    list(caption_photos(photos[:2], choice_of(BrightnessCaptioner()), store))
    photos[3].write_bytes(b"")
    progress = Counted()
    list(caption_photos(photos, choice_of(BrightnessCaptioner()), store, progress=progress))
    assert (progress.total, progress.advanced, progress.skipped) == (7, 4, 3)


def test_two_runs_at_once_do_no_harm(photos, store):
    def run(_):
        choice = choice_of(BrightnessCaptioner(batch_size=2))
        return highs(caption_photos(photos, choice, CaptionStore(store.folder), sidecars=True))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [expected(photos)] * 4
    assert len(list(store.folder.rglob("*.json"))) == 7
    assert {read_sidecar(photo).caption.high for photo in photos} == set(expected(photos).values())


def test_a_reviewed_caption_is_a_persons(photos, store):
    write_sidecar(photos[0], Caption("a wall", "", "brightness"), hash_file(photos[0]))
    (item,) = caption_photos(photos[:1], unneeded(BrightnessCaptioner()), store)
    assert (item.caption.high, item.origin) == ("a wall", Origin.PERSON)


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from small_captioners import BrightnessCaptioner, choice_of
from xpsr_cli.captioning.captioning import caption_photos
from xpsr_cli.captioning.store import CaptionStore

class Slow(BrightnessCaptioner):
    def describe(self, looks):
        time.sleep(0.02 * len(looks))
        return super().describe(looks)

photos = sorted(Path({photos!r}).glob("*.png"))
print("begun", flush=True)
for item in caption_photos(photos, choice_of(Slow()), CaptionStore(Path({store!r})), sidecars=True):
    print(item.photo.name, item.origin.value, item.caption.high, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_kills_lose_nothing_make_nothing_twice_and_leave_nothing_half_written(tmp_path):
    folder, store = tmp_path / "photos", tmp_path / "captions"
    folder.mkdir()
    for number in range(30):
        grey_photo(folder / f"{number}.png", number)
    script = KILLED.format(tests=str(Path(__file__).parents[1]), photos=str(folder), store=str(store))
    moments, told = random.Random(time.time_ns()), []
    for kill in (True, True, True, False):
        with (tmp_path / "out").open("w") as out:
            process = subprocess.Popen([sys.executable, "-c", script], stdout=out)
        while not (tmp_path / "out").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        if kill:
            time.sleep(moments.uniform(0, 0.18))
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) in ((0, -signal.SIGKILL) if kill else (0,))  # it may be done before it is killed
        _, *whole, _ = (tmp_path / "out").read_text().split("\n")
        lines = [line.split(" ", 2) for line in whole]
        for path in [*store.rglob("*.json"), *folder.glob("*.json")]:
            assert json.loads(path.read_bytes())["high"].startswith("a surface of brightness ")
        finished = {name for run in told for name, _, _ in run}
        assert all(origin == "store" for name, origin, _ in lines if name in finished)
        told.append(lines)
    assert {name: high for name, _, high in told[-1]} == {
        f"{number}.png": f"a surface of brightness {number}" for number in range(30)
    }
    assert len(told[-1]) == 30
    made = [name for run in told for name, origin, _ in run if origin == "made"]
    assert len(made) == len(set(made))
    assert len(list(store.rglob("*.json"))) == 30
    assert len(list(folder.glob("*.caption.json"))) == 30
