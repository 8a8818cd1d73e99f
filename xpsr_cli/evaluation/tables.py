"""The numbers of an evaluation as tables of text, for whoever shows them: a terminal, a page."""

from __future__ import annotations

from dataclasses import dataclass

from xpsr_cli.evaluation.intervals import Interval
from xpsr_cli.evaluation.metric import Better, MetricFacts
from xpsr_cli.evaluation.paired import SIGNIFICANCE, Comparison
from xpsr_cli.evaluation.scores import Evaluation
from xpsr_cli.evaluation.statistics import Statistics, Summary, summarise

ARROWS = {Better.HIGHER: "↑", Better.LOWER: "↓", Better.NEAR_ONE: "→ 1"}
NOTHING = "–"
BEST_MARK = "*"
MOST_COLUMNS = 7
"""Metrics that stand beside one another."""


@dataclass(frozen=True)
class Cell:
    """One text of a table. ``best`` is set where a method beats all others; the text then ends in ``*``."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, rows of as many cells, and what one has to know to read them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def summary_tables(evaluation: Evaluation, reference: str | None = None) -> list[Table]:
    """What a terminal shows: the means of every method, and how the others compare with the reference.

    ``reference`` is the first method if ``None``; the second table is absent where there is but one method. Published
    numbers are in neither. Raises :class:`~xpsr_cli.errors.UsageError` for a reference that is none of the methods.
    """
    statistics = summarise(evaluation, reference)
    return [means_table(evaluation, statistics), *comparison_tables(evaluation, statistics)]


def means_table(evaluation: Evaluation, statistics: Statistics) -> Table:
    """One row per method, one column per metric: the mean and half its interval.

    More than ``MOST_COLUMNS`` metrics, if they are more than the methods, are the rows, and the methods the columns.
    """
    rows = [
        (Cell(method), *(_mean_cell(statistics, method, facts) for facts in evaluation.metrics))
        for method in evaluation.methods
    ]
    columns = ("Method", *(heading(facts) for facts in evaluation.metrics))
    if len(evaluation.metrics) > max(MOST_COLUMNS, len(evaluation.methods)):
        turned = list(zip((Cell("Metric"), *map(Cell, columns[1:])), *rows, strict=True))
        columns, rows = tuple(cell.text for cell in turned[0]), turned[1:]
    notes = ["The mean over the pictures ± half of its 95 % interval (percentile bootstrap, 10,000 resamples)."]
    if any(cell.best for row in rows for cell in row):
        notes.append(
            f"{BEST_MARK} Better than every other method on the same pictures: p < {SIGNIFICANCE:g} by Wilcoxon's "
            "signed-rank test, after Holm's correction for all pairs and metrics."
        )
    title = f"{evaluation.set.name}: {counted(len(evaluation.set.pairs), 'picture')}"
    return Table(
        title, columns, tuple(rows), (*notes, *_seeds(evaluation, statistics), *_gaps(evaluation, statistics))
    )


def comparison_tables(evaluation: Evaluation, statistics: Statistics) -> list[Table]:
    """How every other method compares with the reference under each metric; nothing for a single method."""
    rows = []
    for method in evaluation.methods:
        for facts in evaluation.metrics:
            comparison = statistics.against_reference(method, facts.key)
            if comparison is not None:
                rows.append(_comparison_row(comparison, facts))
    if not rows:
        return []
    notes = (
        "Gain: how much better a picture is, whatever the direction of the metric; its mean and 95 % interval.",
        "Wins: the share of pictures that are better than those of the reference; a tie counts as half.",
        "p: Wilcoxon's signed-rank test, two-sided, after Holm's correction for all pairs of methods and all metrics.",
    )
    columns = ("Method", "Metric", "Pictures", "Gain", "95 % interval", "Wins", "p (Holm)", "Verdict")
    return [Table(f"Against {statistics.reference}, picture by picture", columns, tuple(rows), notes)]


def detail_table(evaluation: Evaluation, statistics: Statistics) -> Table:
    """Every summary in full, one row per method and metric."""
    rows = []
    for facts in evaluation.metrics:
        for method in evaluation.methods:
            summary = statistics.summaries.get((method, facts.key))
            if summary is not None:
                rows.append(_detail_row(summary, facts))
    notes = (
        "Spread: the standard deviation between pictures. Seeds: that between the seeds of one picture, its mean over "
        "the pictures (G-STD). Worst 5 %: the mean of the worst scores, and whose they are.",
    )
    columns = (
        "Metric",
        "Method",
        "Pictures",
        "Mean",
        "95 % interval",
        "Spread",
        "Seeds",
        "Worst 5 %",
        "Their pictures",
    )
    return Table("All means and spreads", columns, tuple(rows), notes)


def heading(facts: MetricFacts) -> str:
    """A metric as the name of a column: label, unit, the better direction, and the protocol where there is one."""
    unit = f", {facts.unit}" if facts.unit else ""
    protocol = f" ({facts.protocol})" if facts.protocol else ""
    return f"{facts.label}{unit} {ARROWS[facts.better]}{protocol}"


def number(value: float | None, facts: MetricFacts, *, signed: bool = False) -> str:
    """A score in the decimals of its metric; a dash for none."""
    if value is None:
        return NOTHING
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "-∞"
    return f"{value:{'+' if signed else ''}.{facts.decimals}f}"


def p_value(p: float) -> str:
    """A p-value as people write it."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def counted(count: int, noun: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _mean_cell(statistics: Statistics, method: str, facts: MetricFacts) -> Cell:
    summary = statistics.summaries.get((method, facts.key))
    if summary is None or (summary.mean is None and not summary.infinite):
        return Cell(NOTHING)
    text = number(float("inf") if summary.mean is None else summary.mean, facts)
    if summary.interval is not None:
        text += f" ± {number(summary.interval.half, facts)}"
    best = statistics.best(facts.key) == method
    return Cell(f"{text} {BEST_MARK}" if best else text, best)


def _comparison_row(comparison: Comparison, facts: MetricFacts) -> tuple[Cell, ...]:
    pictures = f"{comparison.count:,}" + (f" ({comparison.left_out:,} left out)" if comparison.left_out else "")
    texts = (
        comparison.method,
        heading(facts),
        pictures,
        number(comparison.gain, facts, signed=True),
        _range(comparison.interval, facts, signed=True),
        f"{comparison.win_rate:.0%}",
        p_value(comparison.p_holm),
        comparison.verdict or "not told apart",
    )
    return tuple(Cell(text) for text in texts)


def _detail_row(summary: Summary, facts: MetricFacts) -> tuple[Cell, ...]:
    mean = float("inf") if summary.mean is None and summary.infinite else summary.mean
    names = ", ".join(summary.worst[:3]) + (f" and {len(summary.worst) - 3} more" if len(summary.worst) > 3 else "")
    texts = (
        heading(facts),
        summary.method,
        f"{summary.count:,}",
        number(mean, facts),
        _range(summary.interval, facts),
        number(summary.spread, facts),
        number(summary.seed_spread, facts),
        number(summary.worst_mean, facts),
        names or NOTHING,
    )
    return tuple(Cell(text) for text in texts)


def _range(interval: Interval | None, facts: MetricFacts, *, signed: bool = False) -> str:
    if interval is None:
        return NOTHING
    return f"{number(interval.low, facts, signed=signed)} to {number(interval.high, facts, signed=signed)}"


def _seeds(evaluation: Evaluation, statistics: Statistics) -> list[str]:
    """How much the scores of one picture differ between seeds, for the methods that have several."""
    notes = []
    for method in evaluation.methods:
        found = ((facts, statistics.summaries.get((method, facts.key))) for facts in evaluation.metrics)
        spreads = [
            f"{heading(facts)} {number(summary.seed_spread, facts)}"
            for facts, summary in found
            if summary is not None and summary.seed_spread is not None
        ]
        if spreads:
            count = counted(len(evaluation.seeds[method]), "seed")
            notes.append(f"{method}: {count}; standard deviation between those of one picture: {', '.join(spreads)}.")
    return notes


def _gaps(evaluation: Evaluation, statistics: Statistics) -> list[str]:
    """What the means do not hold: pictures without a score, and those that equal their originals."""
    notes = []
    for facts in evaluation.metrics:
        for method in evaluation.methods:
            summary = statistics.summaries.get((method, facts.key))
            if summary is not None and summary.absent:
                total = len(evaluation.set.pairs)
                notes.append(f"{method}: {summary.count:,} of {counted(total, 'picture')} have {heading(facts)}.")
            if summary is not None and summary.infinite:
                same = "equals its original" if summary.infinite == 1 else "equal their originals"
                notes.append(
                    f"{method}: {counted(summary.infinite, 'picture')} {same}; {heading(facts)} is infinite there and "
                    "left out of the mean."
                )
    return notes
