"""Sets that lack small photos, or whose large ones are a little too large, are made whole in the output folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_sets import save, scene, write_pairs
from PIL import Image

from xpsr_cli.cli.eval_degrading import degrader
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.datasets import Selection, SetFolders, find_pairs
from xpsr_cli.evaluation.known_sets import KNOWN_SETS
from xpsr_cli.evaluation.prepared_sets import Degradation, prepare_set


def folders_of(root, lr=False):
    return SetFolders("mine", root / "LR" if lr else None, root / "HR")


def prepared(root, output, name="xpsr", seed=0, selection=None, overwrite=False):
    folders = folders_of(root)
    how = Degradation(name, seed, 4, degrader(name, 4))
    return prepare_set(folders, find_pairs(folders, selection), output, how, overwrite=overwrite)


def pixels(path):
    return np.asarray(Image.open(path))


def test_small_photos_are_made_once_and_are_the_same_for_everybody(tmp_path):
    write_pairs(tmp_path)
    one = prepared(tmp_path, tmp_path / "one").set
    two = prepared(tmp_path, tmp_path / "two").set
    times = [pair.lr.stat().st_mtime_ns for pair in one.pairs]
    again = prepared(tmp_path, tmp_path / "one").set
    assert [pair.lr.stat().st_mtime_ns for pair in again.pairs] == times
    assert [pair.lr.read_bytes() for pair in one.pairs] == [pair.lr.read_bytes() for pair in two.pairs]
    assert one.about["sha256"] == two.about["sha256"]
    assert one.scale == 4
    assert {pixels(pair.lr).shape for pair in one.pairs} == {(16, 24, 3)}
    assert one.pairs[0].lr.parent == tmp_path / "one" / "inputs" / "lr"
    assert one.name == "mine (xpsr, seed 0)"
    assert (one.about["degradation"], one.about["degradation seed"]) == ("xpsr", "0")


def test_a_part_of_a_set_has_the_same_small_photos_as_the_whole(tmp_path):
    write_pairs(tmp_path)
    whole = prepared(tmp_path, tmp_path / "whole").set
    part = prepared(tmp_path, tmp_path / "part", selection=Selection(every=2)).set
    assert [pair.name for pair in part.pairs] == ["a", "c"]
    assert part.pairs[1].lr.read_bytes() == whole.pairs[2].lr.read_bytes()
    assert part.about["selection"] == "2 of 3 pictures, every 2nd"


def test_another_seed_makes_other_small_photos_and_replaces_none_unasked(tmp_path):
    write_pairs(tmp_path)
    first = [pair.lr.read_bytes() for pair in prepared(tmp_path, tmp_path / "out").set.pairs]
    with pytest.raises(UsageError, match="seed was 0 and is 1"):
        prepared(tmp_path, tmp_path / "out", seed=1)
    second = prepared(tmp_path, tmp_path / "out", seed=1, overwrite=True).set
    assert first != [pair.lr.read_bytes() for pair in second.pairs]


def test_bicubic_is_the_small_photo_of_training(tmp_path):
    write_pairs(tmp_path)
    small = pixels(prepared(tmp_path, tmp_path / "out", "bicubic").set.pairs[0].lr)
    plain = np.asarray(Image.fromarray(scene(0)).resize((24, 16), Image.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - plain).max() <= 1


def test_large_photos_are_cropped_to_multiples_before_they_are_made_small(tmp_path):
    save(scene(0, 104, 72)[:70, :99], tmp_path / "HR" / "a.png")
    pair = prepared(tmp_path, tmp_path / "out").set.pairs[0]
    assert np.array_equal(pixels(pair.hr), scene(0, 104, 72)[:68, :96])
    assert pixels(pair.lr).shape == (17, 24, 3)


def test_large_photos_of_pairs_are_cropped_to_what_the_small_ones_show(tmp_path):
    write_pairs(tmp_path)
    save(scene(7, 104, 72)[:66, :99], tmp_path / "HR" / "b.png")
    folders = folders_of(tmp_path, lr=True)
    done = prepare_set(folders, find_pairs(folders), tmp_path / "out")
    by_name = {pair.name: pair for pair in done.set.pairs}
    assert by_name["a"].hr == tmp_path / "HR" / "a.png"
    assert np.array_equal(pixels(by_name["b"].hr), scene(7, 104, 72)[:64, :96])
    assert "cropped" in done.notes[0]


def damage(path):
    """Change a byte in the middle, which no header tells of."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path):
    write_pairs(tmp_path)
    damage(tmp_path / "HR" / "b.png")
    done = prepared(tmp_path, tmp_path / "out")
    assert [pair.name for pair in done.set.pairs] == ["a", "c"]
    assert [gap.picture for gap in done.rejected] == ["b"]
    assert "damaged" in done.rejected[0].reason


def test_a_set_of_which_nothing_can_be_read_is_a_photo_error(tmp_path):
    write_pairs(tmp_path, "a")
    damage(tmp_path / "HR" / "a.png")
    with pytest.raises(PhotoError, match="No small photo can be made: .*a.png is damaged"):
        prepared(tmp_path, tmp_path / "out")


def test_an_unknown_degradation_lists_those_that_are_known():
    with pytest.raises(UsageError, match="no degradation 'worse'") as raised:
        degrader("worse", 4)
    assert "xpsr" in raised.value.hint


def test_only_the_version_that_papers_use_is_a_known_set(tmp_path):
    known = replace(KNOWN_SETS["realsr"], reported=1)
    for name, size in (("papers", (512, 512)), ("full", (520, 516))):
        for side, scale in (("HR", 1), ("LR", 4)):
            save(np.full((size[1] // scale, size[0] // scale, 3), 90, np.uint8), tmp_path / name / side / "a.png")
    roots = {name: tmp_path / name for name in ("papers", "full")}
    named = {name: SetFolders("realsr", root / "LR", root / "HR", known) for name, root in roots.items()}
    named["some"] = replace(named["papers"], known=KNOWN_SETS["realsr"])  # which has 100 pictures
    named["own"] = replace(named["papers"], known=None)  # a folder of anybody's that has the name
    sets = {name: prepare_set(folders, find_pairs(folders), tmp_path / "out").set for name, folders in named.items()}
    assert {name: found.known for name, found in sets.items()} == {
        "papers": "realsr",
        "full": None,
        "some": None,
        "own": None,
    }
