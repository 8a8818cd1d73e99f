"""The journal: what is done is known, what has changed is said by name, and a kill at any moment costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.upscaling.journal import FOLDER, Journal, State

MAKING = {"settings": {"scale": 2.0, "color_fix": None}, "weights": "abc", "version": "1"}


@pytest.fixture
def source(tmp_path):
    """A photo, as far as the journal cares."""
    path = tmp_path / "in" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a photo")
    return path


@pytest.fixture
def out(tmp_path):
    """The folder of the results."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def make(journal, source, target, making=MAKING, content=b"a result"):
    """Do one photo as the command does."""
    with journal.claim(source, target, making) as claim:
        claim.temporary.write_bytes(content)
        claim.temporary.rename(claim.complete)
        claim.commit()


def visible(folder):
    """The files a user sees."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and FOLDER not in p.parts)


def kept(folder):
    """What lies in the journal's folder."""
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def state(source, target, making=MAKING, folder=None):
    """What a fresh process would find."""
    return Journal(target.parent, folder=folder).status(source, target, making).state


def test_a_finished_photo_is_known_and_only_the_journal_is_left(source, out):
    target, journal = out / "a.png", Journal(out)
    assert journal.status(source, target, MAKING).state is State.NEW
    make(journal, source, target)
    journal.close()
    assert (visible(out), kept(out)) == (["a.png"], ["journal.jsonl"])
    assert target.read_bytes() == b"a result"
    status = Journal(out).status(source, target, MAKING)
    assert (status.state, status.words) == (State.DONE, "was done before")


def test_the_folder_can_be_moved_and_times_may_be_lost(source, out, tmp_path):
    make(Journal(out), source, out / "a.png")
    moved = out.rename(tmp_path / "moved")
    for path in (moved / "a.png", source):
        os.utime(path, ns=(1, 1))
    assert state(source, moved / "a.png") is State.DONE


@pytest.mark.parametrize(
    ("making", "words"),
    [
        ({**MAKING, "settings": {"scale": 4.0, "color_fix": None}}, "scale was 2.0 and is 4.0"),
        ({**MAKING, "settings": {"scale": 2.0, "color_fix": "adain"}}, 'color-fix was unset and is "adain"'),
        ({**MAKING, "weights": "abd"}, 'weights was "abc" and is "abd"'),
        ({**MAKING, "version": "2"}, 'version was "1" and is "2"'),
        ({**MAKING, "version": "2", "weights": "x"}, 'version was "1" and is "2"; weights was "abc" and is "x"'),
    ],
)
def test_a_change_is_said_by_name(source, out, making, words):
    make(Journal(out), source, out / "a.png")
    status = Journal(out).status(source, out / "a.png", making)
    assert status.state is State.DIFFERS
    assert status.words == f"exists and was made differently: {words}"


def test_another_photo_is_noticed_and_the_same_one_again_is_not(source, out):
    make(Journal(out), source, out / "a.png")
    source.write_bytes(b"A photo")
    status = Journal(out).status(source, out / "a.png", MAKING)
    assert (status.state, status.words) == (
        State.DIFFERS,
        "exists and was made differently: the photo was another one",
    )
    source.write_bytes(b"a photo")
    assert state(source, out / "a.png") is State.DONE


def test_foreign_and_changed_results_are_unknown(source, out):
    (out / "a.png").write_bytes(b"mine")
    assert Journal(out).status(source, out / "a.png", MAKING).words == "exists"
    make(Journal(out), source, out / "a.png")
    (out / "a.png").write_bytes(b"A result")
    status = Journal(out).status(source, out / "a.png", MAKING)
    assert (status.state, status.words) == (State.UNKNOWN, "exists and is not as xpsr left it")


def test_a_result_made_anew_is_known_whichever_file_remembers_it(source, out):
    target = out / "a.png"
    make(Journal(out), source, target)
    other = {**MAKING, "version": "2"}
    make(Journal(out, shard="1 of 2"), source, target, other, b"another result")
    assert state(source, target, other) is State.DONE
    assert state(source, target) is State.DIFFERS
    make(Journal(out), source, target)
    assert state(source, target) is State.DONE


def test_shards_write_files_of_their_own_and_read_all(source, out):
    make(Journal(out, shard="3 of 8"), source, out / "a.png")
    assert kept(out) == ["journal-3-of-8.jsonl"]
    assert Journal(out, shard="4 of 8").status(source, out / "a.png", MAKING).state is State.DONE


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\x00" * 50,
        b"[]\n",
        b'"x"\n',
        b"{}\n",
        b'{"output": "a.png"}\n',
        b"\xff\xfe\n\n\n",
        b'{"output": "a.png", "key": "", "making": {}, "input": 1, "result": null}\n',
        b'{"output": "a.png", "key": "", "making": 1, "input": {}, "result": {}}\n',
    ],
)
def test_damaged_lines_count_for_nothing_and_the_next_one_stands_alone(source, out, damage):
    first, second = out / "a.png", out / "b.png"
    make(Journal(out), source, first)
    with (out / FOLDER / "journal.jsonl").open("ab") as stream:
        stream.write(damage)
    assert state(source, first) is State.DONE
    make(Journal(out), source, second)
    assert [state(source, path) for path in (first, second)] == [State.DONE, State.DONE]


def test_every_torn_end_loses_no_more_than_its_line(source, out):
    make(Journal(out), source, out / "a.png")
    path = out / FOLDER / "journal.jsonl"
    whole = path.read_bytes()
    make(Journal(out), source, out / "b.png")
    both = path.read_bytes()
    for length in range(len(whole), len(both), 37):
        path.write_bytes(both[:length])
        assert state(source, out / "a.png") is State.DONE
        assert state(source, out / "b.png") is State.UNKNOWN
    make(Journal(out), source, out / "b.png")
    assert state(source, out / "b.png") is State.DONE


def test_a_complete_result_that_was_recorded_is_put_in_its_place(source, out):
    """Killed between the journal and the rename."""
    target, journal = out / "a.png", Journal(out)
    make(journal, source, target)
    with journal.claim(source, target, MAKING) as claim:
        complete = claim.complete
        work = claim.work_folder
    target.rename(complete)
    work.mkdir()
    (work / "latents").write_bytes(b"1")
    (out / FOLDER / complete.name).with_suffix(".png.part").write_bytes(b"half")
    assert visible(out) == []
    Journal(out).recover()
    assert (visible(out), kept(out)) == (["a.png"], ["journal.jsonl"])
    assert state(source, target) is State.DONE


def test_a_foreign_file_is_not_replaced_when_a_killed_run_is_recovered(source, out):
    target, journal = out / "a.png", Journal(out)
    make(journal, source, target)
    with journal.claim(source, target, MAKING) as claim:
        complete = claim.complete
    target.rename(complete)
    target.write_bytes(b"mine")
    Journal(out).recover()
    assert target.read_bytes() == b"mine"
    Journal(out).recover(overwrite=True)
    assert target.read_bytes() == b"a result"


def test_what_cannot_be_a_recorded_result_is_not_put_in_its_place(source, out):
    target, journal = out / "a.png", Journal(out)
    make(journal, source, target)
    with journal.claim(source, target, MAKING) as claim:
        complete = claim.complete
    target.unlink()
    complete.write_bytes(b"a resulT")
    Journal(out).recover()
    assert visible(out) == []


def test_work_goes_on_with_the_same_settings_only(source, out):
    target, journal, identity = out / "a.png", Journal(out), {"device": "cpu"}

    def work_of(making, identity, name="latents"):
        with suppress(KeyboardInterrupt), journal.claim(source, target, making, identity) as claim:
            found = [path.name for path in claim.work_folder.glob("*")]
            claim.work_folder.mkdir(exist_ok=True)
            (claim.work_folder / name).write_bytes(b"1")
            claim.temporary.write_bytes(b"half")
            raise KeyboardInterrupt
        return found

    assert work_of(MAKING, identity) == []
    assert work_of(MAKING, identity) == ["latents"]
    assert work_of(MAKING, {"device": "cuda"}) == []
    assert work_of({**MAKING, "version": "2"}, identity) == []
    assert work_of(MAKING, identity) == []
    source.write_bytes(b"changed")
    assert work_of(MAKING, identity) == []
    assert len(kept(out)) == 1  # one work folder and no half file
    make(journal, source, target)
    assert kept(out) == ["journal.jsonl"]


def test_a_failure_leaves_nothing(source, out):
    journal = Journal(out)
    with suppress(ValueError), journal.claim(source, out / "a.png", MAKING) as claim:
        claim.work_folder.mkdir()
        claim.temporary.write_bytes(b"half")
        claim.complete.write_bytes(b"whole")
        raise ValueError
    journal.close()
    assert list(out.iterdir()) == []


def test_a_photo_that_changes_or_vanishes_under_the_work_is_refused(source, out):
    journal = Journal(out)
    for change in (lambda: source.write_bytes(b"b photo"), source.unlink):
        with refusal(PhotoError, source, "changed while"), journal.claim(source, out / "a.png", MAKING) as claim:
            claim.complete.write_bytes(b"a result")
            change()
            claim.commit()
    with refusal(PhotoError, source, "cannot be read"), journal.claim(source, out / "a.png", MAKING):
        pass
    journal.close()
    assert list(out.iterdir()) == []


HOLDER = """
import sys
from pathlib import Path
from xpsr_cli.upscaling.journal import Journal
source, target = map(Path, sys.argv[1:])
with Journal(target.parent).claim(source, target, {}) as claim:
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_work_on_one_photo_and_a_killed_one_holds_nothing(source, out):
    target, journal = out / "a.png", Journal(out)
    command = [sys.executable, "-c", HOLDER, source, target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with refusal(PhotoError, "Another xpsr is at work", target), journal.claim(source, target, MAKING):
            pass
        make(journal, source, out / "b.png")
        journal.close()  # must not take the folder from under the other one
        assert holder.poll() is None
        holder.kill()
        holder.wait()
    make(journal, source, target)
    assert kept(out) == ["journal.jsonl"]


def test_what_another_process_finished_meanwhile_is_seen_under_the_claim(source, out):
    target, journal = out / "a.png", Journal(out)
    assert journal.status(source, target, MAKING).state is State.NEW
    make(Journal(out), source, target)
    with journal.claim(source, target, MAKING) as claim:
        assert claim.status.state is State.DONE


def test_a_folder_of_ones_own_for_the_journal(source, out, tmp_path):
    work = tmp_path / "work" / "deep"
    journal = Journal(out, folder=work)
    make(journal, source, out / "a.png")
    journal.close()
    assert [path.name for path in out.iterdir()] == ["a.png"]
    assert [path.name for path in work.iterdir()] == ["journal.jsonl"]
    assert state(source, out / "a.png", folder=work) is State.DONE
    (out / "sub").mkdir()
    assert state(source, out / "sub" / "a.png", folder=work) is State.NEW


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system")
def test_a_journal_on_another_disk_still_renames(source, out):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == out.stat().st_dev:
            pytest.skip("it is the same file system")
        journal = Journal(out, folder=Path(elsewhere))
        with suppress(KeyboardInterrupt), journal.claim(source, out / "a.png", MAKING) as claim:
            claim.temporary.write_bytes(b"half")
            assert [path.name[0] for path in out.iterdir()] == ["."]
            raise KeyboardInterrupt
        assert list(out.iterdir()) == []
        make(journal, source, out / "a.png")
        assert [path.name for path in out.iterdir()] == ["a.png"]


def test_a_link_stays_a_link(source, out, tmp_path):
    real = tmp_path / "real.png"
    real.write_bytes(b"old")
    (out / "a.png").symlink_to(real)
    make(Journal(out), source, out / "a.png")
    assert (out / "a.png").is_symlink()
    assert real.read_bytes() == b"a result"
    assert state(source, out / "a.png") is State.DONE


def test_a_disk_that_is_full_is_one_sentence_and_the_journal_is_intact(source, out):
    if not Path("/dev/full").exists():
        pytest.skip("there is no full disk here")
    make(Journal(out), source, out / "a.png")
    journal = Journal(out, shard="1 of 2")
    (out / FOLDER / "journal-1-of-2.jsonl").symlink_to("/dev/full")
    with refusal(PhotoError, out / "b.png", "No space left", "Make room"):
        make(journal, source, out / "b.png")
    assert visible(out) == ["a.png"]
    (out / FOLDER / "journal-1-of-2.jsonl").unlink()
    assert state(source, out / "a.png") is State.DONE
    assert state(source, out / "b.png") is State.NEW


def test_each_record_is_one_line_that_any_program_reads(source, out):
    make(Journal(out), source, out / "a.png")
    (record,) = map(json.loads, (out / FOLDER / "journal.jsonl").read_text().splitlines())
    assert record["output"] == "a.png"
    assert set(record) == {"output", "input", "key", "making", "result"}
    assert record["making"] == MAKING
    assert record["input"]["size"] == len(b"a photo")
