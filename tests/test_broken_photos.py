"""Broken files are refused with a sentence or read as the photos they still are, and nothing hangs."""

from __future__ import annotations

import json
import time

import imagecodecs
import pytest
from broken_photos import write_broken

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.source import open_photo

COUNT = 160
LIMIT_S = 20.0
BAND_PX = 64


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return write_broken(tmp_path_factory.mktemp("broken"), COUNT)


def read_all(path):
    """Every pixel, in bands."""
    with open_photo(path) as source:
        source.transparent()
        for top in range(0, source.info.height, BAND_PX):
            source.read(top, 0, min(BAND_PX, source.info.height - top), source.info.width)


@pytest.mark.parametrize("number", range(COUNT))
def test_a_broken_file_is_refused_or_still_a_photo(broken, number):
    path, started, failure = broken[number].path, time.perf_counter(), None
    try:
        read_all(path)
    except PhotoError as error:
        failure = error
    assert time.perf_counter() - started < LIMIT_S
    if failure is None:
        assert not broken[number].hopeless, path.name
    else:
        assert str(path) in failure.message
        assert failure.message.endswith(".")
        assert failure.hint.endswith(".")
        assert "\n" not in failure.message


def test_a_folder_of_them_is_done_as_far_as_it_can_be(broken, xpsr, tiny_model, tmp_path):
    photos = [one for one in broken if one.kind != "folder"]
    outcome = xpsr(
        *("upscale", broken[0].path.parent, "--output", tmp_path / "results", "--model", tiny_model),
        *("--scale", 1, "--steps", 1, "--json"),
    )
    assert outcome.code == 7
    assert "Traceback" not in outcome.err
    records = [json.loads(line) for line in outcome.out.splitlines()]
    status = {record["input"]: record["status"] for record in records}
    assert set(status) == {str(one.path) for one in photos}
    assert all(status[str(one.path)] == "failed" for one in photos if one.hopeless)

    summary = outcome.err[outcome.err.rindex(" photos failed: ") :]
    assert all(path in summary for path, word in status.items() if word == "failed")
    done = {record["output"] for record in records if record["status"] == "done"}
    assert done == {str(path) for path in (tmp_path / "results").iterdir() if path.name != ".xpsr"}
    for name in done:
        imagecodecs.png_decode((tmp_path / "results" / name).read_bytes())  # raises for half a file


def test_the_same_files_every_time(broken, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    for one, other in zip(broken, write_broken(again, COUNT), strict=True):
        assert (one.path.name, one.kind, one.hopeless) == (other.path.name, other.kind, other.hopeless)
        if other.path.is_file() and other.kind != "sparse":
            assert one.path.read_bytes() == other.path.read_bytes()
