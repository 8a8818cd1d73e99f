"""Words of a prompt that a prior was not trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence

_GLUE = frozenset({"a", "an", "and", "are", "at", "by", "in", "is", "of", "on", "or", "some", "the", "to", "with"})
_LISTED = 60


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, each once, in their order; numbers and signs are none."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*", text.lower())))


def unknown_words(text: str, vocabulary: Sequence[str]) -> list[str]:
    """The words of ``text`` that no entry of ``vocabulary`` has, but for articles and the like.

    Entries may be of several words; an empty vocabulary is one without limits.
    """
    if not vocabulary:
        return []
    known = {word for entry in vocabulary for word in words_of(entry)} | _GLUE
    return [word for word in words_of(text) if word not in known and not set(word.split("-")) <= known]


def in_words(vocabulary: Sequence[str]) -> str:
    """A vocabulary as a list for people, cut short where it is long."""
    listed = ", ".join(vocabulary[:_LISTED])
    more = len(vocabulary) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed
