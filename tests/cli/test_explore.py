"""``xpsr explore``: what it leaves in the folder, what it says, and that finished answers are kept."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic_priors import GaussianPrior, ShapesPrior
from PIL import Image
from tiny_cascade import save_tiny_cascade
from tiny_priors import save_deepfloyd, save_prior_folder, save_unclip

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.diversity import measure
from xpsr_cli.exploring.operators import Operator
from xpsr_cli.exploring.options import ResizeFilter
from xpsr_cli.photos.provenance import read_provenance

SIDE, SMALL, SCALE = 64, 16, 4
WORDS = ("--prompt", "disc", "--prompt", "cross")


class SmallShapes(ShapesPrior):
    """The mixture of shapes, which knows no other words and says what it cannot make."""

    drawn = 0

    def __init__(self):
        super().__init__(count=100, side=SIDE, steps=5)

    def stages(self, small, large):
        if large != self.size:
            raise UsageError(
                f"{self.name} makes {SIDE} x {SIDE} pixels, not {large[1]} x {large[0]}.", "Change --scale."
            )
        return [self]

    def predictor(self, request, given_pm1, before_pm1):
        SmallShapes.drawn += 1
        known = request.prompt if request.prompt in self.vocabulary else ""
        return super().predictor(replace(request, prompt=known), given_pm1, before_pm1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a tiny picture in it, and the mixture of shapes as every prior."""
    monkeypatch.chdir(tmp_path)
    shapes = SmallShapes()
    monkeypatch.setattr("xpsr_cli.cli.explore_run.load_prior", lambda name, placement: shapes)
    monkeypatch.setattr(SmallShapes, "drawn", 0)
    given = (shapes.pictures[0].reshape(3, SIDE, SIDE) * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)
    small = Operator((SIDE, SIDE), (SMALL, SMALL), ResizeFilter.BICUBIC)(given.float()).clamp(0, 255).round()
    Image.fromarray(small.permute(1, 2, 0).numpy().astype(np.uint8)).save("tiny.png")
    return tmp_path


def explore(xpsr, *arguments, scale=SCALE):
    return xpsr("explore", "tiny.png", "--scale", scale, "-o", "out", *arguments)


def pictures(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("prompt*.png"))}


def reduced(path, small=(SMALL, SMALL), kind=Image.Resampling.BICUBIC):
    """What Pillow makes of a file, channel by channel in floats."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)
    channels = [Image.fromarray(pixels[..., c]).resize((small[1], small[0]), kind) for c in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], -1) / 255


def agreement(path, given="tiny.png", **how):
    small = np.asarray(Image.open(given).convert("RGB"), np.float64) / 255
    return -10 * np.log10(np.mean((reduced(path, small.shape[:2], **how) - small) ** 2) + 1e-12)


def test_rows_of_prompts_and_columns_of_seeds(xpsr, here):
    code, out, err = explore(xpsr, *WORDS, "--samples", 3, "--seed", 5)
    assert code == 0, err
    names = [f"prompt{n}-seed{s}.png" for n in (1, 2) for s in (5, 6, 7)]
    assert out.splitlines() == [*(os.path.join("out", name) for name in names), os.path.join("out", "sheet.png")]
    assert sorted(p.name for p in (here / "out").iterdir()) == sorted([*names, "sheet.png", "explore.json"])
    assert "dB to the picture" in err
    for name in names:
        assert Image.open(here / "out" / name).size == (SIDE, SIDE)
        assert agreement(here / "out" / name) >= 50
    record = json.loads((here / "out" / "explore.json").read_text())
    assert record["input"]["width"] == SMALL
    assert record["output"] == {"width": SIDE, "height": SIDE, "scale": SCALE}
    assert [row["prompt"] for row in record["prompts"]] == ["disc", "cross"]
    for row in record["prompts"]:
        assert [sample["seed"] for sample in row["samples"]] == [5, 6, 7]
        assert row["unknown_words"] == []
        assert 0 < row["diversity"]["std"] < 0.5
        assert row["diversity"]["distance"] > 0
        for sample in row["samples"]:
            saved = agreement(here / "out" / sample["file"])
            assert sample["final_db"] == pytest.approx(saved, abs=1)
            assert sample["raw_db"] is not None
            assert sample["repair_rms"] < 0.1
    assert record["summary"]["samples"] == 6
    assert record["summary"]["lowest_final_db"] >= 50
    assert {sample["text_score"] for row in record["prompts"] for sample in row["samples"]} == {None}  # nobody judges


def test_answers_say_what_made_them(xpsr, here):
    explore(xpsr, "--prompt", "disc", "--samples", 1, "--guidance-scale", 2, "--negative-prompt", "ring")
    manifest = read_provenance(here / "out" / "prompt1-seed0.png")
    assert manifest["command"] == "explore"
    assert manifest["model"] == "analytic"
    assert manifest["input"]["name"] == "tiny.png"
    assert manifest["seed"] == 0
    asked = {"prompt": "disc", "negative_prompt": "ring", "guidance_scale": 2, "method": "ddnm", "width": SIDE}
    assert {name: manifest["settings"][name] for name in asked} == asked
    record = json.loads((here / "out" / "explore.json").read_text())
    assert manifest["results"]["raw_db"] == record["prompts"][0]["samples"][0]["raw_db"]
    code, out, _ = xpsr("replay", "out/prompt1-seed0.png")
    assert code == 0
    assert "disc" in out


def test_a_seed_gives_the_same_bytes_whatever_stands_beside_it(xpsr, here):
    explore(xpsr, *WORDS, "--samples", 3)
    many = pictures(here / "out")
    code, _, _ = xpsr(
        "explore", "tiny.png", "--prompt", "cross", "--samples", 1, "--seed", 2, "--scale", SCALE, "-o", "one"
    )
    assert code == 0
    assert (here / "one" / "prompt1-seed2.png").read_bytes() == many["prompt2-seed2.png"]


def test_the_same_command_draws_nothing_anew_and_a_longer_one_the_rest(xpsr, here):
    explore(xpsr, "--prompt", "disc", "--samples", 2)
    before, sheet = pictures(here / "out"), (here / "out" / "sheet.png").read_bytes()
    record = (here / "out" / "explore.json").read_bytes()
    assert SmallShapes.drawn == 2
    code, out, _ = explore(xpsr, "--prompt", "disc", "--samples", 2, "--json")
    assert code == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["done before", "done before", "done"]
    assert SmallShapes.drawn == 2
    assert (here / "out" / "sheet.png").read_bytes() == sheet
    assert (here / "out" / "explore.json").read_bytes() == record
    assert explore(xpsr, *WORDS, "--samples", 3).code == 0
    assert SmallShapes.drawn == 6
    assert pictures(here / "out").items() >= before.items()


def test_what_was_finished_before_ctrl_c_is_kept(xpsr, here, monkeypatch):
    explore(xpsr, *WORDS, "--samples", 2, "--quiet")
    whole = {path.name: path.read_bytes() for path in (here / "out").iterdir()}
    for path in (here / "out").iterdir():
        path.unlink()
    estimate, calls = SmallShapes.estimate, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) > 2 * 2 * 5 + 3:  # two answers, guided, of five steps, and a part of the third
            raise KeyboardInterrupt
        return estimate(self, *arguments)

    monkeypatch.setattr(SmallShapes, "estimate", interrupted)
    code, out, err = explore(xpsr, *WORDS, "--samples", 2)
    assert code == 130
    assert len(out.splitlines()) == 2
    assert "2 of 4 answers are finished; the same command goes on." in err
    assert sorted(path.name for path in (here / "out").iterdir()) == ["prompt1-seed0.png", "prompt1-seed1.png"]
    monkeypatch.setattr(SmallShapes, "estimate", estimate)
    monkeypatch.setattr(SmallShapes, "drawn", 0)
    assert explore(xpsr, *WORDS, "--samples", 2).code == 0
    assert SmallShapes.drawn == 2
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == whole


@pytest.mark.parametrize("other", [("--prompt", "ring"), ("--prompt", "disc", "--steps", 7)])
def test_answers_of_other_work_are_in_the_way(xpsr, here, other):
    explore(xpsr, "--prompt", "disc", "--samples", 1)
    before = pictures(here / "out")
    code, out, err = explore(xpsr, *other, "--samples", 1)
    assert (code, out) == (2, "")
    assert "prompt1-seed0.png exists, and this command would make it in another way." in err
    assert pictures(here / "out") == before
    assert explore(xpsr, *other, "--samples", 1, "--overwrite").code == 0
    assert pictures(here / "out") != before


def test_a_damaged_answer_is_drawn_again_when_asked(xpsr, here):
    explore(xpsr, "--prompt", "disc", "--samples", 1)
    file = here / "out" / "prompt1-seed0.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert explore(xpsr, "--prompt", "disc", "--samples", 1).code == 2
    assert explore(xpsr, "--prompt", "disc", "--samples", 1, "--overwrite").code == 0
    assert file.read_bytes() == whole


def test_prompts_come_from_a_file_too(xpsr, here):
    (here / "words.txt").write_text("\ufeffcross\n\n  ring \ncross\n", encoding="utf-8")
    assert explore(xpsr, "--prompt", "disc", "--prompts", "words.txt", "--samples", 1).code == 0
    record = json.loads((here / "out" / "explore.json").read_text())
    assert [row["prompt"] for row in record["prompts"]] == ["disc", "cross", "ring"]


def test_words_the_prior_does_not_know_are_said_and_not_refused(xpsr, here):
    code, _, err = explore(xpsr, "--prompt", "a zebra on a disc", "--negative-prompt", "mud", "--samples", 1)
    assert code == 0
    assert "analytic was not trained on: zebra, mud. It knows: disc, square, cross, ring." in err
    record = json.loads((here / "out" / "explore.json").read_text())
    assert record["prompts"][0]["unknown_words"] == ["zebra"]


def test_no_words_are_fine(xpsr, here):
    code, _, err = explore(xpsr, "--samples", 1)
    assert code == 0
    assert "was not trained on" not in err


def test_diverse_answers_are_the_same_seeds_of_every_row_and_differ_more(xpsr, here):
    code, out, _ = explore(xpsr, *WORDS, "--samples", 2, "--diverse")
    assert code == 0
    assert SmallShapes.drawn == 16
    kept = sorted(pictures(here / "out"))
    assert [os.path.basename(line) for line in out.splitlines()] == [*kept, "sheet.png"]
    seeds = [{name.split("seed")[1] for name in kept if name.startswith(f"prompt{n}")} for n in (1, 2)]
    assert seeds[0] == seeds[1]
    assert len(seeds[0]) == 2
    assert len(pictures(here / "out" / "drawn")) == 12
    record = json.loads((here / "out" / "explore.json").read_text())
    chosen = np.mean([row["diversity"]["distance"] for row in record["prompts"]])
    files = [*(here / "out").rglob("prompt1*.png")], [*(here / "out").rglob("prompt2*.png")]
    every = np.mean([measure([np.asarray(Image.open(file)) for file in row], SMALL).distance for row in files])
    assert chosen > every
    drawn, before = SmallShapes.drawn, pictures(here / "out")
    assert explore(xpsr, *WORDS, "--samples", 2, "--diverse").code == 0  # and nothing is drawn again
    assert SmallShapes.drawn == drawn
    assert pictures(here / "out") == before


def test_an_answer_is_walked_on_from(xpsr, here, monkeypatch):
    prior = GaussianPrior((SIDE, SIDE), steps=10)
    monkeypatch.setattr("xpsr_cli.cli.explore_run.load_prior", lambda name, placement: prior)
    explore(xpsr, "--prompt", "disc", "--samples", 1)
    pick = here / "out" / "prompt1-seed0.png"
    pixels = np.asarray(Image.open(pick), np.float64)

    def distance(folder, *arguments):
        outcome = xpsr(
            "explore", "tiny.png", "--prompt", "disc", "--seed", 9, "--samples", 1, "-o", folder, *arguments
        )
        assert outcome.code == 0, outcome.err
        assert agreement(here / folder / "prompt1-seed9.png") >= 50
        return np.abs(np.asarray(Image.open(here / folder / "prompt1-seed9.png"), np.float64) - pixels).mean()

    near = distance("near", "--refine", pick, "--strength", 0.1)
    anew = distance("anew", "--scale", SCALE)
    assert near < anew / 2
    manifest = read_provenance(here / "near" / "prompt1-seed9.png")
    assert manifest["settings"]["refine"]["name"] == "prompt1-seed0.png"
    assert manifest["settings"]["refine"]["strength"] == 0.1


def test_the_page_holds_every_answer(xpsr, here):
    code, out, _ = explore(xpsr, *WORDS, "--samples", 2, "--html")
    assert code == 0
    assert out.splitlines()[-1] == os.path.join("out", "gallery.html")
    text = (here / "out" / "gallery.html").read_text(encoding="utf-8")
    assert text.count('class="card answer"') == 4
    assert text.count('class="xpsr-pane"') == 5
    assert "http://" not in text
    assert "https://" not in text


def test_a_picture_that_nothing_is_reduced_to_is_told_of(xpsr, here):
    said = "sharper than bicubic reduction makes one"
    assert said not in explore(xpsr, "--samples", 1).err
    board = np.indices((SMALL, SMALL)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).convert("RGB").save("tiny.png")
    assert said in explore(xpsr, "--samples", 1, "--overwrite").err


def test_a_single_answer_differs_from_no_other(xpsr, here):
    assert "answers differ by" not in explore(xpsr, *WORDS, "--samples", 1).err
    assert explore(xpsr, *WORDS, "--samples", 2).err.count("answers differ by") == 2


def test_json_has_a_line_for_each_answer_and_one_for_all(xpsr, here):
    _, out, _ = explore(xpsr, "--prompt", "disc", "--samples", 2, "--json", "--quiet")
    first, second, last = map(json.loads, out.splitlines())
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["status"] == "done"
    assert first["output"] == os.path.join("out", "prompt1-seed0.png")
    assert first["final_db"] >= 50
    assert last["summary"]["samples"] == 2
    assert last["record"] == os.path.join("out", "explore.json")


def test_quiet_is_quiet(xpsr, here):
    assert explore(xpsr, "--prompt", "zebra", "--samples", 1, "--quiet") == (0, "", "")


@pytest.mark.parametrize("operator", list(ResizeFilter))
def test_every_operator_is_what_pillow_does(xpsr, here, operator):
    assert explore(xpsr, "--operator", operator.value, "--samples", 1).code == 0
    kind = {"area": "BOX"}.get(operator.value, operator.value.upper())
    assert agreement(here / "out" / "prompt1-seed0.png", kind=Image.Resampling[kind]) >= 50


@pytest.mark.parametrize("method", ["ddnm", "ddnm+", "pigdm", "dps"])
def test_every_method_ends_in_agreement(xpsr, here, method):
    code, _, err = explore(xpsr, "--method", method, "--samples", 1)
    assert code == 0, err
    assert agreement(here / "out" / "prompt1-seed0.png") >= 50


def test_sizes_need_not_divide(xpsr, here):
    values = np.random.default_rng(0).integers(60, 190, (17, 21, 3), dtype=np.uint8)
    Image.fromarray(values[:, :17]).save("tiny.png")
    assert explore(xpsr, "--samples", 1, scale=3.77).code == 0
    assert Image.open(here / "out" / "prompt1-seed0.png").size == (64, 64)
    assert agreement(here / "out" / "prompt1-seed0.png") >= 50
    Image.fromarray(values).save("tiny.png")
    code, _, err = explore(xpsr, "--samples", 1, scale=3.05)
    assert (code, "analytic makes 64 x 64 pixels, not 64 x 52." in err) == (2, True)


def test_a_picture_of_two_pixels_has_answers_too(xpsr, here):
    Image.fromarray(np.random.default_rng(0).integers(60, 190, (2, 2, 3), dtype=np.uint8)).save("tiny.png")
    assert explore(xpsr, "--samples", 3, scale=32).code == 0
    assert agreement(here / "out" / "prompt1-seed0.png") >= 50
    record = json.loads((here / "out" / "explore.json").read_text())
    assert record["prompts"][0]["diversity"]["std"] > 0.05


def test_transparency_is_enlarged_apart_from_the_colours(xpsr, here):
    tiny = Image.open("tiny.png").convert("RGBA")
    seen = np.full((SMALL, SMALL), 255, np.uint8)
    seen[:4, :4] = 0
    tiny.putalpha(Image.fromarray(seen))
    tiny.save("tiny.png")
    code, _, err = explore(xpsr, "--samples", 1)
    assert code == 0
    assert "the picture is transparent in places" in err
    made = Image.open(here / "out" / "prompt1-seed0.png")
    assert made.mode == "RGBA"
    alpha = np.asarray(made)[..., 3]
    assert alpha[0, 0] == 0
    assert alpha[-1, -1] == 255
    assert explore(xpsr, "--samples", 1, "--json").out.count("done before") == 1
    tiny.putalpha(255)
    tiny.save("opaque.png")
    code, _, err = xpsr("explore", "opaque.png", "--scale", SCALE, "--samples", 1, "-o", "opaque")
    assert (code, "transparent" in err) == (0, False)
    assert Image.open(here / "opaque" / "prompt1-seed0.png").mode == "RGB"


def test_sixteen_bits_are_told_of(xpsr, here):
    import tifffile

    values = np.random.default_rng(0).integers(20000, 45000, (SMALL, SMALL, 3), dtype=np.uint16)
    tifffile.imwrite("deep.tif", values, photometric="rgb")
    code, _, err = xpsr("explore", "deep.tif", "--scale", SCALE, "--samples", 1, "-o", "out")
    assert code == 0
    assert "the picture has 16-bit channels: it counts in full, but answers have 8 bits" in err
    error = reduced(here / "out" / "prompt1-seed0.png") - values / 65535
    assert -10 * np.log10(np.mean(error**2)) >= 50


def test_a_grey_picture_is_told_of(xpsr, here):
    Image.open("tiny.png").convert("L").save("tiny.png")
    code, _, err = explore(xpsr, "--samples", 1)
    assert (code, "the picture is grey" in err) == (0, True)
    assert Image.open(here / "out" / "prompt1-seed0.png").mode == "RGB"
    assert agreement(here / "out" / "prompt1-seed0.png") >= 50


def test_the_colour_profile_and_other_metadata_go_along(xpsr, here):
    from PIL import ImageCms, PngImagePlugin

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    words = PngImagePlugin.PngInfo()
    words.add_text("Title", "a shape")
    Image.open("tiny.png").save("tiny.png", icc_profile=profile, pnginfo=words)
    assert explore(xpsr, "--samples", 1).code == 0
    made = Image.open(here / "out" / "prompt1-seed0.png")
    assert made.info["icc_profile"] == profile
    assert made.info["Title"] == "a shape"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["tiny.png", "--scale", "1"], 2, "scale is 1, allowed is 2 to 32. A smaller enlargement leaves nothing open"),
        (["tiny.png", "--scale", "33"], 2, "scale is 33, allowed is 2 to 32."),
        (["tiny.png", "--scale", "nan"], 2, "scale is nan"),
        (["tiny.png", "--scale", "32"], 2, "analytic makes 64 x 64 pixels, not 512 x 512."),
        (["tiny.png", "--samples", "0"], 2, "samples is 0"),
        (["tiny.png", "--seed", "-1"], 2, "seed is -1"),
        (["tiny.png", "--seed", str(10**30)], 2, f"seed is {10**30}, allowed is 0 to {2**63 - 5}."),
        (["tiny.png", "--guidance-scale", "inf"], 2, "guidance-scale is inf"),
        (["tiny.png", "--steps", "0"], 2, "steps is 0"),
        (["tiny.png", "--noise", "2"], 2, "noise is 2.0"),
        (["tiny.png", "--image-weight", "1.5"], 2, "image-weight is 1.5"),
        (["tiny.png", "--text-guidance", "1"], 2, "text-guidance pulls towards words, and there are none."),
        (["tiny.png", "--travel", "often"], 2, "travel is 'often'"),
        (["tiny.png", "--strength", "0.3"], 2, "strength is 0.3, but there is no --refine."),
        (["tiny.png", "--prompts", "gone.txt"], 2, "The prompts in gone.txt cannot be read"),
        (["tiny.png", "--prompts", "empty.txt"], 2, "There is no prompt in empty.txt."),
        (["tiny.png", "--prompts", "latin.txt"], 2, "latin.txt is no text in UTF-8."),
        (["gone.png"], 3, "gone.png does not exist"),
        (["words.png"], 3, "words.png is not a photo"),
        (["."], 3, ". is a folder"),
        (["tiny.png", "--refine", "gone.png"], 3, "gone.png does not exist"),
        (["tiny.png", "--refine", "tiny.png"], 2, "which is not 16 x 16 of tiny.png enlarged 2 to 32 times."),
        (
            ["tiny.png", "--refine", "tiny.png", "--scale", str(SCALE)],
            2,
            "tiny.png has 16 x 16 pixels, and answers at a scale",
        ),
        (["tiny.png", "--scale", str(SCALE), "-o", "words.png"], 2, "words.png is a file"),
        (["tiny.png", "--scale", str(SCALE), "-o", "busy"], 2, "sheet.png exists, and no exploration has left it."),
        (["tiny.png", "--scale", str(SCALE), "--device", "abacus"], 2, "device is 'abacus'"),
    ],
)
def test_bad_input_is_one_sentence_and_a_code(xpsr, here, arguments, code, words):
    (here / "words.png").write_bytes(b"words")
    (here / "empty.txt").write_text("\n \n")
    (here / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    (here / "busy").mkdir()
    (here / "busy" / "sheet.png").write_bytes(b"mine")
    before = sorted(here.rglob("*"))
    outcome = xpsr("explore", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("prior", "words"),
    [("nobody/nothing", "'nobody/nothing' is neither a folder nor a model"), ("here", "here is not a model")],
)
def test_a_prior_that_is_not_there(xpsr, tmp_path, monkeypatch, prior, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    Image.new("RGB", (SMALL, SMALL)).save("tiny.png")
    code, out, err = xpsr("explore", "tiny.png", "--prior", prior)
    assert (code, out) == (4, "")
    assert words in err
    assert not (tmp_path / "xpsr-explore").exists()


def _cascade(folder):
    return str(save_tiny_cascade(folder / "cascade"))


def _deepfloyd(folder):
    return ",".join(str(part) for part in save_deepfloyd(folder, sides=(32, 64)))


def _unclip(folder):
    return str(save_unclip(folder, sides=(32, 64))[0])


def _stable_diffusion(folder):
    return str(save_prior_folder(folder / "sd"))


@pytest.mark.parametrize("save", [_cascade, _deepfloyd, _unclip, _stable_diffusion])
def test_networks_of_every_kind_go_through_the_whole_command(xpsr, tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    prior = save(tmp_path)
    values = np.random.default_rng(0).integers(70, 180, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save("tiny.png")
    wanted = ["--prior", prior, "--samples", 2, "--steps", 4, "--prompt", "water", "--precision", "fp32"]
    code, _, err = explore(xpsr, *wanted, "--prompt", "a photo of a cat", "--html")
    assert code == 0, err
    made = pictures(tmp_path / "out")
    assert len(made) == 4
    assert made["prompt1-seed0.png"] != made["prompt1-seed1.png"]
    for name in made:
        assert agreement(tmp_path / "out" / name) >= 50
    before = (tmp_path / "out" / "explore.json").read_bytes()
    again = explore(xpsr, *wanted, "--prompt", "a photo of a cat", "--html", "--json")
    assert again.out.count("done before") == 4
    assert (tmp_path / "out" / "explore.json").read_bytes() == before


def test_a_prompt_that_is_cut_is_said(xpsr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16), (90, 120, 150)).save("tiny.png")
    code, _, err = explore(
        xpsr, "--prior", _deepfloyd(tmp_path), "--samples", 1, "--steps", 1, "--prompt", "cat " * 100, scale=2
    )
    assert code == 0
    assert "The prompt is longer than 77 tokens: its end is cut off." in err


def test_the_words_of_a_trained_cascade_are_its_vocabulary(xpsr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16), (90, 120, 150)).save("tiny.png")
    prior = _cascade(tmp_path)
    code, _, err = explore(
        xpsr, "--prior", prior, "--samples", 1, "--steps", 2, "--prompt", "a zebra by the water", scale=2
    )
    assert code == 0
    assert "tiny was not trained on: zebra. It knows: water, sky." in err


def test_answers_are_judged_by_a_network_that_did_not_steer_them(xpsr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(90, 160, (16, 16, 3), np.uint8)).save("tiny.png")
    words = ("--prior", _cascade(tmp_path), "--samples", 2, "--steps", 4, "--prompt", "water", "--prompt", "sky")
    assert explore(xpsr, *words, scale=2).code == 0
    plain, record = pictures(tmp_path / "out"), json.loads((tmp_path / "out" / "explore.json").read_text())
    judged = [sample for row in record["prompts"] for sample in row["samples"]]
    assert all(-1 <= sample["text_score"] <= 1 for sample in judged)
    assert record["prior"]["judge"] == "tiny/judge"
    assert record["summary"]["obeying"] == sum(sample["obeys"] for sample in judged) / 4
    code, _, err = explore(xpsr, *words, "--text-guidance", 2, "--overwrite", scale=2)
    assert code == 0
    assert "fit these words best" in err
    steered = pictures(tmp_path / "out")
    assert not any(steered[name] == plain[name] for name in plain)
    assert all(agreement(tmp_path / "out" / name) >= 50 for name in steered)


def test_a_prior_without_a_scorer_cannot_be_steered_by_one(xpsr, here):
    code, _, err = explore(xpsr, *WORDS, "--text-guidance", 1)
    assert code == 2
    assert "no text-image score to steer with" in err


def test_the_picture_is_never_replaced(xpsr, here):
    (here / "out").mkdir()
    (here / "tiny.png").rename(here / "out" / "prompt1-seed0.png")
    before = (here / "out" / "prompt1-seed0.png").read_bytes()
    code, _, err = xpsr("explore", "out/prompt1-seed0.png", "--scale", SCALE, "-o", "out", "--overwrite")
    assert code == 2
    assert "would be replaced while it is read" in err
    assert (here / "out" / "prompt1-seed0.png").read_bytes() == before


def test_a_folder_in_a_file_is_refused_before_anything_is_loaded(xpsr, here, monkeypatch):
    monkeypatch.setattr("xpsr_cli.cli.explore_run.load_prior", None)
    (here / "note").write_text("kept")
    code, _, err = xpsr("explore", "tiny.png", "--scale", SCALE, "-o", "note/answers")
    assert code == 2
    assert "note is a file, and answers need a folder." in err
    assert (here / "note").read_text() == "kept"


def test_an_answer_is_not_replayed_but_says_how_to_draw_it_again(xpsr, here):
    explore(xpsr, "--samples", 1)
    code, _, err = xpsr("replay", "out/prompt1-seed0.png", "--run")
    assert code == 2
    assert "is an answer of xpsr explore" in err


def test_the_folder_has_the_name_of_the_picture(xpsr, here):
    code, out, _ = xpsr("explore", "tiny.png", "--scale", SCALE, "--samples", 1)
    assert code == 0
    assert out.splitlines()[0] == os.path.join("xpsr-explore", "tiny", "prompt1-seed0.png")


def test_infinite_agreement_is_no_trouble(xpsr, here, monkeypatch):
    """A plain picture whose answers are plain: not the least difference is left, and JSON has no word for that."""
    prior = GaussianPrior((SIDE, SIDE), spread=1e-6, steps=3)
    monkeypatch.setattr("xpsr_cli.cli.explore_run.load_prior", lambda name, placement: prior)
    Image.new("RGB", (SMALL, SMALL), (255, 255, 255)).save("tiny.png")
    assert explore(xpsr, "--operator", "area", "--samples", 1, "--html").code == 0
    record = json.loads((here / "out" / "explore.json").read_text())
    assert record["summary"]["lowest_final_db"] is None
    assert explore(xpsr, "--operator", "area", "--samples", 1, "--json").out.count("done before") == 1


def test_nothing_heavy_is_imported_for_the_help():
    program = (
        "import sys, typer; from xpsr_cli.cli.explore import explore; app = typer.Typer(); app.command()(explore)\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'rich'} & set(sys.modules)\n"
        "sys.stderr.write(' '.join(sorted(heavy)))"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "--diverse" in made.stdout
    assert not {"torch", "diffusers", "transformers", "numpy", "PIL"} & set(made.stderr.split()), made.stderr
