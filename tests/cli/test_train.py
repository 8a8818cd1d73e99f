"""``xpsr train``: what its flags do, what it shows where, and what it refuses."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from large_photos import TINY_MINI, save_photos, sets
from PIL import Image
from stock_stable_diffusion import PYRAMID, SD21, save_stable_diffusion

from xpsr_cli.cli.train import complete_recipe
from xpsr_cli.cli.train_progress import training_bar
from xpsr_cli.errors import ExitCode
from xpsr_cli.models.loading import load_components, save_controlnet, save_unet
from xpsr_cli.training import train
from xpsr_cli.training.bases import from_stable_diffusion
from xpsr_cli.training.recipe import StableDiffusionRecipe


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_photos(tmp_path_factory.mktemp("photos"))


def tiny(photos, output, *changes):
    return ["train", "--config", "xpsr-mini", "--data", photos, "-o", output, *sets([*TINY_MINI, *changes])]


def test_a_run_leaves_a_model_a_plot_sheets_and_its_diary(xpsr, photos, tmp_path):
    run = tmp_path / "run"
    outcome = xpsr(*tiny(photos, run))
    assert (outcome.code, outcome.out) == (0, f"{run / 'model'}\n")
    assert "Trained to the end." in outcome.err
    assert "diffusion 4/4: total" in outcome.err
    assert load_components(run / "model").name == "xpsr-mini"
    assert sorted(sheet.name for sheet in (run / "validation").iterdir()) == ["step-000002.png", "step-000004.png"]
    assert Image.open(run / "losses.png").width > 400
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows if "losses" in row] == [
        ("autoencoder", 2), ("diffusion", 2), ("diffusion", 4),
    ]  # fmt: skip
    assert [row["step"] for row in rows if "validation" in row] == [2, 4]
    assert set(rows[-1]["validation"]) == {"psnr", "ssim", "gmsd", "sharpness", "bicubic"}
    card = (run / "model" / "README.md").read_text()
    assert "3 to train on, 1 held out" in card
    assert "4 of 4" in card

    again = xpsr(*tiny(photos, run))
    assert again.code == ExitCode.USAGE
    assert "already holds a training run" in again.err

    enlarged = xpsr("upscale", photos / "0.png", "-o", tmp_path / "large.png", "--model", run / "model", "--scale", 2)
    assert enlarged.code == 0
    assert Image.open(tmp_path / "large.png").size == (128, 128)


def test_the_quick_recipe_goes_through_everything_on_two_photos(xpsr, tmp_path):
    examples = Path(__file__).parents[2] / "examples"
    steps = sets(["optimizer.steps=2", "autoencoder.steps=2", "output.save_steps=0"])
    outcome = xpsr("train", "--config", "xpsr-mini-smoke", "--data", examples, "-o", tmp_path / "run", *steps)
    assert outcome.code == 0, outcome.err
    assert load_components(tmp_path / "run" / "model").name == "xpsr-mini-smoke"
    assert [sheet.name for sheet in (tmp_path / "run" / "validation").iterdir()] == ["step-000002.png"]
    assert "held-out photos at step 2: PSNR" in outcome.err


def test_a_run_goes_on_and_tells_no_step_twice(xpsr, photos, tmp_path):
    run = tmp_path / "run"
    assert xpsr(*tiny(photos, run, "optimizer.steps=2")).code == 0
    outcome = xpsr(*tiny(photos, run), "--resume", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [(row["stage"], row["step"], "losses" in row) for row in rows]
    assert len(steps) == len(set(steps))
    assert steps[-1][:2] == ("diffusion", 4)


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        ([], False),
        (["--resume"], True),
        (["--resume", "--quiet"], True),
        (["--resume", "latest"], True),
        (["--resume=latest"], True),
        (["--resume", "run/checkpoints/step-000500"], Path("run/checkpoints/step-000500")),
    ],
)
def test_resume_needs_no_value(xpsr, monkeypatch, tmp_path, flags, meant):
    calls = []
    monkeypatch.setattr(train, "run", lambda *_, **options: calls.append(options["resume"]) or True)
    assert xpsr("train", "--config", "xpsr-mini", "--data", "photos", "-o", tmp_path, *flags).code == 0
    assert calls == [meant]


def test_a_run_goes_on_from_the_checkpoint_that_is_named(xpsr, photos, tmp_path):
    run = tmp_path / "run"
    assert xpsr(*tiny(photos, run)).code == 0
    shutil.rmtree(run / "checkpoints" / "step-000004")
    kept = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(kept + '{"stage": "diffu')  # as a kill may leave it
    outcome = xpsr(*tiny(photos, run), "--resume", run / "checkpoints" / "step-000002")
    assert outcome.code == 0
    assert "on after 2 of 4 steps" in outcome.err
    assert (run / "metrics.jsonl").read_text() == kept
    refused = xpsr(*tiny(photos, run), "--resume", photos)
    assert refused.code == ExitCode.USAGE
    assert "is not a checkpoint" in refused.err


def test_what_cannot_be_read_is_listed_at_the_end_and_on_the_card(xpsr, tmp_path):
    photos = save_photos(tmp_path / "photos", count=5)
    (photos / "3.png").write_bytes((photos / "3.png").read_bytes()[:300])
    (photos / "broken.jpg").write_bytes(b"no photo")
    Image.new("RGB", (20, 90)).save(photos / "narrow.png")
    outcome = xpsr(*tiny(photos, tmp_path / "run", "output.validate_steps=0", "data.held_out_photos=0"))
    assert outcome.code == 0, outcome.err
    end = [line for line in outcome.err.splitlines() if "not trained on" in line]
    assert [line.split("not trained on: ")[1].split(":")[0] for line in end] == ["3.png", "broken.jpg", "narrow.png"]
    assert outcome.err.index("diffusion 4/4") < outcome.err.index(end[0])
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "| left out | 3 files: 3.png, broken.jpg, narrow.png |" in card
    assert str(photos) not in card


def test_what_shows_to_be_damaged_only_when_it_is_wanted_is_listed_too(xpsr, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "read_source", partial(train.read_source, memory_bytes=0))  # as of a large archive
    photos = save_photos(tmp_path / "photos")
    Image.open(photos / "3.png").save(photos / "3.jpg")
    (photos / "3.png").unlink()
    (photos / "3.jpg").write_bytes((photos / "3.jpg").read_bytes()[:-300])
    outcome = xpsr(*tiny(photos, tmp_path / "run", "output.validate_steps=0", "data.held_out_photos=0"))
    assert outcome.code == 0, outcome.err
    assert "4 to train on" in (card := (tmp_path / "run" / "model" / "README.md").read_text())
    assert "| left out | 1 file: 3.jpg |" in card
    assert "not trained on: 3.jpg: " in outcome.err


def test_ctrl_c_saves_and_draws_what_there_is(xpsr, photos, tmp_path):
    run = tmp_path / "run"

    def interrupt():
        while not (run / "checkpoints").is_dir():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    outcome = xpsr(*tiny(photos, run, "optimizer.steps=1000000"))
    assert outcome.code == ExitCode.INTERRUPTED
    assert load_components(run / "model").name == "xpsr-mini"
    assert (run / "losses.png").is_file()
    assert xpsr(*tiny(photos, run, "optimizer.steps=1000000"), "--resume", "--minutes", 0.02).code == 0


def test_json_is_one_object_a_line_and_nothing_else(xpsr, photos, tmp_path):
    outcome = xpsr(*tiny(photos, tmp_path / "run"), "--json", "--quiet")
    *rows, result = [json.loads(line) for line in outcome.out.splitlines()]
    assert outcome.err == ""
    assert rows == [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result == {"model": str(tmp_path / "run" / "model"), "finished": True}


def test_a_run_stops_in_time_and_says_how_to_go_on(xpsr, photos, tmp_path):
    outcome = xpsr(*tiny(photos, tmp_path / "run", "optimizer.steps=1000000"), "--minutes", 0.05)
    assert outcome.code == 0
    assert "--resume" in outcome.err
    assert load_components(tmp_path / "run" / "model").name == "xpsr-mini"
    assert (tmp_path / "run" / "losses.png").is_file()


def test_a_model_is_trained_further_under_a_name_of_its_own(xpsr, photos, tiny_model, tmp_path):
    flags = ["--config", "finetune", "--data", photos, "-o", tmp_path / "run", "--init-from", tiny_model]
    changes = [
        "data.crop_px=32",
        "data.held_out_photos=1",
        "optimizer.steps=2",
        "name=mine",
        "output.validate_steps=0",
    ]
    assert xpsr("train", *flags, *sets(changes)).code == 0
    before, after = load_components(tiny_model), load_components(tmp_path / "run" / "model")
    assert after.name == "mine"
    assert after.preset == before.preset
    assert after.unet.config.block_out_channels == before.unet.config.block_out_channels
    assert (after.unet.conv_in.weight - before.unet.conv_in.weight).abs().max() > 1e-6
    assert not (tmp_path / "run" / "validation").exists()
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"| starts from | {tiny_model.parent.name}/tiny |" in card

    (tmp_path / "run" / "model" / "unet").rename(tmp_path / "gone")
    outcome = xpsr("train", *flags[:-2], *sets([*changes, "optimizer.steps=3"]), "--resume")
    assert outcome.code == 0, outcome.err  # what it started from is remembered
    assert "on after 2 of 3 steps" in outcome.err


SD = (
    "data.crop_px=64",
    "data.captions=words",
    "data.held_out_photos=1",
    f"model.pyramid_channels={PYRAMID}",
    "optimizer.mixed_precision=no",
    "optimizer.steps=1",
    "output.validate_steps=0",  # twenty steps of sampling at 512 pixels
)


def test_xpsr_is_trained_on_a_stable_diffusion_and_then_further(xpsr, photos, tmp_path):
    base = save_stable_diffusion(tmp_path / "sd")
    flags = ["train", "--config", "xpsr-sd15", "--data", photos, *sets(SD), "--quiet"]
    outcome = xpsr(*flags, "--base", base, "-o", tmp_path / "first")
    assert (outcome.code, outcome.err) == (0, "")
    model = tmp_path / "first" / "model"
    first = load_components(model)  # whole: nothing is borrowed
    assert (first.preset.steps, first.scheduler_config["prediction_type"]) == (20, "epsilon")
    outcome = xpsr(*flags, "--init-from", model, "-o", tmp_path / "second")
    assert (outcome.code, outcome.err) == (0, "")

    outcome = xpsr(*flags, "--base", base, "-o", tmp_path / "third", "--set", "loss.prediction=v")
    assert outcome.code == ExitCode.WEIGHTS
    assert "predicts epsilon" in outcome.err
    outcome = xpsr(*flags, "--init-from", model, "-o", tmp_path / "fourth", "--set", "model.fusion=low")
    assert outcome.code == ExitCode.WEIGHTS
    assert "parallel" in outcome.err


def test_a_published_folder_is_trained_further_with_the_base_it_stands_on(xpsr, photos, tmp_path):
    base = save_stable_diffusion(tmp_path / "sd")
    first = from_stable_diffusion(base, StableDiffusionRecipe("any", "parallel", PYRAMID), "first", seed=0)
    save_unet(first.unet, tmp_path / "xpsr" / "unet")
    save_controlnet(first.controlnet, tmp_path / "xpsr" / "controlnet")
    flags = [
        "train",
        "--config",
        "finetune",
        "--init-from",
        tmp_path / "xpsr",
        "--data",
        photos,
        "-o",
        tmp_path / "run",
    ]
    advice = [
        "loss.prediction=epsilon", "loss.pixel_weight=0", "loss.latent_weight=1", "loss.last_timestep_probability=0",
        "data.crop_px=64", "data.batch_size=1", "data.held_out_photos=1", "optimizer.steps=1",
        "output.validate_steps=0",
    ]  # fmt: skip
    assert xpsr(*flags, *sets(advice)).code == ExitCode.WEIGHTS  # the registry's base is not installed
    outcome = xpsr(*flags, *sets(advice), "--base", base, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    trained = load_components(tmp_path / "run" / "model")
    before = first.unet.down_blocks[0].resnets[0].conv1.weight
    assert torch.equal(trained.unet.down_blocks[0].resnets[0].conv1.weight, before.half().float())  # frozen
    assert trained.preset.steps == 20


def test_xpsr_is_trained_on_a_base_that_predicts_v_and_reads_wider_text(xpsr, photos, tmp_path):
    base = save_stable_diffusion(
        tmp_path / "sd21", prediction="v_prediction", text_width=20, cross_attention_dim=20, **SD21
    )
    flags = ["train", "--config", "xpsr-sd21", "--data", photos, *sets(SD), "--quiet"]
    outcome = xpsr(*flags, "--base", base, "-o", tmp_path / "run")
    assert (outcome.code, outcome.err) == (0, "")
    model = load_components(tmp_path / "run" / "model")
    assert model.scheduler_config["prediction_type"] == "v_prediction"
    assert model.unet.config.use_linear_projection


def test_two_processes_train_one_model_and_one_of_them_speaks(photos, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    changes = "output.validate_steps=0", "output.save_steps=0"
    arguments = [*tiny(photos, tmp_path / "run", *changes), "--device", "cpu"]
    command = [sys.executable, "-m", "xpsr_cli", *map(str, arguments)]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (out, err), silent = (process.communicate(timeout=300) for process in started)
    assert [process.returncode for process in started] == [0, 0], (err, silent)
    assert out == f"{tmp_path / 'run' / 'model'}\n"
    assert "diffusion 4/4" in err
    assert silent == ("", "")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "losses" in row] == [2, 2, 4]


def test_a_preview_shows_pairs_and_trains_nothing(xpsr, photos, tmp_path):
    sheet = tmp_path / "sheets" / "pairs.png"
    outcome = xpsr("train", "--config", "xpsr-mini", "--data", photos, *sets(TINY_MINI), "--preview", 6, sheet)
    assert (outcome.code, outcome.out) == (0, f"{sheet}\n")
    assert Image.open(sheet).width > 6 * 64
    assert [path.name for path in sheet.parent.iterdir()] == ["pairs.png"]
    again = tmp_path / "again.png"
    assert xpsr("train", "--config", "xpsr-mini", "--data", photos, *sets(TINY_MINI), "--preview", 6, again).code == 0
    assert again.read_bytes() == sheet.read_bytes()


def test_several_folders_are_one_set_of_photos(xpsr, photos, tmp_path):
    save_photos(tmp_path / "more", count=2)
    for photo in (tmp_path / "more").iterdir():
        photo.rename(photo.with_name(f"more-{photo.name}"))
    outcome = xpsr(*tiny(photos, tmp_path / "run"), "--data", tmp_path / "more")
    assert outcome.code == 0
    assert "5 to train on, 1 held out" in (tmp_path / "run" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config", "nothing"], ["'nothing'"]),
        (["--config", "xpsr-mini", "--set", "data.nothing=3"], ["nothing"]),
        (["--config", "xpsr-mini", "--set", "data.batch_size=many"], ["batch_size", "many"]),
        (["--config", "xpsr-mini", "--set", "data.degradations={heavy = 1.0}"], ["heavy"]),
        (["--config", "xpsr-mini", "--captions", "texts.jsonl"], ["texts.jsonl", "words"]),
        (["--config", "xpsr-mini", "--preview", "0", "sheet.png"], ["0 pairs"]),
        (["--config", "xpsr-mini", "--device", "abacus"], ["abacus"]),
        (["--config", "xpsr-mini", "--minutes", "nan"], ["nan"]),
    ],
)
def test_a_wrong_request_is_refused(xpsr, photos, tmp_path, flags, words):
    outcome = xpsr("train", "--data", photos, "-o", tmp_path / "run", *sets(TINY_MINI[:4]), *flags)
    assert outcome.code == ExitCode.USAGE
    for word in words:
        assert word in outcome.err.splitlines()[0]
    assert not (tmp_path / "run").exists()


def test_without_an_output_nothing_is_trained(xpsr, photos):
    outcome = xpsr("train", "--config", "xpsr-mini", "--data", photos)
    assert outcome.code == ExitCode.USAGE
    assert "--output" in outcome.err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--config", "finetune", "--init-from", "nowhere", *sets(TINY_MINI[:1])], ExitCode.WEIGHTS, ["nowhere"]),
        (
            ["--config", "xpsr-mini", "--init-from", "{tiny}", *sets(TINY_MINI[:4])],
            ExitCode.WEIGHTS,
            ["does not fit the recipe"],
        ),
        (["--config", "xpsr-sd15", "--base", "{photos}", *sets(SD)], ExitCode.WEIGHTS, ["unet/", "--base"]),
        (["--config", "xpsr-sd21", *sets(SD)], ExitCode.WEIGHTS, ["stable-diffusion-2-1", "--base"]),
        (["--config", "xpsr-mini", "--data", "{empty}"], ExitCode.PHOTO, ["empty"]),
        (["--config", "xpsr-mini", "--set", "data.crop_px=512"], ExitCode.USAGE, ["512 pixels"]),
    ],
)
def test_what_cannot_be_trained_is_named_with_its_code(xpsr, photos, tiny_model, tmp_path, flags, code, words):
    (tmp_path / "empty").mkdir()
    places = {"tiny": tiny_model, "photos": photos, "empty": tmp_path / "empty"}
    flags = [flag.format(**places) if flag.startswith("{") else flag for flag in flags]
    flags = flags if "--data" in flags else [*flags, "--data", photos]
    outcome = xpsr("train", "-o", tmp_path / "run", "--set", "data.held_out_photos=1", *flags)
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.err
    assert outcome.err.count("error:") == 1
    assert not (tmp_path / "run" / "model").exists()


def test_of_several_processes_one_speaks(xpsr, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    outcome = xpsr("train", "--config", "nothing", "--data", photos, "-o", tmp_path / "run")
    assert (outcome.code, outcome.out, outcome.err) == (ExitCode.USAGE, "", "")
    assert logging.getLogger("xpsr_cli").level == logging.NOTSET


def test_the_help_names_every_recipe_that_ships(xpsr):
    outcome = xpsr("train", "--help")
    words = re.split("[,:]", "".join(outcome.out.split()))  # lines break within names, too
    assert [name for name in complete_recipe("") if name not in words] == []


def test_recipes_are_completed():
    assert complete_recipe("xpsr-mini") == ["xpsr-mini", "xpsr-mini-cassr", "xpsr-mini-scedit", "xpsr-mini-smoke"]
    assert complete_recipe("fine") == ["finetune"]


def test_a_bar_is_for_terminals_and_shows_losses(monkeypatch, capsys):
    with training_bar(wanted=True) as show:
        assert show is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with training_bar(wanted=False) as show:
        assert show is None
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with training_bar(wanted=True) as show:
        show("diffusion", 10, 40, "")
        show("diffusion", 20, 40, "total 1.25, learning rate 0.001")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "20/40" in captured.err
    assert "total 1.25" in captured.err


def test_captions_come_from_the_store_or_from_a_file(xpsr, photos, tmp_path):
    store = [*sets([*TINY_MINI, "data.captions=store", "data.high_dropout=0"])]
    flags = ["train", "--config", "xpsr-mini", "--data", photos, *store, "--preview", 4, tmp_path / "sheet.png"]
    outcome = xpsr(*flags)
    assert outcome.code == ExitCode.USAGE
    assert "xpsr caption" in outcome.err
    assert xpsr("caption", photos, "--model", "measured", "--export", tmp_path / "words.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "words.jsonl").read_text().splitlines()]
    outcome = xpsr(*flags, "--captions", tmp_path / "words.jsonl")
    assert outcome.code == ExitCode.USAGE  # measured captions say nothing of the content
    assert "words.jsonl" in outcome.err
    for row in rows:
        row["high"] = "a lighthouse"
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = xpsr(*flags, "--captions", tmp_path / "words.jsonl")
    assert (outcome.code, outcome.err) == (0, "")
