"""Folders are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xpsr_cli.errors import WeightsError
from xpsr_cli.training.whole_folders import link_tree, replace_folder, written_beside


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    place, new = tmp_path / "model", tmp_path / "new"
    for folder, name in ((place, "old"), (new, "new")):
        folder.mkdir()
        (folder / name).touch()
    replace_folder(new, place)
    assert names(tmp_path) == ["model", "model/new"]


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def begin_and_fail(place: Path, error: BaseException) -> None:
    with written_beside(place) as temporary:
        (temporary / "new").touch()
        raise error


@pytest.mark.parametrize("error", [FULL, RuntimeError("file write failed")])
def test_what_could_not_be_written_leaves_what_was_there(tmp_path: Path, error: Exception) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / "old").touch()
    with pytest.raises(WeightsError, match="model could not be saved: ") as caught:
        begin_and_fail(place, error)
    assert str(error).split("] ")[-1] in caught.value.message
    assert names(tmp_path) == ["model", "model/old"]


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin_and_fail(tmp_path / "model", KeyboardInterrupt())
    assert names(tmp_path) == []


def test_what_a_killed_replacement_left_is_used(tmp_path: Path) -> None:
    (tmp_path / "model.old").mkdir()
    (tmp_path / "model.old" / "old").touch()
    with pytest.raises(KeyboardInterrupt):
        begin_and_fail(tmp_path / "model", KeyboardInterrupt())
    assert names(tmp_path) == ["model", "model/old"]


def test_links_take_no_room(tmp_path: Path) -> None:
    (tmp_path / "one" / "inner").mkdir(parents=True)
    (tmp_path / "one" / "inner" / "file").write_text("content")
    link_tree(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "inner" / "file").samefile(tmp_path / "one" / "inner" / "file")
