"""A spool gives back what was written, in memory and on disk, and says where there is no room."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.spool import MEMORY_BYTES, Spool


@pytest.mark.parametrize("memory_bytes", [0, MEMORY_BYTES])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_windows_come_back_as_they_were_written(tmp_path, dtype, channels, memory_bytes):
    picture = np.random.default_rng(0).integers(0, 255, (50, 31, channels)).astype(dtype)
    spool = Spool(picture.shape, picture.dtype, folder=tmp_path, memory_bytes=memory_bytes)
    assert spool.in_memory == bool(memory_bytes)
    spool.write(20, 0, picture[20:])
    spool.write(0, 0, picture[:20, :7])
    spool.write(0, 7, picture[:20, 7:][:, ::-1][:, ::-1])  # which does not lie in one piece
    np.testing.assert_array_equal(spool.read(0, 0, 50, 31), picture)
    window = spool.read(3, 5, 40, 11)
    assert window.dtype == dtype
    np.testing.assert_array_equal(window, picture[3:43, 5:16])
    window[:] = 0
    np.testing.assert_array_equal(spool.read(3, 5, 40, 11), picture[3:43, 5:16])
    assert os.listdir(tmp_path) == []
    spool.close()


def test_the_folder_of_the_system_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with refusal(PhotoError, tmp_path / "gone", "0.1 GB", "TMPDIR"):
        Spool((6000, 6000, 3), np.dtype(np.uint8))
    assert Spool((10, 10, 3), np.dtype(np.uint8)).in_memory


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_not_called_damage(tmp_path):
    spool = Spool((100, 100, 3), np.dtype(np.uint8), folder=tmp_path, memory_bytes=0)
    spool._file.close()
    spool._file = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 - closed by the spool
    with refusal(PhotoError, tmp_path, "too little room", "TMPDIR") as caught:
        spool.write(0, 0, np.zeros((100, 100, 3), np.uint8))
    assert caught.value.__cause__.errno == errno.ENOSPC
    spool.close()


def test_a_disk_that_will_not_do_is_known_before_anything_is_written(tmp_path):
    with refusal(PhotoError, tmp_path, "too little room", "1000000000.0 GB"):
        Spool((10**9, 10**9, 1), np.dtype(np.uint8), folder=tmp_path)
    assert os.listdir(tmp_path) == []
