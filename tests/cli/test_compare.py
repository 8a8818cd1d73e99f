"""``xpsr compare``: its page, its streams and its exit codes."""

import json
import os
import sys
import webbrowser

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two pictures of one size and a smaller one, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, size) in enumerate((("a.png", (40, 30)), ("b.jpg", (40, 30)), ("c.png", (24, 18)))):
        values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / name)
    return tmp_path


def test_the_page_is_written_and_named_on_stdout(xpsr, pictures):
    code, out, err = xpsr("compare", "a.png", "b.jpg")
    assert (code, out) == (0, "compare.html\n")
    assert "a.png and b.jpg: PSNR" in err
    assert "<h1>a.png / b.jpg</h1>" in (pictures / "compare.html").read_text(encoding="utf-8")


def test_a_page_that_exists_is_replaced_only_when_asked(xpsr, pictures):
    (pictures / "compare.html").write_text("before")
    code, _, err = xpsr("compare", "a.png", "b.jpg")
    assert code == 2
    assert "compare.html exists." in err
    assert (pictures / "compare.html").read_text() == "before"
    assert xpsr("compare", "a.png", "b.jpg", "--overwrite").code == 0
    assert (pictures / "compare.html").stat().st_size > 10_000


def test_json_says_all_of_it(xpsr, pictures):
    code, out, _ = xpsr("compare", "a.png", "b.jpg", "c.png", "-o", "page.html", "--title", "Mine", "--json")
    record = json.loads(out)
    assert (code, record["page"], record["status"]) == (0, "page.html", "done")
    assert record["bytes"] == (pictures / "page.html").stat().st_size
    (only,) = record["comparisons"]
    assert [(p["file"], p["width"], p["height"]) for p in only["pictures"]] == [
        ("a.png", 40, 30),
        ("b.jpg", 40, 30),
        ("c.png", 24, 18),
    ]
    assert only["pictures"][0]["bytes"] == (pictures / "a.png").stat().st_size
    (likeness,) = only["likenesses"]
    assert likeness["pictures"] == ["a.png", "b.jpg"]
    assert 5 < likeness["psnr"] < 50
    assert "<h1>Mine</h1>" in (pictures / "page.html").read_text(encoding="utf-8")


def test_quiet_is_quiet(xpsr, pictures):
    assert xpsr("compare", "a.png", "b.jpg", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.png"], 2, "Only a.png is there"),
        (["a.png", "gone.png"], 3, "gone.png does not exist"),
        (["a.png", "words.png"], 3, "words.png is not a photo"),
        (["a.png", "b.jpg", "-o", "page.png"], 2, "page.png is no name for a page"),
        (["a.png", "b.jpg", "-o", "no/page.html"], 2, "there is no folder no"),
        (["a.png", "."], 2, ". is a folder and a.png is not"),
    ],
)
def test_bad_input_is_one_sentence_and_a_code(xpsr, pictures, arguments, code, words):
    (pictures / "words.png").write_bytes(b"words")
    outcome = xpsr("compare", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(pictures.glob("*.html"))


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="file names are text here")
def test_a_name_that_is_no_text_is_no_trouble(xpsr, pictures):
    name = os.fsdecode(b"\xff.png")
    (pictures / "a.png").rename(pictures / name)
    code, out, _ = xpsr("compare", name, "b.jpg", "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["comparisons"][0]["pictures"][0]["file"] == name
    assert "<h1>?.png / b.jpg</h1>" in (pictures / "compare.html").read_text(encoding="utf-8")


def folders(pictures, count=3):
    for folder in ("before", "after"):
        (pictures / folder).mkdir()
        for number in range(count):
            values = np.full((18, 24, 3), 20 * number + (folder == "after"), np.uint8)
            Image.fromarray(values).save(pictures / folder / f"{number}.png")


def test_folders_become_one_page_of_many_sliders(xpsr, pictures):
    folders(pictures)
    Image.new("RGB", (24, 18)).save(pictures / "after" / "alone.png")
    code, out, err = xpsr("compare", "before", "after", "-o", "all.html", "--json")
    assert code == 0
    assert [each["title"] for each in json.loads(out)["comparisons"]] == ["0", "1", "2"]
    assert "after/alone.png: left out" in err.replace("\\", "/")
    text = (pictures / "all.html").read_text(encoding="utf-8")
    assert text.count("<figure") == 3
    assert text.count("<style>") == 2  # of the page and of the sliders, however many there are


def test_one_bad_picture_of_many_is_code_7_and_the_others_are_there(xpsr, pictures):
    folders(pictures)
    (pictures / "after" / "1.png").write_bytes(b"words")
    code, out, err = xpsr("compare", "before", "after")
    assert (code, out) == (7, "compare.html\n")
    assert "1.png is not a photo" in err
    assert "1 of 3 comparisons failed: 1." in err
    assert (pictures / "compare.html").read_text(encoding="utf-8").count("<figure") == 2


def test_the_page_is_opened_when_asked(xpsr, pictures, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert xpsr("compare", "a.png", "b.jpg").code == 0
    assert opened == []
    assert xpsr("compare", "a.png", "b.jpg", "--overwrite", "--open").code == 0
    assert opened == [(pictures / "compare.html").as_uri()]
