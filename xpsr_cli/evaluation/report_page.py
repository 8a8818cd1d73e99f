"""The report of an evaluation as one web page that needs no network: tables, plots, pictures, and how it came about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from xpsr_cli.evaluation import cases
from xpsr_cli.evaluation.plots import Plot, all_plots
from xpsr_cli.evaluation.published import as_table, published_tables
from xpsr_cli.evaluation.scores import Evaluation
from xpsr_cli.evaluation.slider import page_assets, slider_html
from xpsr_cli.evaluation.statistics import Statistics
from xpsr_cli.evaluation.tables import (
    NOTHING,
    Cell,
    Table,
    comparison_tables,
    counted,
    detail_table,
    heading,
    means_table,
    number,
)

MOST_ROWS = 1500
"""Of the table of all pictures; ``per_image.csv`` has the others."""


def report_page(evaluation: Evaluation, statistics: Statistics) -> str:
    """The page; everything it shows is in it, and every name in it is escaped."""
    sections = {
        "Result": _results(evaluation, statistics),
        "Plots": _plots(all_plots(evaluation, statistics)),
        "Worst and best": _cases(evaluation, statistics),
        "How it was measured": _measured(evaluation),
        "Not computed": _not_computed(evaluation),
        "As reported by papers": _published(evaluation),
        "All pictures": _all_pictures(evaluation),
    }
    shown = {title: html for title, html in sections.items() if html}
    return Template(_asset("html")).substitute(
        title=escape(f"Evaluation on {evaluation.set.name}"),
        style=_asset("css"),
        script=_asset("js"),
        slider_assets=page_assets(),
        facts=_facts(evaluation, statistics),
        contents="\n".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in shown),
        sections="\n".join(_section(title, html) for title, html in shown.items()),
    )


def table_html(table: Table, *, kind: str = "", words: Sequence[str] = ()) -> str:
    """A table that scrolls on its own where the screen is narrow; the cells of columns named in ``words`` may wrap."""
    left = [_is_text(table, column) for column in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{"" if left[column] else _NUMBER}>{escape(name)}</th>'
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
            yield f'<th scope="row">{escape(cell.text)}</th>'
            continue
        names = [name for name, is_so in _kinds(cell, is_text=left[index], wraps=wraps[index]) if is_so]
        mark = f' class="{" ".join(names)}"' if names else ""
        yield f"<td{mark}>{escape(cell.text)}</td>"


def _kinds(cell: Cell, *, is_text: bool, wraps: bool) -> list[tuple[str, bool]]:
    return [("number", not is_text), ("best", cell.best), ("wrap", wraps)]


def _is_text(table: Table, column: int) -> bool:
    """Whether a column holds words, not numbers, which stand to the right."""
    return not all(row[column].text[:1] in "+-–∞<.0123456789" for row in table.rows)


def _results(evaluation: Evaluation, statistics: Statistics) -> str:
    tables = [means_table(evaluation, statistics), *comparison_tables(evaluation, statistics)]
    details = table_html(detail_table(evaluation, statistics), words=["Their pictures"])
    return (
        "\n".join(table_html(table) for table in tables)
        + f"\n<details><summary>Spreads, seeds and the worst 5 %</summary>\n{details}\n</details>"
    )


def _plots(plots: Sequence[Plot]) -> str:
    figures = "\n".join(
        f"<figure><h3>{escape(plot.title)}</h3>\n{_labelled(plot)}\n<figcaption>{escape(plot.about)}</figcaption></figure>"
        for plot in plots
    )
    return f'<div class="plots">\n{figures}\n</div>' if plots else ""


def _labelled(plot: Plot) -> str:
    return plot.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.title)}" ', 1)


def _cases(evaluation: Evaluation, statistics: Statistics) -> str:
    """Cards of pictures, as many as the page may weigh."""
    cards, left = [], cases.BYTES
    for case in cases.choose_cases(evaluation, statistics):
        pictures = cases.case_pictures(evaluation, statistics, case)
        size = sum(len(data) for _, data in pictures)
        if len(pictures) > 1 and size <= left:
            left -= size
            cards.append(_case(case, slider_html(pictures, title=case.pair.name)))
    if not cards:
        return ""
    metrics = " and ".join(heading(facts) for facts in cases.case_metrics(evaluation))
    about = (
        f"Of every method, the pictures with the worst and the best {metrics}. Of pictures above {cases.SIDE_PX} px "
        "the middle is shown. They are compressed for this page: judge the finest detail on the files themselves."
    )
    return f'<p>{escape(about)}</p>\n<div class="cases">\n' + "\n".join(cards) + "\n</div>"


def _case(case: cases.Case, slider: str) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in case.reasons)
    return f'<article class="case"><ul>{reasons}</ul>\n{slider}</article>'


def _facts(evaluation: Evaluation, statistics: Statistics) -> str:
    scale = evaluation.set.scale
    protocols = dict.fromkeys(facts.protocol for facts in evaluation.metrics if facts.protocol is not None)
    facts = {
        "Pictures": f"{len(evaluation.set.pairs):,}",
        "Scale": f"{scale:g}" if scale is not None else "",
        "Methods": ", ".join(_with_seeds(evaluation, method) for method in evaluation.methods),
        "Compared with": statistics.reference if len(evaluation.methods) > 1 else "",
        "Protocols": ", ".join(protocols),
    }
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items() if text
    )
    return f'<dl class="facts">{rows}</dl>'


def _with_seeds(evaluation: Evaluation, method: str) -> str:
    count = len(evaluation.seeds[method])
    return f"{method} ({count} seeds)" if count > 1 else method


def _measured(evaluation: Evaluation) -> str:
    """The set, the metrics, and whatever the evaluation knows of how it came about."""
    about = {str(name): text for name, text in evaluation.set.about.items()}
    parts = [_values("The pictures", about)] if about else []
    parts += [_values(_words(name), value) for name, value in evaluation.provenance.items()]
    return "\n".join(parts)


def _values(title: str, value: Any) -> str:
    """Nested values under a heading, the deeper ones to be opened."""
    if not isinstance(value, Mapping):
        return f"<h3>{escape(title)}</h3>\n<pre>{escape(_text(value))}</pre>"
    plain = {name: item for name, item in value.items() if not isinstance(item, Mapping)}
    rows = "".join(
        f"<div><dt>{escape(_words(name))}</dt><dd>{escape(_text(item))}</dd></div>" for name, item in plain.items()
    )
    deeper = "\n".join(
        f"<details><summary>{escape(str(name))}</summary>\n{_inner(item)}</details>"
        for name, item in value.items()
        if isinstance(item, Mapping)
    )
    return f"<h3>{escape(title)}</h3>\n" + (f'<dl class="pairs">{rows}</dl>\n' if rows else "") + deeper


def _inner(value: Mapping[str, Any]) -> str:
    texts = {
        _words(n): _inner(item) if isinstance(item, Mapping) else escape(_text(item)) for n, item in value.items()
    }
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{text}</dd></div>" for name, text in texts.items())
    return f'<dl class="pairs">{rows}</dl>'


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return str(value)


def _not_computed(evaluation: Evaluation) -> str:
    parts = []
    if evaluation.missing:
        items = "".join(
            f"<li><strong>{escape(missing.name)}</strong>: {escape(missing.reason)}"
            f"<pre>{escape(missing.command)}</pre></li>"
            for missing in evaluation.missing
        )
        parts.append(f"<h3>Metrics</h3>\n<ul>{items}</ul>")
    if evaluation.failures:
        columns = ("Picture", "Method", "Seed", "Reason")
        rows = tuple(
            tuple(Cell(text) for text in (failure.picture, failure.method, str(failure.seed), failure.reason))
            for failure in evaluation.failures
        )
        title = counted(len(rows), "picture") + " could not be scored"
        parts.append(table_html(Table(title, columns, rows), words=["Reason"]))
    return "\n".join(parts)


def _published(evaluation: Evaluation) -> str:
    tables = published_tables(evaluation.set.name)
    if not tables:
        return ""
    warning = (
        "These numbers were not computed here. They stand in papers, measured by other people under the protocol that "
        "is named. They cannot be ranked with one another across protocols, nor with the tables above."
    )
    shown = "\n".join(table_html(as_table(table)) for table in tables)
    return f'<p class="warning">{escape(warning)}</p>\n{shown}'


def _all_pictures(evaluation: Evaluation) -> str:
    """Every picture of every method: a table that can be sorted."""
    metrics = [facts for facts in evaluation.metrics if not facts.whole_set]
    several = any(len(seeds) > 1 for seeds in evaluation.seeds.values())
    rows = []
    for pair in evaluation.set.pairs:
        for method in evaluation.methods:
            for seed in evaluation.seeds[method]:
                found = [evaluation.scores.get((method, seed, pair.name, facts.key), math.nan) for facts in metrics]
                texts = (
                    NOTHING if math.isnan(score) else number(score, facts)
                    for score, facts in zip(found, metrics, strict=True)
                )
                names = (pair.name, method, str(seed)) if several else (pair.name, method)
                rows.append(tuple(Cell(text) for text in (*names, *texts)))
    if not rows or not metrics:
        return ""
    notes = ["Press the name of a column to sort by it."]
    if len(rows) > MOST_ROWS:
        notes.append(f"The first {MOST_ROWS:,} of {len(rows):,} rows; per_image.csv has all of them.")
    columns = ("Picture", "Method", *(("Seed",) if several else ()), *(heading(facts) for facts in metrics))
    table = Table("Scores of all pictures", columns, tuple(rows[:MOST_ROWS]), tuple(notes))
    summary = counted(len(evaluation.set.pairs), "picture")
    return f"<details><summary>{escape(summary)}</summary>\n{table_html(table, kind='tall sortable')}</details>"


def _section(title: str, html: str) -> str:
    anchor = _anchor(title)
    head = f'<h2 id="{anchor}-title">{escape(title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{head}\n{html}\n</section>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _asset(kind: str) -> str:
    return (files("xpsr_cli.evaluation") / "assets" / f"report.{kind}").read_text(encoding="utf-8")
