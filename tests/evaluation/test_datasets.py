"""Sets are found in every layout they are passed around in, and whatever does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.datasets import Selection, SetFolders, find_pairs, find_set
from xpsr_cli.evaluation.known_sets import KNOWN_SETS


def picture(path, width=20, height=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)


def pair(root, large, small):
    picture(root / large, 80, 64)
    picture(root / small)


@pytest.mark.parametrize(
    ("name", "large", "small", "called"),
    [
        ("realsr", "realsr/HR/Canon_001_LR4.png", "realsr/LR/Canon_001_LR4.png", "Canon_001"),
        ("realsr", "RealSR/HR/a.png", "RealSR/LR/a.png", "a"),
        (
            "realsr",
            "RealSRVal_crop128/test_HR/Canon_001_HR.png",
            "RealSRVal_crop128/test_LR/Canon_001_LR4.png",
            "Canon_001",
        ),
        (
            "drealsr",
            "StableSR_testsets/DrealSRVal_crop128/test_HR/Canon_10_x1.png",
            "StableSR_testsets/DrealSRVal_crop128/test_LR/Canon_10_x1.png",
            "Canon_10",
        ),
        ("div2k-val", "DIV2K/DIV2K_valid_HR/0801.png", "DIV2K/DIV2K_valid_LR_bicubic/X4/0801x4.png", "0801"),
        ("div2k-val", "DIV2K_V2_val/gt/0801_pch_1.png", "DIV2K_V2_val/lq/0801_pch_1.png", "0801_pch_1"),
        ("set5", "Set5/GTmod12/baby.png", "Set5/LRbicx4/baby.png", "baby"),
        ("set5", "Set5/HR/baby.png", "Set5/LR_bicubic/X4/babyx4.png", "baby"),
        ("set5", "Set5/original/baby.png", "Set5/LR_bicubic_x4/baby_bicLRx4.png", "baby"),
        ("set14", "HR/img_001.png", "LR_bicubic_x4/img_001.png", "img_001"),
        (
            "urban100",
            "Urban100/image_SRF_4/img_001_SRF_4_HR.png",
            "Urban100/image_SRF_4/img_001_SRF_4_LR.png",
            "img_001",
        ),
        ("bsd100", "B100/HR/3096.png", "B100/LR_bicubic/X4/3096x4.png", "3096"),
    ],
)
def test_known_layouts_are_found(tmp_path, name, large, small, called):
    pair(tmp_path, large, small)
    folders = find_set(name, [tmp_path], environment={})
    found = find_pairs(folders)
    assert [(pair.name, pair.lr, pair.hr) for pair in found.pairs] == [(called, tmp_path / small, tmp_path / large)]
    assert found.scale == 4


def test_the_scale_chooses_among_small_pictures(tmp_path):
    picture(tmp_path / "set5/HR/a.png", 80, 64)
    for scale in (2, 4):
        picture(tmp_path / f"set5/LR_bicubic_x{scale}/a.png", 80 // scale, 64 // scale)
    assert find_pairs(find_set("set5", [tmp_path], 2, environment={})).scale == 2
    assert find_pairs(find_set("set5", [tmp_path], environment={})).scale == 4


def test_sets_are_found_by_environment_after_the_roots(tmp_path):
    pair(tmp_path / "one", "Set5/HR/a.png", "Set5/LR/a.png")
    pair(tmp_path / "two", "Set5/HR/a.png", "Set5/LR/a.png")
    environment = {"XPSR_DATASETS": str(tmp_path / "one")}
    assert find_set("set5", environment=environment).hr == tmp_path / "one/Set5/HR"
    assert find_set("set5", [tmp_path / "two"], environment=environment).hr == tmp_path / "two/Set5/HR"


def test_a_set_of_large_photos_alone_is_found(tmp_path):
    picture(tmp_path / "Set14" / "baboon.png", 50, 40)
    folders = find_set("set14", [tmp_path], environment={})
    assert (folders.lr, folders.hr) == (None, tmp_path / "Set14")


@pytest.mark.parametrize("name", list(KNOWN_SETS))
def test_a_set_that_is_not_here_says_where_to_get_it_and_on_which_terms(tmp_path, name):
    with pytest.raises(UsageError, match=f"The data set {name} is not") as raised:
        find_set(name, [tmp_path], environment={})
    assert KNOWN_SETS[name].page in raised.value.hint
    assert KNOWN_SETS[name].terms in raised.value.hint
    assert "--root" in raised.value.hint


def test_an_unknown_set_lists_those_that_are_known():
    with pytest.raises(UsageError, match="no data set named 'real'") as raised:
        find_set("real", environment={})
    assert "realsr, drealsr, div2k-val" in raised.value.hint


def test_a_root_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere, where data sets are to be, is no folder"):
        find_set("set5", [tmp_path / "nowhere"], environment={})


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b", "c"):
        pair(tmp_path, f"HR/{name}.png", f"LR/{name}.png")
    return SetFolders("mine", tmp_path / "LR", tmp_path / "HR")


def test_wrong_counts_and_other_versions_are_named(folders):
    known = SetFolders("realsr", folders.lr, folders.hr, KNOWN_SETS["realsr"])
    notes = find_pairs(known).notes
    assert notes[0] == "realsr has 100 pictures, and here are 3."
    assert "realsr has large photos of 512 x 512 pixels" in notes[1]
    assert "80 x 64" in notes[1]


def test_pictures_without_a_partner_are_named_and_left_out(folders):
    (folders.lr / "b.png").unlink()
    picture(folders.lr / "d.png")
    found = find_pairs(folders)
    assert [pair.name for pair in found.pairs] == ["a", "c"]
    assert found.notes == (
        f"b.png of {folders.hr} has no partner in {folders.lr}.",
        f"d.png of {folders.lr} has no partner in {folders.hr}.",
    )


def test_folders_without_a_pair_are_refused(folders):
    for name in ("a", "b", "c"):
        (folders.lr / f"{name}.png").rename(folders.lr / f"other{name}.png")
    with pytest.raises(UsageError, match=r"No picture of .*LR has a partner in .*HR"):
        find_pairs(folders)


def test_sizes_that_do_not_fit_are_named_and_the_others_stay(folders):
    picture(folders.hr / "a.png", 90, 64)  # 22 pixels wide at a fourth
    picture(folders.hr / "c.png", 40, 32)
    picture(folders.hr / "d.png", 80, 64)
    picture(folders.lr / "d.png")
    found = find_pairs(folders)
    assert [pair.name for pair in found.pairs] == ["b", "d"]
    reasons = {gap.picture: gap.reason for gap in found.rejected}
    assert "90 x 64 pixels, which is no multiple of the 20 x 16" in reasons["a"]
    assert "c.png is 2 times" in reasons["c"]


def test_a_large_photo_that_is_a_little_too_large_is_to_be_cropped(folders):
    picture(folders.hr / "a.png", 83, 65)
    found = find_pairs(folders)
    assert found.to_crop == {"a"}
    assert found.scale == 4
    assert "1 large photos are cropped" in found.notes[0]


def test_no_picture_that_can_be_used_is_a_photo_error(folders):
    for name in ("a", "b", "c"):
        (folders.hr / f"{name}.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"No picture can be used: .*a.png is not a photo.*\(and 2 more\)"):
        find_pairs(folders)


def test_one_unreadable_picture_is_left_out_with_its_reason(folders):
    (folders.lr / "b.png").write_bytes(b"")
    found = find_pairs(folders)
    assert [pair.name for pair in found.pairs] == ["a", "c"]
    assert "is empty" in found.rejected[0].reason


def test_small_photos_alone_have_no_scale(folders):
    found = find_pairs(SetFolders("mine", folders.lr, None))
    assert [(pair.name, pair.hr) for pair in found.pairs] == [("a", None), ("b", None), ("c", None)]
    assert found.scale is None


def test_names_are_in_full_where_they_would_be_the_same(folders):
    for name in ("a.png", "a.jpg"):
        picture(folders.lr / "other" / name)
    found = find_pairs(SetFolders("mine", folders.lr / "other", None))
    assert [pair.name for pair in found.pairs] == ["a.jpg", "a.png"]


def test_two_large_photos_of_one_name_are_refused(folders):
    picture(folders.hr / "a.jpg", 80, 64)
    with pytest.raises(UsageError, match=r"has a\.(jpg|png) and a\.(jpg|png)"):
        find_pairs(folders)


@pytest.mark.parametrize(
    ("selection", "names", "words"),
    [
        (Selection(), "abc", ""),
        (Selection(every=2), "ac", "2 of 3 pictures, every 2nd"),
        (Selection(limit=2), "ab", "2 of 3 pictures, the first ones"),
        (Selection(every=2, limit=1), "a", "1 of 3 pictures, every 2nd"),
        (Selection(limit=9), "abc", ""),
    ],
)
def test_a_quick_look_says_what_it_takes(folders, selection, names, words):
    found = find_pairs(folders, selection)
    assert "".join(pair.name for pair in found.pairs) == names
    assert found.selection == words


@pytest.mark.parametrize("wrong", [{"every": 0}, {"limit": 0}])
def test_a_selection_of_nothing_is_refused(wrong):
    with pytest.raises(UsageError, match="is 0, and 1 is the least"):
        Selection(**wrong)
