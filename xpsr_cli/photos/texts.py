"""Keywords with texts: a PNG's own, a JPEG's comments, and a place in XMP for formats that know neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Text = tuple[str, str]

COMMENT = "Comment"
"""The keyword of a text that came without one."""
MANIFEST = "xpsr"
"""The keyword of the text that says how xpsr made a picture."""


def texts_of(info: Mapping[Any, Any]) -> tuple[Text, ...]:
    """The texts in a Pillow-like ``info``: pairs under ``texts``, one or several of a JPEG under ``comment``.

    What travels in its own field (profiles, EXIF, XMP and IPTC that PNGs hold as text) is left out.
    """
    comments = info.get("comment") or ()
    if isinstance(comments, bytes | str):
        comments = (comments,)
    found = [(str(keyword), str(text)) for keyword, text in info.get("texts") or ()]
    found += [from_comment(comment) for comment in comments]
    apart = ("Raw profile type ", "XML:com.adobe.xmp")
    return tuple(pair for pair in dict.fromkeys(found) if not pair[0].startswith(apart) and pair[1])


def from_comment(comment: bytes | str) -> Text:
    """A JPEG's comment as a text; its bytes are UTF-8, or Latin-1 where they cannot be."""
    text = comment if isinstance(comment, str) else _decoded(comment.rstrip(b"\0"))
    mark = f"{MANIFEST}: "
    return (MANIFEST, text.removeprefix(mark)) if text.startswith(mark) else (COMMENT, text)


def to_comment(text: Text) -> bytes:
    """A text as a JPEG's comment: other keywords than "Comment" stand before it."""
    keyword, value = text
    return (value if keyword == COMMENT else f"{keyword}: {value}").encode()


def with_text(texts: Iterable[Text], keyword: str, value: str) -> tuple[Text, ...]:
    """The texts with one of that keyword, in place of any that were there."""
    return (*(pair for pair in texts if pair[0] != keyword), (keyword, value))


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
