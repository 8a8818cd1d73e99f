"""What is known of how numbers came about, whatever its shape, as HTML; every text in it is escaped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from html import escape
from typing import Any


def values_html(name: str, value: Any) -> str:
    """A value under a heading: what is said of each of several things stands in boxes to be opened.

    ``command`` is written as it is typed, and ``protocols`` stand open.
    """
    title = f"<h3>{escape(_words(name).capitalize())}</h3>\n"
    if name == "command" and not isinstance(value, str):
        return f"{title}<pre>{escape(shlex.join(map(str, value)))}</pre>"
    if isinstance(value, Mapping):
        things = {thing: about for thing, about in value.items() if isinstance(about, Mapping)}
        plain = {thing: about for thing, about in value.items() if thing not in things}
        opened = " open" if name == "protocols" else ""
        boxes = "\n".join(
            f"<details{opened}><summary>{escape(str(thing))}</summary>\n{_pairs(about)}</details>"
            for thing, about in things.items()
        )
        return title + (_pairs(plain) + "\n" if plain else "") + boxes
    return title + _text(value)


def is_empty(value: Any) -> bool:
    """Whether there is nothing to say."""
    return value is None or (isinstance(value, (str, Mapping, list, tuple)) and not value)


def _pairs(values: Mapping[str, Any]) -> str:
    rows = (f"<div><dt>{escape(_words(name))}</dt><dd>{_text(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="pairs">{"".join(rows)}</dl>'


def _text(value: Any) -> str:
    """A value as HTML, whatever it is."""
    if isinstance(value, Mapping):
        return _pairs(value)
    if isinstance(value, (list, tuple)):
        return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in value)}</ul>"
    return escape(str(value))


def _words(name: str) -> str:
    return str(name).replace("_", " ")
