"""Pulling weights over a real HTTP server on this machine: ranges, broken connections, second sources, hashes."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xpsr_cli import downloads
from xpsr_cli.downloads import fetch_file
from xpsr_cli.errors import WeightsError
from xpsr_cli.installing import pull
from xpsr_cli.integrity import read_sums
from xpsr_cli.weights import Kind, WeightsEntry, WeightsFile, installed_folder, user_folder

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves ``files``; ``drops`` connections are cut after half of what they should carry."""

    def __init__(self):
        self.files = {"a.bin": CONTENT}
        self.drops = 0
        self.ranges = True
        self.asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/{{path}}"

    def answer(self, request):
        name, wanted = request.path.lstrip("/"), request.headers.get("Range")
        self.asked.append((name, wanted))
        if name not in self.files:
            request.send_error(404)
            return
        content, start = self.files[name], 0
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        body = content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.drops:
            self.drops -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)
        request.close_connection = True

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "WAIT_S", 0.0)
    server = Server()
    yield server
    server.close()


def parts(folder):
    return [path.name for path in folder.rglob("*.part")]


def test_a_file_arrives_under_its_name(server, tmp_path):
    fetch_file(WeightsFile("a.bin", len(CONTENT), DIGEST), [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert parts(tmp_path) == []


def test_a_broken_connection_is_continued_where_it_broke(server, tmp_path):
    server.drops = 2
    fetch_file(WeightsFile("a.bin", len(CONTENT), DIGEST), [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.asked == [("a.bin", None), ("a.bin", f"bytes={half}-"), ("a.bin", f"bytes={half + half // 2}-")]


def test_the_next_run_continues_what_an_interrupted_one_left(server, tmp_path):
    class Stop:
        def stage(self, name, total):
            self.total = total

        def advance(self, count=1):
            if count:
                raise KeyboardInterrupt

    file = WeightsFile("a.bin", len(CONTENT), DIGEST)
    server.drops = 1
    with pytest.raises(KeyboardInterrupt):
        fetch_file(file, [server.url], tmp_path, Stop())
    assert not (tmp_path / "a.bin").exists()
    assert len(parts(tmp_path)) == 1
    fetch_file(file, [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked[-1] == ("a.bin", f"bytes={len(CONTENT) // 2}-")


def test_a_server_without_ranges_sends_it_again_from_the_start(server, tmp_path):
    server.ranges, server.drops = False, 1
    fetch_file(WeightsFile("a.bin", len(CONTENT), DIGEST), [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_was_complete_already_is_taken(server, tmp_path):
    file = WeightsFile("a.bin", len(CONTENT), DIGEST)
    (tmp_path / f"a.bin.{downloads._short_hash(DIGEST)}.part").write_bytes(CONTENT)
    fetch_file(file, [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("a.bin", f"bytes={len(CONTENT)}-")]


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / f"a.bin.{downloads._short_hash(DIGEST)}.part").write_bytes(CONTENT + b"!")
    fetch_file(WeightsFile("a.bin", len(CONTENT), DIGEST), [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_the_second_source_is_asked_when_the_first_fails(server, tmp_path):
    gone = server.url.replace("{path}", "gone/{path}")
    came_from = fetch_file(WeightsFile("a.bin", len(CONTENT), DIGEST), [gone, server.url], tmp_path)
    assert came_from == server.url.replace("{path}", "a.bin")


def test_a_file_with_another_hash_is_thrown_away_and_the_next_source_asked(server, tmp_path):
    server.files["forged/a.bin"] = CONTENT[:-1] + b"?"
    forged = server.url.replace("{path}", "forged/{path}")
    fetch_file(WeightsFile("a.bin", len(CONTENT), DIGEST), [forged, server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_when_every_source_fails_each_is_named_and_nothing_is_installed(server, tmp_path):
    forged = "http://127.0.0.1:1/{path}"
    with pytest.raises(WeightsError) as caught:
        fetch_file(WeightsFile("b.bin", 1, DIGEST), [forged, server.url], tmp_path)
    assert "127.0.0.1:1: " in caught.value.message
    assert "HTTP status 404" in caught.value.message
    assert not (tmp_path / "b.bin").exists()


def test_an_unpinned_part_is_never_continued_from_another_source(server, tmp_path):
    server.files["other/a.bin"] = bytes(len(CONTENT))
    other = server.url.replace("{path}", "other/{path}")
    url = other.replace("{path}", "a.bin")
    (tmp_path / f"a.bin.{downloads._short_hash(url)}.part").write_bytes(b"0" * 100)
    fetch_file(WeightsFile("a.bin", len(CONTENT)), [server.url], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.fixture
def entry(server):
    server.files["sub/b.txt"] = b"words"
    files = (WeightsFile("a.bin", len(CONTENT), DIGEST), WeightsFile("sub/b.txt", 5))
    return WeightsEntry("model", Kind.BASE, "about", "licence", files=files, sources=(server.url,))


def test_pull_installs_whole_or_not_at_all(server, entry):
    words = server.files.pop("sub/b.txt")
    with pytest.raises(WeightsError, match=r"sub/b\.txt"):
        pull(entry)
    assert installed_folder(entry) is None
    server.files["sub/b.txt"] = words
    installed = pull(entry)
    assert installed.folder == installed_folder(entry) == user_folder() / "model"
    assert [name for name, _ in server.asked].count("a.bin") == 1
    assert installed.unpinned == {"sub/b.txt": hashlib.sha256(b"words").hexdigest()}
    assert set(read_sums(installed.folder)) == {"a.bin", "sub/b.txt"}
    assert [path.name for path in user_folder().iterdir()] == ["model"]


def test_pull_again_fetches_only_what_is_damaged(server, entry):
    folder = pull(entry).folder
    server.asked.clear()
    assert pull(entry).folder == folder
    assert server.asked == []
    (folder / "sub" / "b.txt").write_text("wrong")
    pull(entry)
    assert server.asked == [("sub/b.txt", None)]
    assert (folder / "sub" / "b.txt").read_bytes() == b"words"


def test_pull_refuses_a_model_that_does_not_fit_the_disk(entry, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(WeightsError, match="disk"):
        pull(entry)
