"""Every kind of photo comes through ``xpsr upscale`` at its exact size, with its colours, bits, profile and tags."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import cache

import numpy as np
import pytest
from photo_corpus import cases, commands, write_corpus
from photo_faults import colour_difference, faults
from photo_reading import read
from PIL import Image

from xpsr_cli.cli.app import run
from xpsr_cli.models import loading

CASES = cases()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def results(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_components", cache(loading.load_components))  # once for all commands
        for arguments in commands(records, folder):
            run([str(argument) for argument in arguments])  # what it does not write is missed below
    return folder


@pytest.mark.parametrize("number", range(len(CASES)))
def test_nothing_is_lost(records, results, number):
    record = records[number]
    found, _ = faults(results / record.result_name, record)
    assert not found, record.path.name


def test_the_corpus_has_what_matters():
    counts = Counter(case.extension for case in CASES)
    assert len(CASES) >= 150
    assert all(counts[extension] >= 15 for extension in ("png", "jpg", "webp", "avif", "tif"))
    for extension in counts:
        assert {case.orientation for case in CASES if case.extension == extension} == set(range(1, 9))
    assert {case.mode for case in CASES} == {"grey", "rgb", "cmyk", "palette", "bit"}
    assert {case.bits for case in CASES} == {8, 16, 32}
    assert {case.alpha for case in CASES} == {"", "soft", "hidden", "key", "premultiplied"}


def test_the_check_sees_what_is_lost(records, tmp_path):
    """A result that is the input itself: wrong in size, orientation and every tag that states them."""
    record = next(r for r in records if r.tags.orientation == 6 and r.tags.words and r.path.suffix == ".jpg")
    copy = tmp_path / record.result_name
    shutil.copy(record.path, copy)
    words = " ".join(faults(copy, record)[0])
    assert all(word in words for word in ("size", "orientation", "PixelXDimension"))

    with Image.open(record.path) as image:
        Image.fromarray(np.asarray(image.resize(record.size))).save(copy)  # nothing but pixels, not turned
    words = " ".join(faults(copy, record)[0])
    assert all(word in words for word in ("Make", "GPS", "city", "caption", "comment", "DPI", "colours differ"))


def test_the_check_sees_a_missing_profile_and_bits(records, tmp_path):
    record = next(r for r in records if r.bits == 16 and r.tags.icc and not r.alpha and r.path.suffix == ".png")
    copy = tmp_path / record.result_name
    Image.new("RGBA", record.size).save(copy)
    words = " ".join(faults(copy, record)[0])
    assert all(word in words for word in ("8 bits of 16", "no colour profile", "alpha out of nowhere"))


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_a_shifted_colour_is_measured(records, shift):
    source = read(next(r.path for r in records if r.path.suffix == ".tif" and r.bits == 32 and not r.alpha))
    result = read(next(r.path for r in records if r.path.suffix == ".tif" and r.bits == 32 and not r.alpha))
    result.values = np.kron(source.values, np.ones((2, 2, 1))) * (1 - shift)
    assert (colour_difference(source, result) > 1) is (shift > 0)
