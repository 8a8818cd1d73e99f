"""Runs over folders: what is done stays done, what has changed is said, shards share the work, a dry run does none."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from small_photos import png_header

from xpsr_cli.cli import upscale as command
from xpsr_cli.errors import ExitCode
from xpsr_cli.photos.source import read_photo

FAST = ("--scale", 1, "--steps", 1)


@pytest.fixture
def album(tmp_path):
    """A folder of photos, a grey one and one in a folder below among them."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "c.png", "sub/d.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert("L" if name == "c.png" else "RGB").save(folder / name)
    return folder


@pytest.fixture
def upscale(xpsr, tiny_model):
    """``upscale(...)`` is ``xpsr upscale ... --model TINY`` with the quickest settings."""
    return lambda *arguments: xpsr("upscale", "--model", tiny_model, *FAST, *arguments)


@pytest.fixture
def no_model(monkeypatch):
    """Call it, and from then on the test fails if the model is loaded."""

    def load(*arguments):
        raise AssertionError("the model was loaded")

    return lambda: monkeypatch.setattr(command, "load_upscaler", load)


def seen(folder):
    """Every visible file with its bytes and its time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".xpsr" not in path.parts)
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def names(folder):
    return list(seen(folder))


def records(outcome):
    return {record["output"].rpartition("/")[2]: record for record in map(json.loads, outcome.out.splitlines())}


def statuses(outcome):
    return {name: record["status"] for name, record in records(outcome).items()}


def test_the_same_command_again_does_nothing_and_loads_nothing(upscale, album, tmp_path, no_model):
    out = tmp_path / "out"
    first = upscale(album, "-o", out, "--recursive")
    assert first.code == 0
    before = seen(out)
    assert list(before) == ["a.png", "b.png", "c.png", "sub/d.png"]
    no_model()
    again = upscale(album, "-o", out, "--recursive")
    assert (again.code, again.out) == (0, first.out)
    assert again.err.count("done before\n") == 4
    assert upscale(album, "-o", out, "--recursive", "--overwrite").code == 0
    assert set(statuses(upscale(album, "-o", out, "--recursive", "--skip-existing", "--json")).values()) == {
        "done before"
    }
    assert seen(out) == before
    assert [path.name for path in (out / ".xpsr").iterdir()] == ["journal.jsonl"]


def test_results_in_a_folder_have_the_wanted_format(upscale, album, tmp_path):
    for wanted, expected in (("jpg", ["a.jpg", "b.jpg", "c.jpg"]), ("same", ["a.jpg", "b.png", "c.png"])):
        assert upscale(album, "-o", tmp_path / wanted, "--format", wanted).code == 0
        assert names(tmp_path / wanted) == expected
        for name in expected:
            with Image.open(tmp_path / wanted / name) as image:
                assert image.format == {"jpg": "JPEG", "png": "PNG"}[name[-3:]]
    outcome = upscale(album / "a.jpg", "-o", tmp_path / "a.png", "--format", "same")
    assert (outcome.code, outcome.out) == (ExitCode.USAGE, "")
    assert f"format is same, but {tmp_path / 'a.png'} is to be a .png file." in outcome.err


def test_what_is_missing_or_damaged_is_done_again_and_nothing_else(upscale, album, tmp_path):
    out = tmp_path / "out"
    assert upscale(album, "-o", out).code == 0
    before = seen(out)
    (out / "a.png").unlink()
    outcome = upscale(album, "-o", out, "--json")
    assert statuses(outcome) == {"a.png": "done", "b.png": "done before", "c.png": "done before"}
    after = seen(out)
    assert {name: content for name, (content, _) in after.items()} == {
        n: content for n, (content, _) in before.items()
    }
    assert [name for name in after if after[name][1] != before[name][1]] == ["a.png"]

    (out / "b.png").write_bytes(b"edited")
    refused = upscale(album, "-o", out)
    assert refused.code == ExitCode.USAGE
    assert f"{out / 'b.png'} exists and is not as xpsr left it." in refused.err
    assert statuses(upscale(album, "-o", out, "--overwrite", "--json"))["b.png"] == "done"
    assert seen(out)["b.png"][0] == before["b.png"][0]


def test_a_change_is_refused_with_its_name_and_redone_with_overwrite(upscale, album, tmp_path, no_model):
    out = tmp_path / "out"
    assert upscale(album, "-o", out, "--seed", 1).code == 0
    before = seen(out)
    for options, words in (
        (["--seed", 2], "a.png exists and was made differently: seed was 1 and is 2 (and 2 more)."),
        (["--seed", 1, "--bits", "8"], 'bits was "auto" and is "8" (and 2 more).'),
        (["--seed", 1, "--precision", "fp32"], 'precision was "auto" and is "fp32" (and 2 more).'),
        (["--seed", 1, "--prompt", "a house"], 'prompt was "" and is "a house" (and 2 more).'),
    ):
        outcome = upscale(album, "-o", out, *options)
        assert outcome.code == ExitCode.USAGE
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 2
    assert upscale(album, "-o", out, "--seed", 2, "--skip-existing").code == 0
    assert seen(out) == before
    Image.new("RGB", (24, 20), "red").save(album / "b.png")
    outcome = upscale(album, "-o", out, "--seed", 1)
    assert "b.png exists and was made differently: the photo was another one." in outcome.err
    assert statuses(upscale(album, "-o", out, "--seed", 1, "--overwrite", "--json")) == {
        "a.png": "done before",
        "b.png": "done",
        "c.png": "done before",
    }
    no_model()
    assert upscale(album, "-o", out, "--seed", 1).code == 0


def test_other_weights_are_noticed(xpsr, album, tmp_path, tiny_model):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    command_line = ["upscale", album / "a.jpg", "-o", tmp_path / "a.png", "--model", model, *FAST]
    assert xpsr(*command_line).code == 0
    path = model / "xpsr.json"
    path.write_text(path.read_text().replace('"steps": ', '"steps": 1'))
    outcome = xpsr(*command_line)
    assert outcome.code == ExitCode.USAGE
    assert re.search(r'made differently: weights was "\w+ ... \w+" and is "\w+ ... \w+"', outcome.err)


def test_settings_without_effect_are_no_change_and_leave_no_trace(upscale, album, tmp_path):
    out = tmp_path / "out"
    assert upscale(album / "b.png", "-o", out / "b.png").code == ExitCode.PHOTO  # there is no such folder
    assert upscale(album / "b.png", "-o", f"{out}/").code == 0
    plain = seen(out)["b.png"][0]
    (out / "b.png").unlink()
    options = ["--tile-batch", 3, "--in-memory", 0, "--verify"]
    assert upscale(album / "b.png", "-o", f"{out}/", *options).code == 0
    assert seen(out)["b.png"][0] == plain
    assert "done before" in upscale(album / "b.png", "-o", f"{out}/").err


def test_shards_do_everything_once_with_the_same_names(upscale, album, tmp_path, monkeypatch):
    Image.new("RGB", (20, 20)).save(album / "a.png")  # a_jpg.png and a_png.png, whichever part they are in
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert upscale(album, "-o", whole, "--recursive").code == 0
    done = []
    for shard in ("1/3", "2/3"):
        done += list(records(upscale(album, "-o", parts, "--recursive", "--shard", shard, "--json")))
    for name, value in (("ID", "7"), ("MIN", "5"), ("COUNT", "3")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    done += list(records(upscale(album, "-o", parts, "--recursive", "--shard", "slurm", "--json")))
    assert len(done) == len(set(done)) == 5
    assert {n: content for n, (content, _) in seen(parts).items()} == {n: c for n, (c, _) in seen(whole).items()}
    journals = sorted(path.name for path in (parts / ".xpsr").iterdir())
    assert journals == [f"journal-{n}-of-3.jsonl" for n in (1, 2, 3)]
    assert upscale(album, "-o", parts, "--recursive").err.count("done before") == 5


def test_a_shard_without_photos_is_done(upscale, album, tmp_path, no_model):
    no_model()
    assert upscale(album / "a.jpg", "-o", f"{tmp_path}/out/", "--shard", "2/2") == (0, "", "")
    assert not (tmp_path / "out").exists()


def test_results_under_the_photos_are_not_photos(upscale, album):
    for _ in range(2):
        assert upscale(album, "-o", album / "large", "--recursive").code == 0
    assert names(album / "large") == ["a.png", "b.png", "c.png", "sub/d.png"]


def test_a_dry_run_tells_everything_and_writes_nothing(upscale, album, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    outcome = upscale(album, "-o", tmp_path / "out", "--recursive", "--dry-run", "--scale", 2, "--steps", 4)
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 4
    for words in ("24 x 20 to 48 x 40 pixels", "8 bits, 1 window, 4 steps, about ", "GB of memory"):
        assert words in outcome.out
    assert outcome.err.startswith("4 photos: ")
    outcome = upscale(album, "-o", tmp_path / "out", "--dry-run", "--json", "--in-memory", 0)
    for record in records(outcome).values():
        assert record["status"] == "planned"
        assert (record["input_width"], record["width"], record["height"], record["bits"]) == (24, 24, 20, 8)
        assert (record["windows"], record["steps"]) == (1, 1)
        assert record["memory_bytes"] > 1e6
        assert record["scratch_bytes"] > 0
        assert record["seconds"] >= 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_ends_as_the_run_would(upscale, album, tmp_path):
    (album / "b.png").write_bytes(b"no photo")
    outcome = upscale(album, "-o", tmp_path / "out", "--dry-run", "--json")
    assert outcome.code == ExitCode.PARTIAL
    assert statuses(outcome) == {"a.png": "planned", "b.png": "failed", "c.png": "planned"}
    assert upscale(album / "b.png", "-o", tmp_path / "b.png", "--dry-run").code == ExitCode.PHOTO
    (tmp_path / "a.png").write_bytes(b"mine")
    assert upscale(album / "a.jpg", "-o", tmp_path / "a.png", "--dry-run").code == ExitCode.USAGE
    assert not (tmp_path / "out").exists()


def test_verify_measures_seams(xpsr, album, tmp_path, tiny_model):
    Image.effect_noise((96, 96), 60).convert("RGB").save(album / "a.jpg")
    options = ["--model", tiny_model, "--scale", 2, "--steps", 1, "--tile-size", 128, "--tile-overlap", 32, "--verify"]
    outcome = xpsr("upscale", album / "a.jpg", "-o", tmp_path / "a.png", *options)
    figures = r"seam index [\d.]+ \(99 % CI [\d.]+ to [\d.]+\), brightness step [\d.]+/255"
    assert re.search(figures, outcome.err), outcome.err
    outcome = xpsr("upscale", album / "a.jpg", "-o", tmp_path / "b.png", *options, "--json")
    seams = json.loads(outcome.out)["seams"]
    assert seams["index_low"] <= seams["index"] <= seams["index_high"]
    assert set(seams) == {"index", "index_low", "index_high", "brightness_step"}
    outcome = xpsr("upscale", album / "b.png", "-o", tmp_path / "c.png", *options)
    assert "one window, so no seams" in outcome.err


def test_bits_compression_and_metadata_are_taken(upscale, album, tmp_path):
    source = album / "b.png"
    made = upscale(source, "-o", tmp_path / "a.png", "--bits", "16", "--compression", "none", "--json")
    assert json.loads(made.out)["bits"] == 16
    assert read_photo(tmp_path / "a.png").pixels.dtype == np.uint16
    assert upscale(source, "-o", tmp_path / "b.tif", "--compression", "zstd").code == 0
    assert upscale(source, "-o", tmp_path / "c.png", "--no-metadata").code == 0
    assert b"DigitalSourceType" in (tmp_path / "b.tif").read_bytes()
    assert b"xpsr" not in (tmp_path / "c.png").read_bytes()
    outcome = upscale(source, "-o", tmp_path / "d.jpg", "--bits", "16")
    assert (outcome.code, "16" in outcome.err) == (ExitCode.USAGE, True)
    outcome = upscale(source, "-o", tmp_path / "d.png", "--compression", "zstd")
    assert (outcome.code, "zstd" in outcome.err) == (ExitCode.USAGE, True)


def test_photos_that_cannot_be_are_told_one_by_one(upscale, album, tmp_path):
    (album / "lost.png").symlink_to("nowhere.png")
    (album / "bomb.png").write_bytes(png_header(2**31 - 1, 2**31 - 1))
    (album / "folder.png").mkdir()
    outcome = upscale(album, "-o", tmp_path / "out", "--json")
    assert outcome.code == ExitCode.PARTIAL
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    failed = {name: record["exit_code"] for name, record in records(outcome).items() if record["status"] == "failed"}
    assert failed == {"lost.png": ExitCode.PHOTO, "bomb.png": ExitCode.PHOTO}
    assert "Traceback" not in outcome.err


def test_a_photo_that_vanishes_after_the_check_is_a_sentence(upscale, album, tmp_path, monkeypatch):
    load = command.load_upscaler

    def load_slowly(*arguments):
        (album / "b.png").unlink()
        return load(*arguments)

    monkeypatch.setattr(command, "load_upscaler", load_slowly)
    outcome = upscale(album, "-o", tmp_path / "out", "--json")
    assert outcome.code == ExitCode.PARTIAL
    assert statuses(outcome) == {"a.png": "done", "b.png": "failed", "c.png": "done"}
    assert records(outcome)["b.png"]["exit_code"] == ExitCode.PHOTO
    assert names(tmp_path / "out") == ["a.png", "c.png"]
    monkeypatch.setattr(command, "load_upscaler", load)
    assert set(statuses(upscale(album, "-o", tmp_path / "out", "--json")).values()) == {"done before"}


def test_a_run_in_which_everything_fails_leaves_nothing(upscale, album, tmp_path, monkeypatch):
    from xpsr_cli.upscaling.upscaler import Upscaler

    def fails(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Upscaler, "upscale", fails)
    outcome = upscale(album, "-o", tmp_path / "out")
    assert outcome.code == ExitCode.PARTIAL
    assert not (tmp_path / "out").exists()
    assert upscale(album / "a.jpg", "-o", tmp_path / "a.png").code == ExitCode.MEMORY
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files")
def test_a_disk_that_takes_no_more_is_a_sentence_and_no_half_file(upscale, album, tmp_path):
    """A limit on the size of files stands for a full disk: the write fails in the middle."""
    import resource

    Image.effect_noise((200, 200), 90).convert("RGB").save(album / "b.png")
    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        many = upscale(album, "-o", out, "--json")
        one = upscale(album / "b.png", "-o", out / "one.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert many.code == ExitCode.PARTIAL
    assert statuses(many) == {"a.png": "done", "b.png": "failed", "c.png": "done"}
    assert one.code == ExitCode.PHOTO
    assert one.err.startswith(f"error: {out / 'one.png'} could not be written: ")
    assert len(one.err.splitlines()) == 2
    assert names(out) == ["a.png", "c.png"]
    assert [path.name for path in (out / ".xpsr").iterdir()] == ["journal.jsonl"]
    assert statuses(upscale(album, "-o", out, "--json")) == {
        "a.png": "done before",
        "b.png": "done",
        "c.png": "done before",
    }


def test_a_file_in_the_way_of_the_journal_is_a_sentence(upscale, album, tmp_path):
    (tmp_path / ".xpsr").write_text("mine")
    outcome = upscale(album / "a.jpg", "-o", tmp_path / "a.png")
    assert outcome.code == ExitCode.PHOTO
    assert str(tmp_path / ".xpsr") in outcome.err
    assert (tmp_path / ".xpsr").read_text() == "mine"
    assert not (tmp_path / "a.png").exists()


def test_the_journal_may_lie_elsewhere(upscale, album, tmp_path, no_model):
    out, work = tmp_path / "out", tmp_path / "work"
    assert upscale(album, "-o", out, "--work-dir", work).code == 0
    assert names(out) == [path.name for path in sorted(out.iterdir())] == ["a.png", "b.png", "c.png"]
    assert [path.name for path in work.iterdir()] == ["journal.jsonl"]
    assert upscale(album, "-o", out).code == ExitCode.USAGE
    no_model()
    assert upscale(album, "-o", out, "--work-dir", work).err.count("done before") == 3


def test_several_photos_are_told_with_their_number(upscale, album, tmp_path):
    outcome = upscale(album, "-o", tmp_path / "out")
    lines = [line for line in outcome.err.splitlines() if not line.startswith("  measured: ")]
    assert [line.partition(":")[0] for line in lines] == ["[1/3] a.jpg", "[2/3] b.png", "[3/3] c.png"]
