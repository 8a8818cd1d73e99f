"""``photo.caption.json``: a person's words are recognised and kept, and no two photos share a file."""

import json

import pytest
from small_captioners import grey_photo
from small_photos import refusal

from xpsr_cli.captioning.captions import Box, Caption, CaptionerKey, RegionText
from xpsr_cli.captioning.sidecars import read_sidecar, sidecar_path, write_sidecar
from xpsr_cli.errors import PhotoError

SHA, OTHER = "ab" * 32, "ac" * 32
KEY = CaptionerKey("one", "weights")
REGION = RegionText(Box(0, 0, 8, 8), "a tail")
CAPTION = Caption("a dög", "noisy", "one", (REGION,))
HAND_MADE = '{"high": "a red barn", "low": "noisy"}'


@pytest.fixture
def photo(tmp_path):
    return grey_photo(tmp_path / "a.jpg", 90)


@pytest.fixture
def sidecar(photo):
    """The file that a machine wrote for the photo."""
    return write_sidecar(photo, CAPTION, SHA, KEY).path


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_what_a_machine_writes_is_read_as_a_machines(photo, sidecar):
    assert sidecar.name == "a.caption.json"
    there = read_sidecar(photo)
    assert (there.caption, there.by_person, there.photo_sha256) == (CAPTION, False, SHA)
    assert there.is_of(SHA, KEY, (REGION.box,))
    assert not there.is_of(OTHER, KEY, (REGION.box,))
    assert not there.is_of(SHA, CaptionerKey("one", "weights", version=2), (REGION.box,))
    assert not there.is_of(SHA, KEY, ())
    values = json.loads(sidecar.read_text(encoding="utf-8"))
    assert {"photo": "a.jpg", "captioner": "one", "photo_sha256": SHA}.items() <= values.items()
    assert "a dög" in sidecar.read_text(encoding="utf-8")


def test_there_may_be_none(photo):
    assert read_sidecar(photo) is None


@pytest.mark.parametrize(
    "values",
    [
        {"high": "a cat"},
        {"low": ""},
        {"regions": []},
        {"regions": [{"box": {"left": 0, "top": 0, "width": 8, "height": 8}, "high": "a paw"}]},
        {"written": None},
    ],
)
def test_an_edit_makes_it_a_persons_and_is_never_overwritten(photo, sidecar, values):
    change(sidecar, **values)
    edited = sidecar.read_bytes()
    there = read_sidecar(photo)
    assert there.by_person
    assert there.caption.captioner == "person"
    assert write_sidecar(photo, Caption("a horse", "sharp", "two"), OTHER, KEY) == there
    assert sidecar.read_bytes() == edited


def test_laying_it_out_anew_is_no_edit(photo, sidecar):
    values = json.loads(sidecar.read_text(encoding="utf-8"))
    sidecar.write_text(json.dumps(values | {"high": " a  dög\n"}, sort_keys=True), encoding="utf-8-sig")
    assert not read_sidecar(photo).by_person


def test_a_hand_made_file_is_a_persons(photo):
    photo.with_name("a.caption.json").write_text(HAND_MADE)
    there = read_sidecar(photo)
    assert there.caption == Caption("a red barn", "noisy", "person")
    assert there.by_person


def test_half_a_hand_made_file_will_do(photo):
    photo.with_name("a.caption.json").write_text('{"low": "very noisy"}')
    assert read_sidecar(photo).caption == Caption("", "very noisy", "person")


def test_a_machine_replaces_a_machines(photo, sidecar):
    write_sidecar(photo, Caption("a horse", "sharp", "two"), OTHER, KEY)
    assert read_sidecar(photo).caption.high == "a horse"
    assert [path.name for path in photo.parent.glob("*.json")] == [sidecar.name]


def test_the_same_words_are_not_written_twice(photo, sidecar):
    before = sidecar.stat().st_ino
    write_sidecar(photo, CAPTION, SHA, KEY)
    assert sidecar.stat().st_ino == before


def test_a_person_replaces_everything(photo, sidecar):
    for words in ("a cat", "a kitten"):
        write_sidecar(photo, Caption(words, "noisy", "one"), SHA)
        there = read_sidecar(photo)
        assert (there.caption.high, there.caption.captioner, there.by_person) == (words, "person", True)
    assert there.path == sidecar


def test_two_photos_of_one_name_get_a_file_each_however_they_come(tmp_path):
    photos = [grey_photo(tmp_path / name, 90) for name in ("a.jpg", "a.png", "a.TIF", "b.png")]
    for photo in photos:
        write_sidecar(photo, Caption(photo.name, "", "one"), SHA, KEY)
    names = sorted(path.name for path in tmp_path.glob("*.json"))
    assert names == ["a.TIF.caption.json", "a.jpg.caption.json", "a.png.caption.json", "b.caption.json"]
    assert [read_sidecar(photo).caption.high for photo in photos] == [photo.name for photo in photos]


def test_a_photo_that_comes_later_takes_nothing_away(photo, sidecar):
    later = grey_photo(photo.with_name("a.png"), 90)
    assert read_sidecar(later) is None
    assert sidecar_path(later).name == "a.png.caption.json"
    write_sidecar(later, Caption("a horse", "", "one"), OTHER, KEY)
    change(sidecar, high="a cat")
    assert read_sidecar(photo).caption.high == "a cat"
    assert read_sidecar(later).caption.high == "a horse"


def test_a_hand_made_file_that_could_be_of_two_photos_is_refused(tmp_path):
    photos = [grey_photo(tmp_path / name, 90) for name in ("a.jpg", "a.png")]
    (tmp_path / "a.caption.json").write_text(HAND_MADE)
    for photo in photos:
        with refusal(PhotoError, "a.caption.json", "a.jpg", "a.png", "a.jpg.caption.json"):
            read_sidecar(photo)
    (tmp_path / "a.caption.json").rename(tmp_path / "a.png.caption.json")
    assert read_sidecar(photos[0]) is None
    assert read_sidecar(photos[1]).by_person


def test_words_follow_a_photo_that_is_renamed_with_them(photo, sidecar):
    change(sidecar, high="a cat")
    renamed = photo.rename(photo.with_name("holiday.jpg"))
    sidecar.rename(photo.with_name("holiday.caption.json"))
    assert read_sidecar(renamed).caption.high == "a cat"
    other_format = grey_photo(photo.with_name("holiday.png"), 90)
    with refusal(PhotoError, "holiday.caption.json"):
        read_sidecar(other_format)


def test_names_with_two_extensions_are_told_apart(tmp_path):
    plain, double = (grey_photo(tmp_path / name, 90) for name in ("a.jpg", "a.jpg.png"))
    assert sidecar_path(double).name == "a.jpg.png.caption.json"
    (tmp_path / "a.jpg.caption.json").write_text(HAND_MADE)
    assert read_sidecar(plain).by_person
    assert read_sidecar(double) is None


def test_a_persons_words_win_where_both_names_exist(photo):
    photo.with_name("a.jpg.caption.json").write_text(
        json.dumps(json.loads(write_sidecar(photo, CAPTION, SHA, KEY).path.read_text(encoding="utf-8")))
    )
    photo.with_name("a.caption.json").write_text(HAND_MADE)
    assert read_sidecar(photo).caption.high == "a red barn"
    photo.with_name("a.caption.json").unlink()
    assert read_sidecar(photo).path.name == "a.jpg.caption.json"


def test_a_photo_without_an_extension_has_one_too(tmp_path):
    photo = grey_photo(tmp_path / "scan.png", 90).rename(tmp_path / "scan")
    assert write_sidecar(photo, CAPTION, SHA, KEY).path.name == "scan.caption.json"
    assert read_sidecar(photo).caption == CAPTION


REGION_AT = b'{"high": "a", "regions": [{"box": {"left": %s, "top": 0, "width": 8, "height": 8}, "high": "b"}]}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{\n  "high": "a",\n  "low" "b"\n}', ("is not JSON", "line 3")),
        (b"", ("is not JSON", "line 1")),
        (b"[]", ("is not a caption", "line 1")),
        (b'{"hi": "a"}', ("is not a caption", "'high' or 'low'", "line 1")),
        (b'{\n  "low": "b",\n  "high": 3\n}', ("is not a caption", "'high' is 3", "line 3")),
        (b'{\n  "high": "a",\n\n  "regions": "none"}', ("'regions' is 'none'", "line 4")),
        (b'{\n  "high": "a",\n  "regions": [{"box": 1}]}', ("is no region", "line 3")),
        (b'{"high": "\\ud800"}', ("is not a caption", "half a character")),
        (b'{"high": "\xff"}', ("is not in UTF-8",)),
        (b"[" * 100_000, ("is not a caption", "line 1")),
        (b'{"high": "a\x1bb"}', ("is not JSON: Invalid control character in line 1",)),
        (b'{"high": "a", "rating": 1' + b"0" * 5000 + b"}", ("is not a caption", "a number of thousands of digits")),
        (REGION_AT % b"1e999", ("is not a caption", "is no region", "line 1")),
        (REGION_AT % b"9876543210", ("is not a caption", "is no region", "line 1")),
        (b'{"high": [%s"a"]}' % (b'"word", ' * 10_000), ("is not a caption", "…, in line 1")),
    ],
)
def test_what_is_no_caption_is_told_with_its_line_and_stays(photo, content, words):
    path = photo.with_name("a.caption.json")
    path.write_bytes(content)
    for act in (read_sidecar, sidecar_path, lambda p: write_sidecar(p, CAPTION, SHA, KEY)):
        with refusal(PhotoError, path, *words):
            act(photo)
    with refusal(PhotoError, path):
        write_sidecar(photo, CAPTION, SHA)
    assert path.read_bytes() == content


def test_a_sidecar_that_cannot_be_read_is_told_of(photo):
    photo.with_name("a.caption.json").mkdir()
    with refusal(PhotoError, "a.caption.json", "cannot be read"):
        read_sidecar(photo)


def test_the_sidecar_of_another_photo_is_not_replaced(tmp_path):
    double = grey_photo(tmp_path / "a.jpg.png", 90)
    (tmp_path / "a.jpg.caption.json").write_text(json.dumps({"photo": double.name, "high": "a cat"}))
    photos = [grey_photo(tmp_path / name, 90) for name in ("a.jpg", "a.png")]
    with refusal(PhotoError, "a.jpg.caption.json"):
        write_sidecar(photos[0], CAPTION, SHA, KEY)
    assert read_sidecar(double).caption.high == "a cat"


@pytest.mark.parametrize("name", ["", ".", "..", "b/a.jpg", "\0", 3, None, ["a.jpg"]])
def test_a_strange_name_of_the_photo_counts_for_nothing(photo, name):
    photo.with_name("a.caption.json").write_text(json.dumps({"photo": name, "high": "a cat"}))
    assert read_sidecar(photo).caption.high == "a cat"
