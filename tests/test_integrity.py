"""Files are hashed once, and again whenever they may have changed."""

from __future__ import annotations

import hashlib
import os

import pytest

from xpsr_cli.integrity import hash_file

OLD_NS = 10**18  # 2001


@pytest.fixture
def written(tmp_path):
    """``written(content, time)`` puts a file there that was changed at that time; returns its path."""

    def write(content, time_ns=None):
        path = tmp_path / "model.bin"
        path.write_bytes(content)
        if time_ns is not None:
            os.utime(path, ns=(time_ns, time_ns))
        return path

    return write


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_that_stays_as_it_is_is_read_once(written):
    assert hash_file(written(b"aaaa", OLD_NS)) == sha256(b"aaaa")
    assert hash_file(written(b"bbbb", OLD_NS)) == sha256(b"aaaa")  # nothing shows that it is another


@pytest.mark.parametrize(("content", "time_ns"), [(b"bbbb", OLD_NS + 1), (b"bbbbb", OLD_NS)])
def test_a_file_of_another_time_or_size_is_read_again(written, content, time_ns):
    hash_file(written(b"aaaa", OLD_NS))
    assert hash_file(written(content, time_ns)) == sha256(content)


def test_a_file_that_was_just_written_is_read_every_time(written):
    path = written(b"aaaa")
    assert hash_file(path) == sha256(b"aaaa")
    time_ns = path.stat().st_mtime_ns
    assert hash_file(written(b"bbbb", time_ns)) == sha256(b"bbbb")


def test_one_file_by_two_names_is_read_once(written, tmp_path, monkeypatch):
    path = written(b"aaaa", OLD_NS)
    hash_file(path)
    written(b"bbbb", OLD_NS)
    monkeypatch.chdir(tmp_path)
    assert hash_file(path.relative_to(tmp_path)) == sha256(b"aaaa")


def test_a_file_that_is_gone_is_an_error(written):
    path = written(b"aaaa", OLD_NS)
    hash_file(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        hash_file(path)
