"""``xpsr caption --review``: what a person accepts or changes is theirs, at once, however the review ends."""

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from small_captioners import BrightnessCaptioner, choice_of, grey_photo

from xpsr_cli.captioning.captioning import Captioned, Origin, caption_photos
from xpsr_cli.captioning.captions import Caption
from xpsr_cli.captioning.regions import region_boxes
from xpsr_cli.captioning.sidecars import read_sidecar, write_sidecar
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.cli.caption_review import Reviewer, lines_of


@pytest.fixture
def photos(tmp_path):
    return [grey_photo(tmp_path / f"{number}.png", 10 + 20 * number) for number in range(4)]


class Person:
    """Answers the questions in order and remembers them; an exception among the answers is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, prompt, text):
        self.asked.append((prompt, text))
        answer = self.answers.pop(0)
        if isinstance(answer, type):
            raise answer
        return answer


def review(photos, person, *, boxes=None, refresh=False):
    """What the review gives of each photo, and what it says at its end."""
    reviewer = Reviewer(len(photos), again=refresh, ask=person)
    choice, decided = choice_of(BrightnessCaptioner()), []
    for item in caption_photos(photos, choice, CaptionStore(), boxes=boxes, refresh=refresh):
        decided.append(reviewer.decide(item))
        if decided[-1] is None:
            break
    return decided, reviewer.tally


def sidecars(photos):
    return [sidecar and (sidecar.caption.high, sidecar.by_person) for sidecar in map(read_sidecar, photos)]


def test_accept_edit_and_skip(photos, capsys):
    person = Person("a", "Edit", "a dark  wall ", "grainy", "s", "x", "", "accept")
    decided, tally = review(photos, person)
    assert sidecars(photos) == [
        ("a surface of brightness 10", True),
        ("a dark wall", True),
        None,
        ("a surface of brightness 70", True),
    ]
    assert person.asked[2:4] == [("high: ", "a surface of brightness 30"), ("low: ", "no noise")]
    assert [item.caption.captioner for item in decided] == ["person", "person", "brightness", "person"]
    assert [item.origin for item in decided] == [Origin.PERSON, Origin.PERSON, Origin.MADE, Origin.PERSON]
    assert tally == "2 accepted, 1 edited, 1 skipped."
    shown = capsys.readouterr().out
    assert f"[1/4] {photos[0]}, 24 x 16 pixels, by brightness" in shown
    assert "  high: a surface of brightness 10\n  low: no noise\n" in shown
    assert shown.count("Type a, e, s or q.") == 2


def test_what_is_decided_is_not_asked_again_unless_it_is_wanted(photos):
    review(photos[:2], Person("e", "a wall", "", "s"))
    _, tally = review(photos[:2], Person("a"))
    assert tally == "1 accepted, 1 decided before."
    again = Person("e", "a house", "", "s")
    review(photos[:2], again, refresh=True)
    assert again.asked[1] == ("high: ", "a wall")
    assert sidecars(photos[:2]) == [("a house", True), ("a surface of brightness 30", True)]


@pytest.mark.parametrize("leaving", ["q", EOFError])
def test_leaving_keeps_what_was_decided(photos, leaving):
    decided, _ = review(photos, Person("a", leaving))
    assert decided[-1] is None
    assert sidecars(photos) == [("a surface of brightness 10", True), None, None, None]


@pytest.mark.parametrize("leaving", [EOFError, KeyboardInterrupt])
def test_leaving_in_the_middle_of_an_edit_changes_nothing_of_that_photo(photos, leaving):
    with contextlib.suppress(KeyboardInterrupt):
        review(photos, Person("a", "e", "half an ed", leaving))
    assert sidecars(photos) == [("a surface of brightness 10", True), None, None, None]


def test_texts_of_regions_are_edited_too(photos):
    person = Person("e", "a wall", "sharp", "left half", "right half")
    review(photos[:1], person, boxes=lambda info: region_boxes(info, 12))
    assert [prompt for prompt, _ in person.asked[3:]] == ["12 x 16 at 0, 0: ", "12 x 16 at 12, 0: "]
    assert [region.high for region in read_sidecar(photos[0]).caption.regions] == ["left half", "right half"]


def test_a_text_that_is_left_as_it_is_stays_as_it_is(photos):
    write_sidecar(
        photos[0], Caption("\u200fa \U0001f469\u200d\U0001f467 \u0645\u06cc\u200c\u062e", "dark", "person"), "0"
    )
    before = read_sidecar(photos[0]).caption

    class Keeps(Person):
        def __call__(self, prompt, text):
            return super().__call__(prompt, text) or text

    review(photos[:1], Keeps("e", "", "darker"), refresh=True)
    after = read_sidecar(photos[0]).caption
    assert (after.high, after.low) == (before.high, "darker")


def test_keys_that_are_no_characters_leave_a_sidecar_that_can_be_read(photos):
    review(photos[:1], Person("e", "caf\udce9", "dark"))
    assert read_sidecar(photos[0]).caption.high == "caf?"


def test_a_photo_whose_name_is_no_text_is_reviewed(tmp_path, monkeypatch):
    try:
        photo = grey_photo(tmp_path / os.fsdecode(b"caf\xe9\x1b[2J.png"), 10)
    except OSError:
        pytest.skip("this file system takes no such names")
    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, encoding="utf-8"))
    _, tally = review([photo], Person("a"))
    assert tally == "1 accepted."
    assert b"\x1b" not in stream.getvalue()


def test_a_decision_that_cannot_be_written_is_the_photos_error(photos):
    (item,) = caption_photos(photos[:1], choice_of(BrightnessCaptioner()), CaptionStore())
    photos[0].with_name("0.caption.json").write_text("no caption")  # came while the person was thinking
    decided = Reviewer(1, ask=Person("a")).decide(item)
    assert "0.caption.json" in decided.error.message
    assert photos[0].with_name("0.caption.json").read_text() == "no caption"


def test_a_photo_that_failed_is_not_asked_about(photos):
    item = Captioned(photos[0], None, None)
    assert Reviewer(1, ask=Person()).decide(item) is item


def test_commands_to_the_terminal_are_not_shown():
    assert lines_of(Caption("a \x1b[2Jbarn", "", "one")) == ["  high: a \ufffd[2Jbarn", "  low: -"]
    assert lines_of(Caption("\U0001f469\u200d\U0001f467", "", "one"))[0] == "  high: \U0001f469\u200d\U0001f467"


@pytest.mark.parametrize("flags", [["--json"], ["--quiet"], ["--export", "x.jsonl"], ["--text-pairs", "texts"]])
def test_flags_that_do_not_go_with_it(xpsr, photos, flags):
    outcome = xpsr("caption", *photos, "--review", *flags)
    assert outcome.code == 2
    assert flags[0] in outcome.err


def test_nobody_is_asked_where_there_is_no_terminal(xpsr, photos):
    outcome = xpsr("caption", *photos, "--review")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no terminal" in outcome.err
    assert "Traceback" not in outcome.err


class Terminal:
    """The command in a pseudo-terminal, typed at as a person does: the next line when the question is there."""

    def __init__(self, arguments):
        import pty

        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "xpsr_cli", "caption", *map(str, arguments)]
        environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.shown, self.seen = "", 0

    def read_until(self, words, seconds=60):
        """Wait for ``words`` behind those that were waited for before; ``None`` is the end."""
        end = time.monotonic() + seconds
        while words is None or words not in self.shown[self.seen :]:
            assert time.monotonic() < end, self.shown
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(self.master, 4096)
            except OSError:  # how Linux says that the other side is closed
                piece = b""
            if not piece:
                assert words is None, self.shown
                return
            self.shown += piece.decode()
        self.seen = self.shown.index(words, self.seen) + len(words)

    def type(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        self.read_until(None)
        os.close(self.master)
        return self.process.wait(60)


needs_pty = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are those of POSIX")
QUESTION = "accept, edit, skip or quit? "


@needs_pty
def test_in_a_terminal(photos):
    terminal = Terminal([*photos, "--review"])
    terminal.read_until(QUESTION)
    terminal.type("a\r")
    terminal.read_until(QUESTION)
    terminal.type("e\r")
    terminal.read_until("high: ")
    terminal.type("a wall\r")
    terminal.read_until("low: ")
    terminal.read_until(read_sidecar(photos[0]).caption.low)  # the text is there to be changed
    terminal.type(", grainy\r")
    terminal.read_until(QUESTION)
    terminal.type("\x04")  # Ctrl-D
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown
    assert "1 accepted, 1 edited." in terminal.shown
    assert sidecars(photos) == [("", True), ("a wall", True), None, None]
    assert read_sidecar(photos[1]).caption.low.endswith(", grainy")
    assert read_sidecar(photos[1]).caption.low != ", grainy"
    assert json.loads(photos[1].with_name("1.caption.json").read_text())["captioner"] == "person"


def _interrupt_until(group, done):
    """Ctrl-C every three seconds: readline sleeps over one that comes between its question and its waiting."""
    while not done.is_set():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGINT)
        done.wait(3)


@needs_pty
def test_ctrl_c_keeps_what_was_decided(photos):
    terminal = Terminal([*photos, "--review"])
    terminal.read_until(QUESTION)
    terminal.type("a\r")
    terminal.read_until(QUESTION)
    interrupt = threading.Event()
    again = threading.Thread(target=_interrupt_until, args=(terminal.process.pid, interrupt))
    again.start()
    code = terminal.end()
    interrupt.set()
    again.join()
    assert code == 130
    assert "Interrupted." in terminal.shown
    assert "Traceback" not in terminal.shown
    assert [there is not None for there in sidecars(photos)] == [True, False, False, False]
