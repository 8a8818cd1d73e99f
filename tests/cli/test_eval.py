"""``xpsr eval`` from the command line: what it prints and where, what it leaves, and how it ends."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import sys
import time

import pytest
import typer
from evaluation_sets import save, scene, write_pairs
from PIL import Image

from xpsr_cli.cli import app as app_module
from xpsr_cli.cli import eval as command
from xpsr_cli.cli import eval_models, upscale
from xpsr_cli.cli.eval_results import drawn_table
from xpsr_cli.errors import ExitCode
from xpsr_cli.evaluation.tables import Cell, Table

PIXELS = ("--metrics", "psnr,ssim", "--protocol", "rgb")
FAST = ("--steps", 1)


@pytest.fixture
def small_set(tmp_path):
    write_pairs(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def evaluate(xpsr, small_set, tmp_path):
    """``evaluate(...)`` is ``xpsr eval --lr --hr -o`` on the small set with the quickest metrics."""
    folders = ("--lr", small_set / "LR", "--hr", small_set / "HR", "-o", tmp_path / "out")
    return lambda *arguments: xpsr("eval", *folders, *PIXELS, *arguments)


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def rows(folder):
    with (folder / "per_image.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_is_on_stdout_and_the_files_are_in_the_folder(evaluate, tmp_path):
    outcome = evaluate("--baseline", "bicubic", "--baseline", "nearest")
    assert outcome.code == 0
    assert "set: 3 pictures" in outcome.out
    assert "PSNR, dB ↑ (rgb)" in outcome.out
    assert "Against bicubic, picture by picture" in outcome.out
    assert "The report is in" in outcome.err
    assert all((tmp_path / "out" / name).is_file() for name in ("report.json", "per_image.csv", "report.html"))
    assert (tmp_path / "out" / "predictions" / "nearest" / "seed-0" / "b.png").is_file()
    assert [(row["method"], row["picture"]) for row in rows(tmp_path / "out")] == [
        (method, picture) for method in ("bicubic", "nearest") for picture in "abc"
    ]
    assert report(tmp_path / "out")["provenance"]["protocols"].keys() == {"rgb"}


def test_json_is_the_report_and_quiet_is_silent(evaluate, tmp_path):
    outcome = evaluate("--baseline", "bicubic", "--json")
    assert json.loads(outcome.out) == report(tmp_path / "out")
    assert outcome.out.count("\n") == 1
    assert evaluate("--baseline", "bicubic", "--quiet") == (0, "", "")


def test_a_model_is_upscaled_with_its_captions_and_scored(evaluate, tiny_model, tmp_path, xpsr, small_set):
    outcome = evaluate("--model", f"mine={tiny_model}", "--baseline", "bicubic", *FAST)
    assert outcome.code == 0
    assert [method["name"] for method in report(tmp_path / "out")["methods"]] == ["mine", "bicubic"]
    made = tmp_path / "out" / "predictions" / "mine" / "seed-0"
    assert sorted(path.name for path in made.glob("*.png")) == ["a.png", "b.png", "c.png"]
    xpsr("upscale", small_set / "LR", "-o", tmp_path / "plain", "--model", tiny_model, *FAST)
    for name in "abc":
        pixels = [Image.open(folder / f"{name}.png").tobytes() for folder in (made, tmp_path / "plain")]
        assert pixels[0] == pixels[1]
    about = report(tmp_path / "out")["provenance"]["methods"]["mine"]
    assert (
        about["settings"]
        == {"scale": 4.0, "steps": 1, "long_prompts": "chunk", "in_memory_mp": about["settings"]["in_memory_mp"]}
        or about["settings"]["steps"] == 1
    )
    assert len(about["weights"]) == 64


def test_seeds_are_runs_of_their_own_and_nothing_is_made_twice(evaluate, tiny_model, tmp_path, monkeypatch):
    assert evaluate("--model", tiny_model, "--seeds", 2, *FAST).code == 0
    assert {(row["method"], row["seed"]) for row in rows(tmp_path / "out")} == {("tiny", "0"), ("tiny", "1")}
    folder = tmp_path / "out" / "predictions" / "tiny"
    assert (folder / "seed-0" / "a.png").read_bytes() != (folder / "seed-1" / "a.png").read_bytes()
    scores = (tmp_path / "out" / "per_image.csv").read_bytes()

    def load(*arguments):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(eval_models, "load_upscaler", load)
    assert evaluate("--model", tiny_model, "--seeds", 2, *FAST).code == 0
    assert (tmp_path / "out" / "per_image.csv").read_bytes() == scores


def test_other_settings_do_not_pass_for_the_same_method(evaluate, tiny_model):
    assert evaluate("--model", tiny_model, *FAST).code == 0
    refused = evaluate("--model", tiny_model, "--steps", 2)
    assert refused.code == ExitCode.USAGE
    assert "steps was 1 and is 2" in refused.err
    assert "Name another output folder, or add --overwrite." in refused.err
    assert evaluate("--model", tiny_model, "--steps", 2, "--overwrite").code == 0


def test_small_photos_alone_are_scored_by_what_needs_no_original(xpsr, small_set, tiny_model, tmp_path):
    outcome = xpsr(
        "eval",
        "--lr",
        small_set / "LR",
        "-o",
        tmp_path / "out",
        "--baseline",
        "bicubic",
        "--metrics",
        "psnr,niqe,consistency",
    )
    assert outcome.code == 0
    assert "missing: psnr@osediff: it compares with large originals" in outcome.err
    assert set(rows(tmp_path / "out")[0]) == {"method", "seed", "picture", "niqe", "consistency"}


def test_large_photos_alone_are_made_small_and_the_small_ones_are_kept(xpsr, small_set, tmp_path):
    arguments = ("--hr", small_set / "HR", "--degrade", "xpsr", "--seed", 3, "--baseline", "bicubic", *PIXELS)
    assert xpsr("eval", *arguments, "-o", tmp_path / "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out/inputs/lr").glob("*.png")) == ["a.png", "b.png", "c.png"]
    assert report(tmp_path / "out")["dataset"]["about"]["degradation seed"] == "3"
    again = xpsr(
        "eval",
        "--lr",
        tmp_path / "out/inputs/lr",
        "--hr",
        small_set / "HR",
        "--baseline",
        "bicubic",
        *PIXELS,
        "-o",
        tmp_path / "two",
    )
    assert again.code == 0
    assert rows(tmp_path / "two") == rows(tmp_path / "out")


def test_large_photos_and_predictions_need_no_small_ones(xpsr, small_set, tmp_path):
    arguments = ("eval", "--hr", small_set / "HR", "-o", tmp_path / "out", *PIXELS)
    assert xpsr(*arguments, "--predictions", f"same={small_set / 'HR'}").code == 0
    assert {row["psnr@rgb"] for row in rows(tmp_path / "out")} == {"inf"}
    refused = xpsr(*arguments, "--baseline", "bicubic")
    assert refused.code == ExitCode.USAGE
    assert "bicubic needs small photos, and there are none" in refused.err


def test_a_known_set_is_found_and_has_its_usual_protocol(xpsr, tmp_path):
    write_pairs(tmp_path / "Set5")
    outcome = xpsr(
        "eval",
        "--dataset",
        "set5",
        "--root",
        tmp_path,
        "--every",
        2,
        "-o",
        tmp_path / "out",
        "--baseline",
        "bicubic",
        "--metrics",
        "psnr",
    )
    assert outcome.code == 0
    assert "PSNR, dB ↑ (classic)" in outcome.out
    assert "set5 has 5 pictures, and here are 3." in outcome.err
    assert "2 of 3 pictures, every 2nd" in outcome.err
    assert report(tmp_path / "out")["dataset"]["about"]["selection"] == "2 of 3 pictures, every 2nd"


def test_half_a_folder_of_predictions_is_partial_and_its_scores_are_kept(evaluate, tmp_path):
    save(scene(0), tmp_path / "theirs" / "b.png")
    outcome = evaluate("--predictions", tmp_path / "theirs", "--baseline", "bicubic")
    assert outcome.code == ExitCode.PARTIAL
    assert "not scored: theirs, a: " in outcome.err
    assert "Some pictures could not be scored: 2 of theirs." in outcome.err
    assert "theirs: 1 of 3 pictures" in outcome.out
    kept = {(row["method"], row["picture"]) for row in rows(tmp_path / "out") if row["psnr@rgb"]}
    assert kept == {("theirs", "b"), *(("bicubic", name) for name in "abc")}


def test_sizes_that_differ_are_named_and_the_others_are_scored(evaluate, tmp_path, small_set):
    for name in "abc":
        save(scene(0, 88 if name == "b" else 96), tmp_path / "theirs" / f"{name}.png")
    outcome = evaluate("--predictions", tmp_path / "theirs")
    assert outcome.code == ExitCode.PARTIAL
    assert (
        f"{tmp_path / 'theirs' / 'b.png'} is 88 x 64 pixels, and {small_set / 'HR' / 'b.png'} is 96 x 64."
        in outcome.err
    )
    save(scene(0, 72), small_set / "HR" / "a.png")
    outcome = evaluate("--predictions", tmp_path / "theirs")
    assert outcome.code == ExitCode.PARTIAL
    assert "1 of the set, 1 of theirs" in outcome.err


def test_when_all_sizes_differ_nothing_is_scored(evaluate, tmp_path):
    for name in "abc":
        save(scene(0, 88), tmp_path / "theirs" / f"{name}.png")
    outcome = evaluate("--predictions", tmp_path / "theirs")
    assert outcome.code == ExitCode.PHOTO
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Nothing is named to evaluate on"),
        (("--dataset", "set5", "--hr", "."), "--dataset and --hr contradict each other"),
        (("--lr", ".", "--degrade", "xpsr"), "--degrade makes small photos, and --lr names some"),
        (("--dataset", "nothing"), "There is no data set named 'nothing'"),
        (("--dataset", "set5"), "The data set set5 is not on this machine"),
        (("--lr", "nowhere"), "nowhere, the folder of pictures, does not exist"),
    ],
)
def test_a_set_that_cannot_be_told_is_a_usage_error(xpsr, tmp_path, monkeypatch, arguments, words):
    monkeypatch.delenv("XPSR_DATASETS", raising=False)
    outcome = xpsr("eval", *arguments, "-o", tmp_path / "out", "--baseline", "bicubic", "--quiet")
    assert outcome.code == ExitCode.USAGE
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--metrics", "psnrr"), "There is no metric named 'psnrr'"),
        (("--protocol", "seesr"), "There is no protocol named 'seesr'"),
        (("--reference", "lanczos"), "The reference 'lanczos' is none of the methods"),
        (("--predictions", "bicubic=x"), "Two methods are called bicubic"),
        (("--predictions", "nowhere"), "nowhere, the folder of pictures of nowhere, does not exist"),
        (("--scale", "2"), "scale is 2, and the large photos are 4 times the small ones"),
        (("--seeds", "0"), "seeds is 0"),
        (("--every", "0"), "every is 0"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(evaluate, tmp_path, arguments, words):
    outcome = evaluate("--baseline", "bicubic", *arguments)
    assert outcome.code == ExitCode.USAGE
    assert words in outcome.err
    assert not (tmp_path / "out" / "predictions").exists()


def test_an_unknown_degradation_is_refused(xpsr, small_set, tmp_path):
    outcome = xpsr(
        "eval", "--hr", small_set / "HR", "--degrade", "worse", "--baseline", "bicubic", "-o", tmp_path / "out"
    )
    assert outcome.code == ExitCode.USAGE
    assert "no degradation 'worse'" in outcome.err


def test_a_model_that_is_not_there_is_a_weights_error(evaluate):
    assert evaluate("--model", "nothing").code == ExitCode.WEIGHTS


def test_two_runs_do_not_share_a_folder(evaluate, tmp_path):
    from xpsr_cli.upscaling.locks import lock_file

    with lock_file(tmp_path / "out" / ".xpsr-eval.lock") as has_it:
        assert has_it
        outcome = evaluate("--baseline", "bicubic")
    assert outcome.code == ExitCode.USAGE
    assert "Another xpsr eval is at work" in outcome.err


def test_flags_of_sampling_are_worded_as_those_of_upscale():
    ours, theirs = typer.Typer(), typer.Typer()
    ours.command()(command.evaluate)
    theirs.command()(upscale.upscale)
    words = [
        {param.name: param for param in typer.main.get_command(application).params} for application in (ours, theirs)
    ]
    shared = "captions prompt low_prompt negative_prompt steps guidance_scale conditioning_scale scheduler color_fix"
    for name in (*shared.split(), "activate", "add_on", "start", "strength", "fidelity", "device", "precision"):
        one, other = (params[name] for params in words)
        assert (one.opts, one.help, one.default) == (other.opts, other.help, other.default)


def _run(arguments, log):
    """The command in a process of its own."""
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    code = app_module.run(arguments)
    sys.stdout.flush()
    os._exit(code)


@pytest.fixture
def start(tmp_path):
    """``start(arguments)`` gives a process that runs the command, forked from one that has imported everything."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["xpsr_cli.upscaling.upscaler", "xpsr_cli.models.loading", "xpsr_cli.cli.batch"])
    started = []

    def call(arguments):
        process = processes.Process(target=_run, args=([*map(str, arguments)], tmp_path / "log"))
        process.start()
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.join()


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_killed_runs_go_on_to_the_numbers_of_an_undisturbed_one(start, tiny_model, tmp_path):
    """Once while the model is at work, and once after scores were computed."""
    write_pairs(tmp_path / "set", "abcdef", 128, 128)
    arguments = ["eval", "--lr", tmp_path / "set/LR", "--hr", tmp_path / "set/HR", "--model", tiny_model, *FAST]
    arguments += ["--baseline", "bicubic", *PIXELS, "-o"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    undisturbed = start([*arguments, whole])
    undisturbed.join(300)
    assert undisturbed.exitcode == 0, (tmp_path / "log").read_text()
    scores = out / "scores.jsonl"
    for reached in (
        lambda: list((out / "predictions/tiny/seed-0").glob("*.png")),
        lambda: scores.exists() and scores.read_bytes().count(b"\n") >= 6,
    ):
        process = start([*arguments, out])
        while not reached():
            assert process.is_alive(), (tmp_path / "log").read_text()
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (out / "report.json").exists()
    kept = scores.read_bytes().rpartition(b"\n")[0]
    last = start([*arguments, out])
    last.join(300)
    assert last.exitcode == 0, (tmp_path / "log").read_text()
    assert (out / "per_image.csv").read_bytes() == (whole / "per_image.csv").read_bytes()
    assert report(out)["summaries"] == report(whole)["summaries"]
    assert scores.read_bytes().startswith(kept)  # nothing is computed or written again
    keys = [json.loads(line)["key"] for line in scores.read_bytes().splitlines() if line.endswith(b"}")]
    assert len(set(keys)) == len(keys) == 24


def test_metrics_that_are_all_missing_are_refused_before_anything_is_made(xpsr, small_set, tmp_path):
    arguments = ("eval", "--lr", small_set / "LR", "--baseline", "bicubic", "-o", tmp_path / "out")
    outcome = xpsr(*arguments, "--metrics", "psnr")
    assert outcome.code == 2
    assert "No metric is left to compute: psnr@osediff, it compares with large originals" in outcome.err
    assert "xpsr eval --hr FOLDER" in outcome.err
    assert not (tmp_path / "out" / "predictions").exists()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_tables_are_no_wider_than_the_terminal_and_keep_numbers_whole(width):
    rows = [("bicubic", "PSNR, dB ↑ (osediff)", "95 of 100", "-51.56", "-55.05 to -48.58", "0%", "0.19")] * 2
    columns = ("Method", "Metric", "Pictures", "Gain", "95 % interval", "Wins", "p (Holm)")
    table = Table("Against [best]", columns, tuple(tuple(map(Cell, row)) for row in rows))
    text = drawn_table(table, width)
    assert text.startswith("Against [best]\n")
    assert max(map(len, text.splitlines())) <= width
    assert text.count("-55.05 to -48.58") == text.count("95 of 100") == 2


def test_a_table_that_cannot_fit_loses_no_digit():
    row = ("method", *["0.1234 ± 0.5678"] * 9)
    text = drawn_table(Table("t", ("Method", *"abcdefghi"), (tuple(map(Cell, row)),)), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("0.1234") == text.count("0.5678") == 9
