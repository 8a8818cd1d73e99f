"""Nothing half-written ever stands under a photo's name, and a full disk is told from other failures."""

from __future__ import annotations

import errno

import pytest
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.whole_file import whole_or_absent


@pytest.mark.parametrize("named", [False, True])
def test_a_file_appears_when_it_is_done(tmp_path, named):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with whole_or_absent(path, tmp_path / "unfinished" if named else None) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ("No space left on device.", "Make room on the disk.")),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ("Disk quota exceeded.", "Make room on the disk.")),
        (OSError(errno.EIO, "Input/output error"), ("Input/output error.", "Check the folder")),
        (RuntimeError("encoder error -2"), ("encoder error -2.", "write another format")),
    ],
)
def test_failures_are_told_and_leave_the_old_file(tmp_path, failure, words):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with refusal(PhotoError, path, "could not be written", *words), whole_or_absent(path) as stream:
        stream.write(b"half")
        raise failure
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_file_that_cannot_be_made_is_told(tmp_path):
    with (
        refusal(PhotoError, tmp_path / "a.png", "No such file"),
        whole_or_absent(tmp_path / "a.png", tmp_path / "nowhere" / "unfinished"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
