"""``xpsr caption``: two texts per photo, once, on stdout, beside the photo, and in files for other programs."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from chat_server import ChatServer
from small_captioners import grey_photo

from xpsr_cli.captioning.caption_files import read_captions
from xpsr_cli.captioning.captions import Caption
from xpsr_cli.captioning.measured import MEASURED_KEY
from xpsr_cli.captioning.sidecars import read_sidecar
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.integrity import hash_file


def noisy_photo(path, number):
    """A photo with something to measure in it, and no other like it."""
    from PIL import Image

    random = np.random.default_rng(number)
    smooth = np.add.outer(np.arange(96), np.arange(128)) % 200
    Image.fromarray((smooth[..., None] + random.integers(0, 50, (96, 128, 3))).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "c.webp")):
        noisy_photo(folder / name, number)
    return folder


def records(outcome):
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_both_texts_of_each_photo_come_on_stdout_and_words_on_stderr(xpsr, album):
    outcome = xpsr("caption", album)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[::3] == [str(album / name) for name in ("a.png", "b.jpg", "c.webp")]
    assert lines[1::3] == ["  high: -"] * 3
    assert all(line.startswith("  low: ") and line != "  low: -" for line in lines[2::3])
    assert "Captioner: measured" in outcome.err
    assert "xpsr weights pull llava-1.5-7b" in outcome.err
    assert xpsr("caption", album, "--quiet") == (0, "", "")


def test_json_says_all_of_each_photo(xpsr, album):
    first, second = (records(xpsr("caption", album, "--json", "--model", "measured")) for _ in range(2))
    assert [record["origin"] for record in first] == ["made"] * 3
    assert [record["origin"] for record in second] == ["store"] * 3
    for before, after in zip(first, second, strict=True):
        photo = Path(before["photo"])
        assert before.keys() == {
            *("photo", "status", "sha256", "origin", "high", "low", "captioner", "regions", "seconds")
        }
        assert (before["status"], before["sha256"]) == ("done", hash_file(photo))
        assert before["low"] == CaptionStore().read(before["sha256"], MEASURED_KEY).low != ""
        same = {"photo", "sha256", "high", "low", "captioner", "regions", "status"}
        assert {key: before[key] for key in same} == {key: after[key] for key in same}


def test_a_server_describes_the_content_and_regions(xpsr, tmp_path):
    photo = grey_photo(tmp_path / "a.png", 100, size=(64, 32))
    with ChatServer() as server:
        flags = ("--endpoint", server.url, "--model", "tiny-llava", "--scope", "region", "--region-size", "32")
        outcome = xpsr("caption", photo, *flags)
        assert outcome.code == 0, outcome.err
        assert outcome.out.splitlines() == [
            str(photo),
            "  high: A picture of colour 100 100 100.",
            "  low: The quality of colour 100 100 100.",
            "  32 x 32 at 0, 0: A picture of colour 100 100 100.",
            "  32 x 32 at 32, 0: A picture of colour 100 100 100.",
        ]
        asked = len(server.questions)
        (record,) = records(xpsr("caption", photo, *flags, "--json"))
        assert len(server.questions) == asked
        assert [region["box"]["left"] for region in record["regions"]] == [0, 32]


def test_measuring_says_that_it_has_no_words_for_regions(xpsr, album):
    outcome = xpsr("caption", album, "--scope", "region", "--region-size", "32")
    assert outcome.code == 0
    assert "Regions get no texts of their own" in outcome.err


def test_sidecars_are_written_and_a_persons_words_win(xpsr, album):
    assert xpsr("caption", album, "--sidecars").code == 0
    assert read_sidecar(album / "b.jpg").caption.captioner == "measured"
    path = album / "b.caption.json"
    path.write_text(path.read_text().replace('"high": ""', '"high": "a slope"'))
    edited = path.read_bytes()
    outcome = xpsr("caption", album, "--sidecars", "--refresh", "--json")
    assert [record["origin"] for record in records(outcome)] == ["made", "person", "made"]
    assert records(outcome)[1]["high"] == "a slope"
    assert path.read_bytes() == edited


@pytest.mark.parametrize("name", ["all.jsonl", "all.parquet"])
def test_all_captions_go_into_one_file(xpsr, album, tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    target = tmp_path / name
    told = records(xpsr("caption", album, "--json", "--export", target))
    rows = read_captions(target).rows
    assert [(row.photo, row.sha256, row.caption.low) for row in rows] == [
        (record["photo"], record["sha256"], record["low"]) for record in told
    ]
    outcome = xpsr("caption", album, "--export", target)
    assert outcome.code == 2
    assert f"{target} exists." in outcome.err
    assert xpsr("caption", album / "a.png", "--export", target, "--overwrite").code == 0
    assert len(read_captions(target).rows) == 1


def test_text_pairs_are_written(xpsr, album, tmp_path):
    (album / "a.caption.json").write_text('{"high": "a slope", "low": "noisy"}')
    assert xpsr("caption", album, "--text-pairs", tmp_path / "texts").code == 0
    assert read_captions(tmp_path / "texts").of(album / "a.png", "") == Caption("a slope", "noisy", "person")
    changed = tmp_path / "texts" / "lowlevel_prompt_q" / "b.txt"
    changed.write_text("my own words")
    outcome = xpsr("caption", album, "--text-pairs", tmp_path / "texts")
    assert (outcome.code, changed.read_text()) == (2, "my own words")
    assert "exists." in outcome.err
    assert xpsr("caption", album, "--text-pairs", tmp_path / "texts", "--overwrite").code == 0
    assert "nois" in changed.read_text()


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--export", "all.csv"], 2, "all.csv"),
        (["--export", "all"], 2, "all"),
        (["--region-size", "64"], 2, "--scope region"),
        (["--scope", "region", "--region-size", "3"], 2, "region_size is 3"),
        (["--shard", "3/2"], 2, "3/2"),
        (["--batch-size", "0"], 2, "batch_size is 0"),
        (["--model", "no-such-model"], 4, "no-such-model"),
        (["--quantize", "3bit"], 2, "3bit"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model", "any"], 4, "127.0.0.1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(xpsr, album, monkeypatch, flags, code, words):
    monkeypatch.chdir(album)
    outcome = xpsr("caption", album, *flags)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert not CaptionStore().folder.exists()


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_is_refused_before_the_work(xpsr, album):
    outcome = xpsr("caption", album, "--export", album / "all.parquet")
    assert (outcome.code, outcome.out) == (6, "")
    assert "pyarrow" in outcome.err


class TestBadPhotos:
    def test_they_are_listed_and_skipped(self, xpsr, album, tmp_path):
        (album / "d.png").write_bytes(b"no photo")
        (album / "e.caption.json").write_text('{\n  "high": ')
        noisy_photo(album / "e.png", 5)
        target = tmp_path / "all.jsonl"
        outcome = xpsr("caption", album, "--json", "--export", target)
        assert outcome.code == 7
        bad = [record for record in records(outcome) if record["status"] == "failed"]
        assert [Path(record["photo"]).name for record in bad] == ["d.png", "e.png"]
        assert [record["exit_code"] for record in bad] == [3, 3]
        assert all(record["error"] in outcome.err for record in bad)
        assert "line 2" in bad[1]["error"]
        assert f"error: 2 of 5 photos failed: {album / 'd.png'}, {album / 'e.png'}." in outcome.err
        assert len(read_captions(target).rows) == 3
        assert (album / "e.caption.json").read_text() == '{\n  "high": '

    def test_the_only_one_is_an_error_of_its_own(self, xpsr, album):
        (album / "d.png").write_bytes(b"no photo")
        outcome = xpsr("caption", album / "d.png")
        assert (outcome.code, outcome.out) == (3, "")
        assert "d.png is not a photo" in outcome.err
        assert "photos failed" not in outcome.err

    def test_the_sidecar_of_the_only_one(self, xpsr, album):
        (album / "a.caption.json").write_text("high: a slope")
        outcome = xpsr("caption", album / "a.png", "--refresh", "--sidecars")
        assert outcome.code == 3
        assert "a.caption.json is not JSON" in outcome.err

    def test_a_folder_without_photos(self, xpsr, tmp_path):
        assert xpsr("caption", tmp_path).code == 3


def test_shards_share_the_photos(xpsr, album):
    shares = [records(xpsr("caption", album, "--json", "--shard", f"{number}/2")) for number in (1, 2)]
    assert [[Path(record["photo"]).name for record in share] for share in shares] == [["a.png", "c.webp"], ["b.jpg"]]


def test_flags_may_stand_in_a_file(xpsr, album, tmp_path):
    (tmp_path / "my.toml").write_text('model = "measured"\nsidecars = true\nbatch-size = 2\n')
    outcome = xpsr("caption", album, "--config", tmp_path / "my.toml")
    assert outcome.code == 0
    assert "weights pull" not in outcome.err
    assert len(list(album.glob("*.caption.json"))) == 3


def test_a_cache_that_cannot_be_written_is_said_once_and_costs_no_caption(xpsr, album, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XPSR_CACHE", str(tmp_path / "file"))
    outcome = xpsr("caption", album)
    assert outcome.code == 0
    assert outcome.out.count("  low: ") == 3
    assert outcome.err.count("Captions are not kept for the next time") == 1


def test_a_terminal_is_sent_no_commands_by_captions(xpsr, album):
    (album / "a.caption.json").write_text(json.dumps({"high": "a \x1b[31mred\x07 barn", "low": ""}))
    assert "\x1b" not in xpsr("caption", album / "a.png").out


def launch(*arguments, **environment):
    command = [sys.executable, "-X", "importtime", "-m", "xpsr_cli", "caption", *map(str, arguments)]
    started = time.perf_counter()
    made = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    return made, time.perf_counter() - started


def test_a_second_run_over_twenty_photos_takes_less_than_a_second_and_imports_nothing_heavy(tmp_path):
    for number in range(20):
        noisy_photo(tmp_path / f"{number}.jpg", number)
    first, _ = launch(tmp_path)
    assert first.returncode == 0
    runs = [launch(tmp_path) for _ in range(3)]
    assert [made.stdout for made, _ in runs] == [first.stdout] * 3
    for made, _ in runs:
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in made.stderr.splitlines()}
        assert "xpsr_cli" in imported
        assert imported & {"torch", "diffusers", "transformers", "accelerate", "scipy", "rich"} == set()
    assert min(seconds for _, seconds in runs) < 1


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are those of POSIX")
def test_captions_go_where_stdout_goes_though_a_bar_could_be_drawn(album, tmp_path):
    import pty

    master, slave = pty.openpty()
    with (tmp_path / "out.jsonl").open("w") as out:
        command = [sys.executable, "-m", "xpsr_cli", "caption", str(album), "--json"]
        process = subprocess.Popen(command, stdin=slave, stdout=out, stderr=slave)
        os.close(slave)
        try:
            while os.read(master, 4096):
                pass
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(master)
        assert process.wait(60) == 0
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 3
