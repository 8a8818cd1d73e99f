"""Tables of an evaluation as HTML; every text in them is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from xpsr_cli.evaluation.tables import BEST_MARK, Cell, Table


def table_html(table: Table, *, kind: str = "", words: Sequence[str] = ()) -> str:
    """A table that scrolls on its own where the screen is narrow; the cells of columns named in ``words`` may wrap."""
    left = [table.is_text(column) for column in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{"" if left[column] else _NUMBER}>{escape(_unbroken(name))}</th>'
        for column, name in enumerate(table.columns)
    )
    wraps = [name in words for name in table.columns]
    body = "\n".join(f"<tr>{''.join(_cells(row, left, wraps))}</tr>" for row in table.rows)
    title = escape(table.title, quote=True)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<div class="scroll {kind}" role="region" aria-label="{title}" tabindex="0">\n'
        f'<table class="{kind}"><caption>{title}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n" + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


_NUMBER = ' class="number"'


def _cells(row: Sequence[Cell], left: Sequence[bool], wraps: Sequence[bool]) -> Iterator[str]:
    for index, cell in enumerate(row):
        if index == 0:
            yield f'<th scope="row">{escape(_unbroken(cell.text))}</th>'
            continue
        names = [name for name, is_so in _kinds(cell, is_text=left[index], wraps=wraps[index]) if is_so]
        mark = f' class="{" ".join(names)}"' if names else ""
        yield f"<td{mark}>{_marked(cell)}</td>"


def _marked(cell: Cell) -> str:
    """The text, with the mark of the best one where it does not push the digits out of line."""
    if not cell.best:
        return escape(cell.text)
    return f'{escape(cell.text.removesuffix(BEST_MARK).rstrip())}<span class="mark"> {BEST_MARK}</span>'


def _kinds(cell: Cell, *, is_text: bool, wraps: bool) -> list[tuple[str, bool]]:
    return [("number", not is_text), ("best", cell.best), ("wrap", wraps)]


def _unbroken(heading: str) -> str:
    """The name of a metric, whose arrow must not go to a line of its own."""
    return re.sub(r" (?=[↑↓→%]|1$|1 \()", "\u00a0", heading)
