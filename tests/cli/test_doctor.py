"""What ``xpsr doctor`` says of the parts that are not necessary."""

import importlib
import importlib.util
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from xpsr_cli.captioning.mllm_files import DEFAULT_MLLM
from xpsr_cli.cli import doctor
from xpsr_cli.device import choose_placement
from xpsr_cli.weights import load_registry, user_folder


def extras(xpsr):
    outcome = xpsr("doctor", "--json")
    assert outcome.code == 0
    assert outcome.err == ""
    return json.loads(outcome.out)["extras"]


@pytest.fixture(autouse=True)
def _no_hashing(monkeypatch):
    monkeypatch.setattr(doctor, "_weights", lambda report: {})


def test_the_captioner_is_the_default_model_where_it_is_installed(xpsr):
    assert extras(xpsr)["captioner"] == f"measured ({DEFAULT_MLLM} is not installed)"
    folder = user_folder() / DEFAULT_MLLM
    folder.mkdir(parents=True)
    for file in load_registry()[DEFAULT_MLLM].files:
        (folder / file.path).touch()
    assert extras(xpsr)["captioner"] == DEFAULT_MLLM


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_bitsandbytes_is_tried_on_the_device(xpsr):
    device = choose_placement().device
    assert extras(xpsr)["quant"] == f"{version('bitsandbytes')}, 8bit and 4bit on {device}"


def test_bitsandbytes_that_is_broken_is_said_once_and_stops_nothing(xpsr, monkeypatch, tmp_path):
    package(tmp_path, "bitsandbytes", "raise OSError('libcudart.so.99 is missing')")
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert extras(xpsr)["quant"] == "9.9, bitsandbytes cannot be imported: libcudart.so.99 is missing."


def test_an_extra_that_is_not_there_is_no_fault(xpsr, monkeypatch):
    monkeypatch.setattr(doctor, "_EXTRAS", {"quant": "no-such-package"})
    assert extras(xpsr)["quant"] == "not installed"


def package(folder: Path, name: str, code: str):
    """An installed package of one module."""
    (folder / f"{name}.py").write_text(code + os.linesep)
    info = folder / f"{name}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
