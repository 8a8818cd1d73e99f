"""``xpsr weights`` as its user meets it."""

import hashlib
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xpsr_cli import weights
from xpsr_cli.cli import weights as weights_command
from xpsr_cli.errors import ExitCode
from xpsr_cli.weights import Kind, WeightsEntry, WeightsFile


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """A small model in the registry whose only source is a server on this machine."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.txt").write_text("weights")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = f"http://127.0.0.1:{server.server_port}/{{path}}"
    entry = WeightsEntry(
        "model", Kind.BASE, "what it is", "a licence", (WeightsFile("a.txt", 7),), (source,), page="https://page"
    )
    monkeypatch.setattr(weights, "load_registry", lambda: {"model": entry})
    monkeypatch.setattr(weights_command, "load_registry", lambda: {"model": entry})
    yield entry
    server.shutdown()
    server.server_close()


def test_list_names_every_model_with_its_licence(xpsr):
    outcome = xpsr("weights", "list")
    assert outcome.code == 0
    for entry in weights.load_registry().values():
        line = next(line for line in outcome.out.splitlines() if line.startswith(entry.name + " "))
        assert entry.licence in line
        assert entry.about in line
    records = [json.loads(line) for line in xpsr("weights", "list", "--json").out.splitlines()]
    assert [record["name"] for record in records] == list(weights.load_registry())


def test_pull_shows_the_licence_and_asks_first(xpsr, entry, monkeypatch):
    outcome = xpsr("weights", "pull", "model")
    assert outcome.code == ExitCode.USAGE
    assert "a licence" in outcome.err
    assert "--yes" in outcome.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question, err: False)
    assert xpsr("weights", "pull", "model").code == 0
    assert not weights.user_folder().exists()


def test_pull_then_path_then_verify(xpsr, entry):
    digest = hashlib.sha256(b"weights").hexdigest()
    outcome = xpsr("weights", "pull", "model", "--yes")
    folder = weights.user_folder() / "model"
    assert outcome.code == 0
    assert outcome.out == f"{folder}\n"
    assert f"not pinned by the registry, recorded on arrival: {digest}  a.txt" in outcome.err
    assert xpsr("weights", "path", "model").out == f"{folder}\n"
    assert xpsr("weights", "verify").out.split() == ["ok", "model/a.txt"]

    (folder / "a.txt").write_text("Weights")
    outcome = xpsr("weights", "verify", "model")
    assert outcome.code == ExitCode.WEIGHTS
    assert "model/a.txt is damaged" in outcome.err
    assert xpsr("weights", "pull", "model", "--yes", "--quiet") == (0, "", "")
    assert (folder / "a.txt").read_text() == "weights"


def test_what_cannot_be_downloaded_says_how_it_gets_here(xpsr):
    outcome = xpsr("weights", "pull", "xpsr", "--yes")
    assert outcome.code == ExitCode.WEIGHTS
    assert "https://github.com/qyp2000/XPSR" in outcome.err
    assert "xpsr weights import xpsr FOLDER" in outcome.err


def test_path_of_what_is_not_here_is_a_weights_error(xpsr):
    outcome = xpsr("weights", "path", "llava-1.5-7b")
    assert (outcome.code, outcome.out) == (ExitCode.WEIGHTS, "")
    assert "xpsr weights pull llava-1.5-7b" in outcome.err


@pytest.mark.parametrize("command", ["path", "verify", "pull"])
def test_an_unknown_name_lists_the_known_ones(xpsr, command):
    outcome = xpsr("weights", command, "nothing")
    assert outcome.code == ExitCode.WEIGHTS
    assert "'nothing'" in outcome.err
    assert "xpsr-mini" in outcome.err


def test_import_of_a_folder_that_is_not_there(xpsr, tmp_path):
    outcome = xpsr("weights", "import", "xpsr", tmp_path / "nowhere")
    assert outcome.code == ExitCode.USAGE
    assert "nowhere" in outcome.err


def test_what_is_used_where_it_lies_has_no_size(xpsr):
    rows = {line.split()[0]: line for line in xpsr("weights", "list").out.splitlines()}
    assert " 0 MB" not in rows["karlo-v1"]
    assert " MB" in rows["xpsr-explore"]


def test_a_prior_that_ships_is_not_imported(xpsr, tmp_path):
    outcome = xpsr("weights", "import", "xpsr-explore", tmp_path)
    assert outcome.code == 2
    assert "give it to --prior" in outcome.err
