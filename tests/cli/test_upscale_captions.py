"""Where the prompts of ``xpsr upscale`` come from: measured, a multimodal model, a sidecar, a file, or the flags."""

from __future__ import annotations

import json

import numpy as np
import pytest
from chat_server import ChatServer
from PIL import Image
from tiny_llava import build_tiny_llava

from xpsr_cli.captioning import mllm
from xpsr_cli.cli import one_photo

FAST = ("--scale", 2, "--steps", 1)


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    return build_tiny_llava(tmp_path_factory.mktemp("llava") / "tiny-llava")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def upscale(xpsr, tiny_model, photo, tmp_path):
    """``upscale(...)`` enlarges the photo to out.png; gives the outcome and the JSON record."""

    def call(*arguments, name="out.png"):
        made = xpsr("upscale", photo, "-o", tmp_path / name, "--model", tiny_model, *FAST, "--json", *arguments)
        return made, json.loads(made.out) if made.out else {}

    return call


def sidecar(photo, **texts):
    photo.with_suffix(".caption.json").write_text(json.dumps(texts), encoding="utf-8")


def test_photos_are_measured_unless_told_otherwise(upscale, xpsr, tmp_path):
    made, record = upscale()
    assert made.code == 0, made.err
    assert record["captioner"] == "measured"
    assert "noise" in record["settings"]["low_prompt"]
    assert record["settings"]["prompt"] == ""
    assert f"measured: {record['settings']['low_prompt']}\n" in made.err
    told = xpsr("replay", tmp_path / "out.png").out
    assert record["settings"]["low_prompt"] in told
    assert "captioner" in told


def test_the_same_command_again_is_done_before(upscale):
    upscale()
    again, record = upscale()
    assert (again.code, record["status"]) == (0, "done before")
    other, _ = upscale("--captions", "none")
    assert other.code == 2
    assert "captioner was" in other.err


def test_without_captions_the_prompts_are_empty(upscale):
    _, record = upscale("--captions", "none")
    assert (record["captioner"], record["settings"]["prompt"], record["settings"]["low_prompt"]) == ("none", "", "")
    assert "measured" not in json.dumps(record)


def test_what_is_given_wins_over_the_caption(upscale, photo):
    sidecar(photo, high="a red barn", low="noisy")
    _, record = upscale("--prompt", "a blue barn")
    assert (record["settings"]["prompt"], record["settings"]["low_prompt"]) == ("a blue barn", "noisy")
    _, record = upscale("--low-prompt", "", "--prompt", "a barn", name="other.png")
    assert (record["settings"]["prompt"], record["settings"]["low_prompt"]) == ("a barn", "")


def test_what_was_used_is_shown_with_who_wrote_it(upscale, photo):
    made, record = upscale("--prompt", "a blue barn")
    low = record["settings"]["low_prompt"]
    assert f"  person and measured: a blue barn; {low}\n" in made.err
    assert record["captioner"] == "person and measured"
    sidecar(photo, high="a red barn", low="noisy")
    made, record = upscale("--prompt", "a blue barn", name="other.png")
    assert "  person: a blue barn; noisy\n" in made.err
    made, record = upscale("--prompt", "a blue barn", "--low-prompt", "dark", name="both.png")
    assert "  person: a blue barn; dark\n" in made.err
    assert record["captioner"] == "person"


def test_a_text_that_was_given_as_empty_is_another_one_than_the_captions(upscale, photo):
    sidecar(photo, high="a red barn", low="noisy")
    upscale()
    made, _ = upscale("--prompt", "")
    assert made.code == 2
    assert 'high was "a red barn" and is ""' in made.err


def test_a_terminal_is_sent_no_commands_by_captions(upscale, xpsr, photo, tmp_path):
    sidecar(photo, high="a \x1b[2Jbarn", low="noisy")
    made, record = upscale()
    assert record["settings"]["prompt"] == "a \x1b[2Jbarn"
    assert "person: a \ufffd[2Jbarn; noisy" in made.err
    assert "\x1b" not in made.err + xpsr("replay", tmp_path / "out.png").out


@pytest.mark.parametrize("captions", ["auto", "measured", "sidecar"])
def test_a_persons_words_win(upscale, photo, captions):
    sidecar(photo, high="a red barn", low="noisy")
    _, record = upscale("--captions", captions)
    assert record["captioner"] == "person"
    assert (record["settings"]["prompt"], record["settings"]["low_prompt"]) == ("a red barn", "noisy")


def test_a_changed_sidecar_is_noticed_and_named(upscale, photo):
    sidecar(photo, high="a red barn", low="noisy")
    upscale()
    sidecar(photo, high="a blue barn", low="noisy")
    made, _ = upscale()
    assert made.code == 2
    assert 'high was "a red barn" and is "a blue barn"' in made.err
    made, record = upscale("--overwrite")
    assert (made.code, record["settings"]["prompt"]) == (0, "a blue barn")


def test_a_sidecar_that_is_no_json_stops_its_photo_before_the_work(upscale, photo, tmp_path):
    photo.with_suffix(".caption.json").write_text('{"high": ', encoding="utf-8")
    made, _ = upscale()
    assert made.code == 3
    assert "photo.caption.json is not JSON" in made.err
    assert not (tmp_path / "out.png").exists()


def test_of_many_photos_those_without_words_are_listed(xpsr, tiny_model, photo, tmp_path):
    Image.open(photo).save(photo.with_name("other.png"))
    sidecar(photo, high="a red barn", low="noisy")
    arguments = ("upscale", photo.parent, "-o", tmp_path / "out", "--model", tiny_model, *FAST)
    made = xpsr(*arguments, "--captions", "sidecar")
    assert made.code == 7
    assert "other.png has no caption beside it" in made.err
    assert (tmp_path / "out" / "photo.png").exists()


def test_captions_come_from_a_file(upscale, photo, tmp_path):
    captions = tmp_path / "captions.jsonl"
    captions.write_text(json.dumps({"photo": str(photo), "high": "a red barn", "low": "noisy"}), encoding="utf-8")
    _, record = upscale("--captions", captions)
    assert (record["settings"]["prompt"], record["settings"]["low_prompt"]) == ("a red barn", "noisy")
    captions.write_text(json.dumps({"photo": "another.png", "high": "", "low": ""}), encoding="utf-8")
    made, _ = upscale("--captions", captions, name="other.png")
    assert made.code == 3
    assert "has no caption in" in made.err


def test_a_photo_that_is_gone_stops_no_other_though_its_result_is_there(xpsr, tiny_model, photo, tmp_path):
    photo.with_name("gone.png").symlink_to("nowhere")
    out, captions = tmp_path / "out", tmp_path / "captions.jsonl"
    out.mkdir()
    (out / "gone.png").write_bytes(photo.read_bytes())
    captions.write_text('{"photo": "photo.png", "low": "noisy"}')
    made = xpsr(
        "upscale", photo.parent, "-o", out, "--model", tiny_model, *FAST, "--overwrite", "--captions", captions
    )
    assert made.code == 7
    assert "gone.png cannot be read" in made.err
    assert (out / "photo.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--captions", "nobody"], "'nobody', which is no file"),
        (["--captions", "nobody", "--prompt", "a barn", "--low-prompt", "noisy"], "'nobody', which is no file"),
        (["--captions", "mllm"], "no multimodal model is installed"),
        (["--captions", "mllm", "--captioner", "measured"], "captions is mllm, but the captioner is measured"),
        (["--captions", "measured", "--captioner", "llava-1.5-7b"], "the captioner is llava-1.5-7b"),
        (["--captions", "measured", "--quantize", "4bit"], "quantize is 4bit"),
        (["--caption-scope", "region"], "caption-scope is region"),
        (["--endpoint", ""], "endpoint is '', which is no http"),
    ],
)
def test_what_contradicts_itself_is_refused(upscale, arguments, words):
    made, _ = upscale(*arguments)
    assert made.code == 2
    assert words in made.err


def test_a_captioner_that_is_not_there_is_a_matter_of_weights(upscale):
    for name, words in (("llava-1.5-7b", "llava-1.5-7b is not installed"), ("", "There is no captioner named ''")):
        made, _ = upscale("--captioner", name)
        assert made.code == 4
        assert words in made.err


def test_a_multimodal_model_describes_and_is_asked_once(upscale, llava, monkeypatch):
    made, record = upscale("--captioner", llava)
    assert made.code == 0, made.err
    assert record["captioner"] == "tiny-llava"
    assert record["settings"]["prompt"]
    assert record["settings"]["low_prompt"]

    def load(*arguments, **options):
        raise AssertionError("the captioner was loaded")

    monkeypatch.setattr(mllm, "load_mllm", load)
    again, told = upscale("--captioner", llava, "--overwrite", "--guidance-scale", 2)
    assert again.code == 0, again.err
    assert told["settings"]["prompt"] == record["settings"]["prompt"]


def test_regions_have_prompts_of_their_own_and_come_again(upscale, llava, xpsr, tiny_model, photo, tmp_path):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 420, 3), dtype=np.uint8)).save(photo)
    small = ("--tile-size", 128, "--tile-overlap", 32)  # a region of three is 192 pixels of the photo
    made, record = upscale("--captioner", llava, "--caption-scope", "region", *small)
    assert made.code == 0, made.err
    regions = record["settings"]["region_prompts"]
    assert [(region["left"], region["width"]) for region in regions] == [(0, 210), (210, 210)]
    assert all(region["prompt"] for region in regions)
    again = ("--run", "-o", tmp_path / "again.png", "--input", photo, "--model", tiny_model)
    again = xpsr("replay", tmp_path / "out.png", *again)
    assert again.code == 0, again.err
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("out.png", "again.png"))
    assert np.array_equal(first, second)


def test_a_sidecar_without_regions_does_not_do_where_regions_are_wanted(upscale, llava, xpsr, photo):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 420, 3), dtype=np.uint8)).save(photo)
    assert xpsr("caption", photo, "--model", llava, "--sidecars").code == 0
    small = ("--tile-size", 128, "--tile-overlap", 32, "--caption-scope", "region")
    _, record = upscale("--captioner", llava, *small)
    assert len(record["settings"]["region_prompts"]) == 2
    _, record = upscale("--captioner", llava, *small, "--prompt", "a barn", name="barn.png")
    assert (record["settings"]["prompt"], record["settings"]["region_prompts"]) == ("a barn", [])


def test_no_regions_are_asked_about_where_a_prompt_holds_everywhere(upscale, photo):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 420, 3), dtype=np.uint8)).save(photo)
    with ChatServer() as server:
        small = ("--tile-size", 128, "--tile-overlap", 32, "--caption-scope", "region")
        made, _ = upscale("--endpoint", server.url, *small, "--prompt", "a barn")
        assert made.code == 0, made.err
        assert len(server.questions) == 2


def test_half_done_work_is_taken_up_with_the_very_same_prompts_only(upscale, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    slow = ("--steps", 3, "--in-memory", 0)
    with ChatServer(answer=lambda asked: "a photo") as server:
        asking = ("--endpoint", server.url, *slow)
        with monkeypatch.context() as patch:
            patch.setattr(one_photo, "write_bands", interrupt)  # the latents are done by then
            assert upscale(*asking, name="out/killed.png")[0].code == 130
        assert list((tmp_path / "out" / ".xpsr").glob("*.work"))
        monkeypatch.setenv("XPSR_CACHE", str(tmp_path / "another cache"))
        server.answer = lambda asked: "a house"
        for name in ("killed", "calm"):
            made, record = upscale(*asking, name=f"out/{name}.png")
            assert (made.code, record["settings"]["prompt"]) == (0, "a house"), made.err
    killed, calm = (np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in ("killed", "calm"))
    assert np.array_equal(killed, calm)
