"""The report of an evaluation as one web page without a network: numbers, plots, pictures, and their origins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from xpsr_cli.evaluation import cases
from xpsr_cli.evaluation.html_tables import table_html
from xpsr_cli.evaluation.html_values import is_empty, values_html
from xpsr_cli.evaluation.plots import BOXES_SHOW, Plot, box_plots, overview_plots, with_own_ids
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
        "Plots": _plots(overview_plots(evaluation, statistics), box_plots(evaluation, statistics)),
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


def _results(evaluation: Evaluation, statistics: Statistics) -> str:
    tables = [means_table(evaluation, statistics), *comparison_tables(evaluation, statistics)]
    details = table_html(detail_table(evaluation, statistics), words=["Their pictures"])
    return (
        "\n".join(table_html(table) for table in tables)
        + f"\n<details><summary>Spreads, seeds and the worst 5 %</summary>\n{details}\n</details>"
    )


def _plots(overview: Sequence[Plot], boxes: Sequence[Plot]) -> str:
    figures = [
        f"<figure><h3>{escape(plot.title)}</h3>\n{svg}\n<figcaption>{escape(plot.about)}</figcaption></figure>"
        for plot, svg in _drawn(overview, "plot")
    ]
    parts = [_grid(figures)] if figures else []
    if boxes:
        small = [f"<figure>{svg}</figure>" for _, svg in _drawn(boxes, "box")]
        parts.append(f"<h3>Every metric</h3>\n<p>{escape(BOXES_SHOW)}</p>\n{_grid(small)}")
    return "\n".join(parts)


def _grid(figures: Sequence[str]) -> str:
    return '<div class="plots">\n' + "\n".join(figures) + "\n</div>"


def _drawn(plots: Sequence[Plot], word: str) -> Iterator[tuple[Plot, str]]:
    """Plots as elements with a name and with ids that no other plot of the page has."""
    for index, plot in enumerate(plots):
        svg = with_own_ids(plot.svg, f"{word}{index}-")
        yield plot, svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.title)}" ', 1)


def _cases(evaluation: Evaluation, statistics: Statistics) -> str:
    """Sliders of pictures, as many as the page may weigh."""
    sliders, left = [], cases.BYTES
    for case in cases.choose_cases(evaluation, statistics):
        pictures = cases.case_pictures(evaluation, statistics, case)
        size = sum(len(data) for _, data in pictures)
        if len(pictures) > 1 and size <= left:
            left -= size
            sliders.append(slider_html(pictures, title=case.pair.name, note=case.why))
    if not sliders:
        return ""
    metrics = " and ".join(heading(facts) for facts in cases.case_metrics(evaluation))
    about = (
        f"Of every method, the pictures with the worst and the best {metrics}. Of pictures above {cases.SIDE_PX} px "
        "the middle is shown. They are compressed for this page: judge the finest detail on the files themselves."
    )
    return f'<p>{escape(about)}</p>\n<div class="cases">\n' + "\n".join(sliders) + "\n</div>"


def _facts(evaluation: Evaluation, statistics: Statistics) -> str:
    scale = evaluation.set.scale
    protocols = dict.fromkeys(facts.protocol for facts in evaluation.metrics if facts.protocol is not None)
    facts = {
        "Pictures": evaluation.set.about.get("selection") or f"{len(evaluation.set.pairs):,}",
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
    """The set, the command, the protocols in words, and whatever else is known of how the numbers came about."""
    known: dict[str, Any] = {"pictures": evaluation.set.about, **evaluation.provenance}
    single = {name: value for name, value in known.items() if isinstance(value, str) and name != "command"}
    known = {name: value for name, value in known.items() if name not in single} | {"program": single}
    first = [name for name in ("pictures", "command", "protocols", "notes", "program") if name in known]
    shown = [name for name in dict.fromkeys((*first, *known)) if not is_empty(known[name])]
    return "\n".join(values_html(name, known[name]) for name in shown)


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
    tables = published_tables(evaluation.set.known)
    if not tables:
        return ""
    warning = (
        "These numbers were not computed here. They stand in papers, measured by other people under the protocol that "
        "is named. They cannot be ranked with one another across protocols, nor with the tables above."
    )
    if selection := evaluation.set.about.get("selection"):
        warning += f" They are of the whole set, and the tables above of {selection}."
    shown = "\n".join(table_html(as_table(table), words=["Source"]) for table in tables)
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
