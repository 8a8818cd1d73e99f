"""``xpsr replay``: a result tells what made it, and the same work gives the same bytes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from xpsr_cli import __version__
from xpsr_cli.errors import ExitCode
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.provenance import read_provenance, with_provenance
from xpsr_cli.photos.sink import write_photo
from xpsr_cli.photos.source import read_photo

SETTINGS = (
    "--scale",
    "2",
    "--seed",
    "5",
    "--prompt",
    "a \u00f6 <red> panda",
    "--steps",
    "2",
    "--tile-size",
    "128",
    "--tile-overlap",
    "32",
    "--fidelity",
    "0.75",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model):
    """A folder with ``photo.png`` and its result ``big.png``."""
    from xpsr_cli.cli.app import run

    folder = tmp_path_factory.mktemp("made")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    command = ["upscale", folder / "photo.png", "-o", folder / "big.png", "--model", tiny_model, *SETTINGS]
    assert run([str(part) for part in command]) == ExitCode.OK
    return folder


@pytest.fixture
def result(made, tmp_path):
    """A copy of the folder to change; the path of the result in it."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy" / "big.png"


def changed(result, **values):
    """The result with other values in its manifest."""
    photo, manifest = read_photo(result), read_provenance(result)
    write_photo(photo.__class__(photo.pixels, None, with_provenance(photo.metadata, manifest | values)), result)


def test_it_tells_what_made_a_result(xpsr, result):
    outcome = xpsr("replay", result)
    assert outcome.code == ExitCode.OK
    assert outcome.err == ""
    lines = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    assert lines[0] == [str(result)]
    for line in (
        ["xpsr", __version__],
        ["model", "tiny"],
        ["name", "photo.png"],
        ["sha256", hash_file(result.parent / "photo.png")],
        ["scale", "2.0"],
        ["prompt", "a \u00f6 <red> panda"],
        ["seed", "5"],
        ["tile_size", "128"],
        ["fidelity", "0.75"],
        ["device", "cpu"],
    ):
        assert line in lines
    assert ["quality", "None"] not in lines


def test_json_is_the_manifest(xpsr, result):
    assert json.loads(xpsr("replay", result, "--json").out) == read_provenance(result)
    assert xpsr("replay", result, "--quiet").out == ""


def test_the_same_work_gives_the_same_bytes(xpsr, result, tiny_model):
    outcome = xpsr("replay", result, "--run", "-o", result.parent / "again.png", "--model", tiny_model)
    assert outcome.code == ExitCode.OK, outcome.err
    assert outcome.out.splitlines() == [str(result.parent / "again.png")]
    assert "differ" not in outcome.err
    assert (result.parent / "again.png").read_bytes() == result.read_bytes()


def test_the_photo_can_lie_elsewhere_and_the_format_be_another(xpsr, result, tiny_model, tmp_path):
    elsewhere = (result.parent / "photo.png").rename(tmp_path / "moved.png")
    again = tmp_path / "again.tif"
    outcome = xpsr("replay", result, "--run", "-o", again, "--input", elsewhere, "--model", tiny_model)
    assert outcome.code == ExitCode.OK, outcome.err
    np.testing.assert_array_equal(read_photo(again).pixels, read_photo(result).pixels)


def test_differences_are_said(xpsr, result, tiny_model):
    changed(result, xpsr="0.0.1", weights="other", made_with={"device": "cuda", "torch": "2.0"})
    outcome = xpsr("replay", result, "--run", "-o", result.parent / "again.png", "--model", tiny_model)
    assert outcome.code == ExitCode.OK
    for words in ("made by xpsr 0.0.1", "other weights", "device cuda", "torch 2.0"):
        assert words in outcome.err


def refused(outcome, code, *words):
    assert outcome.code == code, outcome.err
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert str(word) in " ".join(outcome.err.split())


def test_what_cannot_be_told_is_refused(xpsr, result):
    photo = result.parent / "photo.png"
    refused(xpsr("replay", photo), ExitCode.PHOTO, photo, "does not say what made it")
    refused(xpsr("replay", result.parent / "none.png"), ExitCode.PHOTO, "none.png")
    result.write_bytes(result.read_bytes()[:300])
    refused(xpsr("replay", result), ExitCode.PHOTO, result, "damaged")


def test_another_photo_is_refused(xpsr, result):
    run = ("replay", result, "--run", "-o", result.parent / "again.png")
    Image.new("RGB", (24, 20)).save(result.parent / "photo.png")
    refused(xpsr(*run), ExitCode.PHOTO, "photo.png is not the photo", "SHA-256", "--input")
    (result.parent / "photo.png").unlink()
    refused(xpsr(*run), ExitCode.PHOTO, "photo.png", "--input")
    assert not (result.parent / "again.png").exists()


def test_a_name_with_folders_in_it_leads_nowhere_else(xpsr, result):
    outside = (result.parent / "photo.png").rename(result.parent.parent / "photo.png")
    changed(result, input={"name": "../photo.png", "sha256": hash_file(outside)})
    outcome = xpsr("replay", result, "--run", "-o", result.parent / "again.png")
    refused(outcome, ExitCode.PHOTO, f"is not at {result.parent / 'photo.png'}")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"settings": {"scale": "two"}}, ExitCode.PHOTO),
        ({"settings": [1]}, ExitCode.PHOTO),
        ({"output": {}}, ExitCode.PHOTO),
        ({"output": {"bits": "7", "quality": None, "compression": None}}, ExitCode.PHOTO),
        ({"input": "photo.png"}, ExitCode.PHOTO),
        ({"model": "gone"}, ExitCode.WEIGHTS),
        ({"model": None}, ExitCode.WEIGHTS),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(xpsr, result, values, code):
    changed(result, **values)
    refused(xpsr("replay", result, "--run", "-o", result.parent / "again.png"), code)
    assert xpsr("replay", result).code == ExitCode.OK  # it is still told


def test_flags_that_belong_together(xpsr, result):
    refused(xpsr("replay", result, "--run"), ExitCode.USAGE, "-o")
    refused(xpsr("replay", result, "-o", "again.png"), ExitCode.USAGE, "--run")
    refused(xpsr("replay", result, "--input", "photo.png"), ExitCode.USAGE, "--run")


def test_a_result_that_exists_is_not_replaced_unless_asked(xpsr, result, tiny_model):
    run = ("replay", result, "--run", "-o", result.parent / "photo2.png", "--model", tiny_model)
    shutil.copy(result.parent / "photo.png", result.parent / "photo2.png")
    refused(xpsr(*run), ExitCode.USAGE, "--overwrite")
    assert xpsr(*run, "--overwrite").code == ExitCode.OK
    assert (result.parent / "photo2.png").read_bytes() == result.read_bytes()
