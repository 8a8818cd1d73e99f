"""``xpsr caption --review``: a person goes through the captions in the terminal; what they say is kept as theirs.

Every decision is written beside its photo at once, so that leaving at any moment loses none.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from xpsr_cli.cli.console import printable
from xpsr_cli.errors import PhotoError, UsageError

if TYPE_CHECKING:
    from xpsr_cli.captioning.captioning import Captioned
    from xpsr_cli.captioning.captions import Box, Caption

_QUESTION = "accept, edit, skip or quit? "
_DECISIONS = ("accept", "edit", "skip", "quit")


def check_terminal() -> None:
    """:class:`UsageError` where nobody can be asked."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "--review asks questions, and this is no terminal.", "Run it in a terminal, or change the sidecars."
        )


def ask_at_terminal(prompt: str, text: str = "") -> str:
    """A line that a person types, beginning with ``text`` to be changed.

    Where the system cannot fill a line in, ``text`` is shown, Enter keeps it and ``-`` empties it.
    """
    try:
        import readline
    except ImportError:  # as on Windows
        answer = input(f"{prompt}[{text}; Enter keeps it, - empties it] " if text else prompt)
        return "" if answer == "-" else answer or text
    readline.set_startup_hook(lambda: readline.insert_text(text))
    try:
        return input(prompt)
    finally:
        readline.set_startup_hook(None)


class Reviewer:
    """Asks about one photo after the other."""

    def __init__(self, count: int, *, again: bool = False, ask: Callable[[str, str], str] = ask_at_terminal) -> None:
        """``count`` photos will come; ``again`` asks about those that a person has decided on before, too."""
        self._count = count
        self._again = again
        self._ask = ask
        self._seen = 0
        self._tally: Counter[str] = Counter()

    @property
    def tally(self) -> str:
        """What was decided, as a sentence."""
        counts = [f"{count} {what}" for what, count in sorted(self._tally.items())]
        return f"{', '.join(counts)}." if counts else "Nothing was decided."

    def decide(self, item: Captioned) -> Captioned | None:
        """The photo as a person leaves it, with an error if that cannot be written; ``None`` ends the review."""
        from xpsr_cli.captioning.captioning import Origin

        self._seen += 1
        if item.caption is None:
            return item
        if item.origin is Origin.PERSON and not self._again:
            self._tally["decided before"] += 1
            return item
        place = f"[{self._seen}/{self._count}] {item.photo}, {_size(item)}, by {item.caption.captioner}"
        _say(f"\n{printable(place)}")
        for line in lines_of(item.caption):
            _say(line)
        try:
            decision = self._decision()
            if decision == "quit":
                return None
            if decision == "skip":
                self._tally["skipped"] += 1
                return item
            caption = self._edited(item.caption) if decision == "edit" else item.caption
        except EOFError:
            _say("")
            return None
        return self._keep(item, caption)

    def _decision(self) -> str:
        while True:
            answer = self._ask(_QUESTION, "").strip().lower()
            for decision in _DECISIONS:
                if answer and decision.startswith(answer):
                    return decision
            _say("Type a, e, s or q.")

    def _edited(self, caption: Caption) -> Caption:
        high, low = self._changed("high", caption.high), self._changed("low", caption.low)
        regions = tuple(
            replace(region, high=self._changed(_place(region.box), region.high)) for region in caption.regions
        )
        return replace(caption, high=high, low=low, regions=regions)

    def _changed(self, name: str, text: str) -> str:
        """A text as the person leaves it; what cannot be shown of it stays, too, if nothing was changed."""
        from xpsr_cli.captioning.captions import one_line

        answer = self._ask(f"{name}: ", printable(text))
        if answer == printable(text):
            return text
        return one_line(answer.encode("utf-8", "replace").decode())  # keys of another encoding are no characters

    def _keep(self, item: Captioned, caption: Caption) -> Captioned:
        from xpsr_cli.captioning.captioning import Origin
        from xpsr_cli.captioning.sidecars import write_sidecar

        assert item.sha256 is not None
        try:
            sidecar = write_sidecar(item.photo, caption, item.sha256)
        except PhotoError as error:
            return replace(item, error=error)
        self._tally["accepted" if caption == item.caption else "edited"] += 1
        return replace(item, caption=sidecar.caption, origin=Origin.PERSON)


def lines_of(caption: Caption) -> list[str]:
    """A caption as a person sees it."""
    texts = {"high": caption.high, "low": caption.low}
    texts |= {_place(region.box): region.high for region in caption.regions}
    return [f"  {name}: {printable(text) or '-'}" for name, text in texts.items()]


def _place(box: Box) -> str:
    return f"{box.width} x {box.height} at {box.left}, {box.top}"


def _size(item: Captioned) -> str:
    from xpsr_cli.photos.source import open_photo

    try:
        with open_photo(item.photo) as photo:
            return f"{photo.info.width} x {photo.info.height} pixels"
    except PhotoError:  # a person may have described what cannot be read
        return "size unknown"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
