"""``xpsr upscale``: what is refused before the model is loaded, what comes out, and what a batch does."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.cli import model_files
from xpsr_cli.cli import upscale as command
from xpsr_cli.errors import ExitCode
from xpsr_cli.weights import user_folder


@pytest.fixture
def photo(tmp_path):
    """Writes a photo of noise: ``photo("a.png", 20, 16)``; returns its path."""

    def write(name="a.png", width=20, height=16, mode="RGB", **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
        Image.fromarray(pixels.squeeze(), mode).save(path, **options)
        return path

    return write


@pytest.fixture
def no_model(monkeypatch):
    """Fails the test if the model is loaded."""

    def load(*arguments):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(command, "load_upscaler", load)


@pytest.fixture
def upscale(xpsr, tiny_model):
    """``upscale(...)`` is ``xpsr upscale ... --model TINY``."""
    return lambda *arguments: xpsr("upscale", *arguments, "--model", tiny_model)


def files_under(folder):
    """What a user sees: all but the journal."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if ".xpsr" not in path.parts)


def refused(outcome, code, *words):
    """The run failed with ``code``, one sentence that has all ``words``, at most one more that helps, no traceback."""
    assert outcome.code == code
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    for word in words:
        assert str(word) in lines[0]
    return True


def test_bad_inputs_name_the_file_and_leave_nothing(upscale, photo, tmp_path, no_model):
    good = photo("good.png").read_bytes()
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    ihdr = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bad = {
        "empty.png": b"",
        "truncated.png": good[: len(good) // 2],
        "text.png": b"this is not a photo at all",
        "bomb.png": b"\x89PNG\r\n\x1a\n" + ihdr,
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    photo("small.png", 15, 40)
    photo("cmyk.jpg", 32, 32, "CMYK")
    before = files_under(tmp_path)
    for name in [*bad, "folder.png", "small.png", "cmyk.jpg", "missing.png"]:
        outcome = upscale(tmp_path / name, "-o", tmp_path / "out.png")
        assert refused(outcome, ExitCode.PHOTO, tmp_path / name), name
    assert files_under(tmp_path) == before


def test_outputs_are_refused_before_the_model_is_loaded(upscale, photo, tmp_path, no_model):
    source, there = photo("a.png"), photo("there.png")
    clear = photo("clear.png", mode="RGBA")
    kept = there.read_bytes()
    assert refused(upscale(source, "-o", there), ExitCode.USAGE, there, "exists")
    assert refused(upscale(source, "-o", source, "--overwrite"), ExitCode.USAGE, source)
    assert refused(upscale(source, "-o", tmp_path / "a.gif"), ExitCode.PHOTO, "a.gif")
    assert refused(upscale(source, "-o", tmp_path / "no" / "b.png"), ExitCode.PHOTO, "no")
    assert refused(upscale(clear, "-o", tmp_path / "b.jpg"), ExitCode.PHOTO, "b.jpg", "transparency")
    assert refused(upscale(source, "-o", tmp_path / "b.jpg", "--quality", 0), ExitCode.USAGE, "quality", "0")
    assert refused(upscale(source, "-o", tmp_path / "b.png", "--quality", 90), ExitCode.USAGE, "quality", "PNG")
    assert refused(upscale(source, there, "-o", tmp_path / "b.png"), ExitCode.USAGE, "b.png")
    assert files_under(tmp_path) == ["a.png", "clear.png", "there.png"]
    assert there.read_bytes() == kept


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder that even root cannot write to")
def test_an_unwritable_folder_is_refused(upscale, photo, no_model):
    assert refused(upscale(photo(), "-o", "/proc/b.png"), ExitCode.PHOTO, "/proc/b.png")


def test_a_file_in_the_way_of_the_output_folder_is_refused(upscale, photo, tmp_path, no_model):
    (tmp_path / "out").write_text("a file")
    assert refused(upscale(photo("a.png"), "-o", tmp_path / "out" / "deep/"), ExitCode.PHOTO, tmp_path / "out")


def test_unknown_models_are_refused(xpsr, photo, tmp_path, no_model):
    source = photo()
    for model, words in {"nothing": "nothing", str(tmp_path): "unet", "xpsr": "not installed"}.items():
        outcome = xpsr("upscale", source, "-o", tmp_path / "b.png", "--model", model)
        assert refused(outcome, ExitCode.WEIGHTS, words)


def test_one_photo_comes_out_enlarged_and_told(upscale, photo, tmp_path):
    source, target = photo("a.png", 20, 16), tmp_path / "b.png"
    outcome = upscale(source, "-o", target, "--scale", 1.5, "--seed", 3)
    assert (outcome.code, outcome.out) == (0, f"{target}\n")
    assert "30 x 24" in outcome.err
    with Image.open(target) as image:
        assert image.size == (30, 24)
    assert files_under(tmp_path) == ["a.png", "b.png"]


def test_a_published_checkpoint_borrows_the_rest_from_stable_diffusion(xpsr, photo, tmp_path, tiny_model):
    checkpoint = tmp_path / "checkpoint"
    for part in ("unet", "controlnet"):
        shutil.copytree(tiny_model / part, checkpoint / part)
    command_line = ["upscale", photo("a.png"), "-o", tmp_path / "b.png", "--model", checkpoint]
    command_line += ["--scale", 1, "--scheduler", "ddim", "--steps", 1]
    outcome = xpsr(*command_line)
    assert refused(outcome, ExitCode.WEIGHTS, "stable-diffusion-1.5")
    assert "xpsr weights pull stable-diffusion-1.5" in outcome.err

    base = user_folder() / "stable-diffusion-1.5"
    for part in ("text_encoder", "vae", "scheduler", "tokenizer"):
        shutil.copytree(tiny_model / part, base / part)
    _split_tokenizer(base / "tokenizer")
    outcome = xpsr(*command_line)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "b.png").is_file()


def _split_tokenizer(folder):
    """Turn ``tokenizer.json`` into the older files that Stable Diffusion 1.5 comes with."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(m)}\n" for m in model["merges"]))
    words = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(words | {"pad_token": "<|endoftext|>"}))


def test_json_says_everything_needed_to_do_it_again(upscale, photo, tmp_path):
    source, target = photo("a.png"), tmp_path / "b.jpg"
    outcome = upscale(source, "-o", target, "--json", "--quiet", "--seed", 7, "--steps", 2, "--prompt", "a house")
    assert (outcome.code, outcome.err) == (0, "")
    record = json.loads(outcome.out)
    assert record["bits"] == 8
    assert record["input_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert "seams" not in record
    assert record["input"] == str(source)
    assert record["output"] == str(target)
    assert record["status"] == "done"
    assert (record["width"], record["height"]) == (80, 64)
    assert record["model"] == "tiny"
    assert len(record["fingerprint"]) == 64
    assert record["seed"] == 7
    assert record["settings"]["steps"] == 2
    assert record["settings"]["prompt"] == "a house"
    assert record["windows"] >= 1
    assert all(seconds >= 0 for seconds in record["seconds"].values())


def test_a_failing_photo_does_not_stop_the_rest(upscale, photo, tmp_path):
    photo("in/a.png")
    photo("in/sub/c.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no photo")
    outcome = upscale(tmp_path / "in", "-o", tmp_path / "out", "--recursive", "--json")
    assert outcome.code == ExitCode.PARTIAL
    assert files_under(tmp_path / "out") == ["a.png", "sub/c.png"]
    assert outcome.err.splitlines()[-2] == f"error: 1 of 3 photos failed: {tmp_path / 'in' / 'b.png'}."
    records = {os.path.basename(r["input"]): r for r in map(json.loads, outcome.out.splitlines())}
    assert {name: record["status"] for name, record in records.items()} == {
        "a.png": "done",
        "b.png": "failed",
        "c.png": "done",
    }
    assert records["b.png"]["exit_code"] == ExitCode.PHOTO
    assert str(tmp_path / "in" / "b.png") in records["b.png"]["error"]


def test_a_whole_batch_of_bad_photos_loads_no_model_and_makes_no_folder(upscale, tmp_path, no_model):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no photo")
    outcome = upscale(tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out" / "deep")
    assert outcome.code == ExitCode.PARTIAL
    assert "2 of 2 photos failed" in outcome.err
    assert not (tmp_path / "out").exists()


def test_overwrite_and_skip_existing(upscale, photo, tmp_path):
    first, second = photo("a.png"), photo("b.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    assert refused(upscale(first, second, "-o", out), ExitCode.USAGE, out / "a.png")
    outcome = upscale(first, second, "-o", out, "--skip-existing", "--scale", 1)
    assert outcome.code == 0
    assert outcome.out == f"{out / 'b.png'}\n"
    assert (out / "a.png").read_bytes() == b"mine"
    assert json.loads(upscale(first, "-o", out / "a.png", "--skip-existing", "--json").out)["status"] == "skipped"
    assert upscale(first, "-o", out / "a.png", "--overwrite", "--scale", 1).code == 0
    with Image.open(out / "a.png") as image:
        assert image.size == (20, 16)


def test_the_model_is_loaded_once_for_all_photos(upscale, photo, tmp_path, monkeypatch):
    loads, load = [], command.load_upscaler
    monkeypatch.setattr(command, "load_upscaler", lambda *arguments: loads.append(arguments) or load(*arguments))
    assert upscale(photo("a.png"), photo("b.png"), "-o", tmp_path / "out", "--scale", 1).code == 0
    assert len(loads) == 1


def test_the_order_is_defaults_then_config_file_then_flags(upscale, photo, tmp_path):
    config = tmp_path / "my.toml"
    config.write_text('scale = 2\nseed = 5\ncolor-fix = "wavelet"\nquiet = true\njson = true\n')
    outcome = upscale(photo("a.png"), "-o", tmp_path / "b.png", "--config", config, "--seed", 6)
    record = json.loads(outcome.out)
    assert (record["width"], record["seed"], record["settings"]["color_fix"]) == (40, 6, "wavelet")
    assert outcome.err == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("skale = 2", ["skale", "my.toml"]),
        ("scale = [1]", ["scale"]),
        ("scale = 99", ["scale", "99"]),
        ("scale =", ["my.toml", "TOML"]),
        ('output = "x"', ["output"]),
    ],
)
def test_a_wrong_config_file_is_refused(upscale, photo, tmp_path, no_model, content, words):
    config = tmp_path / "my.toml"
    config.write_text(content)
    outcome = upscale(photo("a.png"), "-o", tmp_path / "b.png", "--config", config)
    assert refused(outcome, ExitCode.USAGE, *words)
    if words[0] == "skale":
        assert "color_fix" in outcome.err
        assert "tile_size" in outcome.err


def test_a_missing_config_file_is_refused(upscale, photo, tmp_path, no_model):
    outcome = upscale(photo("a.png"), "-o", tmp_path / "b.png", "--config", tmp_path / "none.toml")
    assert refused(outcome, ExitCode.USAGE, "none.toml")


def test_an_interrupt_leaves_no_file_and_is_130(upscale, photo, tmp_path, monkeypatch):
    from xpsr_cli.upscaling.upscaler import Upscaler

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Upscaler, "upscale", interrupted)
    outcome = upscale(photo("a.png"), "-o", tmp_path / "out/")
    assert outcome.code == ExitCode.INTERRUPTED
    assert files_under(tmp_path) == ["a.png"]
    assert not (tmp_path / "out").exists()


def test_the_full_model_is_mentioned_but_not_taken(xpsr, monkeypatch, photo, tmp_path, tiny_model, no_model):
    monkeypatch.setattr(command, "installed_folder", lambda entry: tmp_path)
    monkeypatch.setattr(model_files, "find_model", lambda name: tiny_model)
    outcome = xpsr("upscale", photo("a.png"), "-o", tmp_path / "b.gif")
    assert outcome.err.splitlines()[0] == "The full model is installed too: --model xpsr"
    outcome = xpsr("upscale", photo("a.png"), "-o", tmp_path / "b.gif", "--model", "xpsr")
    assert "full model" not in outcome.err


def test_a_fresh_process_keeps_other_libraries_off_the_terminal(photo, tmp_path, tiny_model):
    source, target = photo("a.png"), tmp_path / "b.png"
    command_line = ["-m", "xpsr_cli", "upscale", source, "-o", target, "--model", tiny_model, "--scale", "1"]
    made = subprocess.run([sys.executable, *command_line], capture_output=True, text=True, timeout=120)
    assert (made.returncode, made.stdout) == (0, f"{target}\n")
    assert re.fullmatch(r"a\.png: 20 x 16 pixels in [\d.]+ s\n  measured: .*\n", made.stderr)
