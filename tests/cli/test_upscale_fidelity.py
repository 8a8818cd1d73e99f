"""``xpsr upscale --fidelity``: what is written and told, and what counts as the same work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli.cli import upscale as command
from xpsr_cli.errors import ExitCode
from xpsr_cli.exploring.operators import Operator
from xpsr_cli.photos.provenance import read_provenance


@pytest.fixture
def photo(tmp_path):
    """A soft photo of 24 x 20 pixels."""
    coarse = np.random.default_rng(0).integers(60, 200, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((24, 20), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def upscale(xpsr, tiny_model, photo):
    """``upscale("b.png", ...)`` is ``xpsr upscale a.png -o b.png ... --scale 2 --model TINY``."""
    options = ("--scale", 2, "--steps", 2, "--model", tiny_model)
    return lambda name, *arguments: xpsr("upscale", photo, "-o", photo.with_name(name), *options, *arguments)


def test_a_faithful_result_is_told_with_its_agreement(upscale, photo):
    outcome = upscale("b.png", "--fidelity", 1, "--json")
    record = json.loads(outcome.out)
    assert record["settings"]["fidelity"] == 1
    large, small = (
        torch.tensor(np.asarray(Image.open(path))).permute(2, 0, 1) for path in (photo.with_name("b.png"), photo)
    )
    reached = Operator((40, 48), (20, 24)).agreement(large, small / 255)
    assert record["agreement_db"] == pytest.approx(reached, abs=0.01)
    assert reached > 50
    assert f"reduced, it agrees with the photo to {reached:.1f} dB" in outcome.err
    assert read_provenance(photo.with_name("b.png"))["settings"]["fidelity"] == 1


def test_none_is_as_if_there_were_no_such_setting(upscale, photo):
    record = json.loads(upscale("b.png", "--json").out)
    assert "agreement_db" not in record
    assert "fidelity" not in read_provenance(photo.with_name("b.png"))["settings"]
    upscale("c.png", "--fidelity", 0)
    assert photo.with_name("c.png").read_bytes() == photo.with_name("b.png").read_bytes()
    assert "done before" in upscale("b.png", "--fidelity", 0).err


def test_another_fidelity_is_other_work(upscale):
    assert upscale("b.png").code == 0
    outcome = upscale("b.png", "--fidelity", 0.5)
    assert outcome.code == ExitCode.USAGE
    assert "made differently: fidelity was unset and is 0.5" in outcome.err
    assert upscale("b.png", "--fidelity", 0.5, "--overwrite").code == 0
    assert "done before" in upscale("b.png", "--fidelity", 0.5).err


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan", "much"])
def test_what_is_no_fidelity_is_refused(upscale, monkeypatch, value):
    monkeypatch.setattr(command, "load_upscaler", None)  # is not come to
    outcome = upscale("b.png", "--fidelity", value)
    assert outcome.code == ExitCode.USAGE
    assert "fidelity" in outcome.err
    assert value in outcome.err
    assert "Traceback" not in outcome.err


def test_at_the_same_size_it_cannot_be_full(upscale):
    outcome = upscale("b.png", "--scale", 1, "--fidelity", 1)
    assert outcome.code == ExitCode.USAGE
    assert outcome.err.splitlines()[0] == "error: The result of fidelity 1 at scale 1 is the photo itself."
