"""The numbers of an evaluation as tables of text, for whoever shows them: a terminal, a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xpsr_cli.evaluation.intervals import Interval
from xpsr_cli.evaluation.metric import Better, MetricFacts
from xpsr_cli.evaluation.paired import SIGNIFICANCE, Comparison
from xpsr_cli.evaluation.protocols import PROTOCOLS
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

    def is_text(self, column: int) -> bool:
        """Whether a column holds words, not numbers, which stand to the right."""
        return not all(row[column].text[:1] in "+-–∞<.0123456789" for row in self.rows)


def summary_tables(
    evaluation: Evaluation, reference: str | None = None, most_columns: int = MOST_COLUMNS
) -> list[Table]:
    """What a terminal shows: the means of every method, and how the others compare with the reference.

    ``reference`` is the first method if ``None``; the second table is absent where there is but one method.
    ``most_columns`` is for :func:`means_table`. Published numbers are in neither. Raises
    :class:`~xpsr_cli.errors.UsageError` for a reference that is none of the methods.
    """
    statistics = summarise(evaluation, reference)
    return [means_table(evaluation, statistics, most_columns), *comparison_tables(evaluation, statistics)]


def means_table(evaluation: Evaluation, statistics: Statistics, most_columns: int = MOST_COLUMNS) -> Table:
    """One row per method, one column per metric: the mean and half its interval; of how many pictures, if not all.

    A metric that no picture has is named below. More than ``most_columns`` metrics, if they are more than the methods,
    are the rows, and the methods the columns.
    """
    metrics = [facts for facts in evaluation.metrics if _has_any(statistics, facts)]
    undefined = [facts for facts in evaluation.metrics if facts not in metrics]
    rows = [
        (Cell(method), *(_mean_cell(statistics, method, facts) for facts in metrics)) for method in evaluation.methods
    ]
    columns = ("Method", *(heading(facts) for facts in metrics))
    if len(metrics) > max(most_columns, len(evaluation.methods)):
        turned = list(zip((Cell("Metric"), *map(Cell, columns[1:])), *rows, strict=True))
        columns, rows = tuple(cell.text for cell in turned[0]), turned[1:]
    notes = ["The mean over the pictures ± half of its 95 % interval (percentile bootstrap, 10,000 resamples)."]
    if any(cell.best for row in rows for cell in row):
        notes.append(
            f"{BEST_MARK} Better than every other method on the same pictures: p < {SIGNIFICANCE:g} by Wilcoxon's "
            "signed-rank test, after Holm's correction for all pairs and metrics."
        )
    notes += _protocols(metrics)
    if whole := [heading(facts) for facts in metrics if facts.whole_set]:
        notes.append(f"{', '.join(whole)}: one value of all pictures, and the fewer they are, the larger it is.")
    if undefined:
        notes.append(f"No picture of any method has {', '.join(heading(facts) for facts in undefined)}.")
    notes += [*_seeds(evaluation, statistics), *_gaps(evaluation, statistics, metrics)]
    return Table(_title(evaluation), columns, tuple(rows), tuple(notes))


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
    notes = [
        "Gain: how much better a picture is, whatever the direction of the metric; its mean and 95 % interval.",
        "Wins: the share of pictures that are better than those of the reference; a tie counts as half.",
        "p: Wilcoxon's signed-rank test, two-sided, after Holm's correction for all pairs of methods and all metrics.",
    ]
    if any(summary.infinite for summary in statistics.summaries.values()):
        notes.append("A picture that equals its original wins or loses like others; its gain is left out of the mean.")
    if (least := _least_p(statistics)) >= SIGNIFICANCE:
        notes.append(f"With so few pictures no p is below {p_value(least)}, whatever the methods: more are needed.")
    columns = ("Method", "Metric", "Pictures", "Gain", "95 % interval", "Wins", "p (Holm)", "Verdict")
    return [Table(f"Against {statistics.reference}, picture by picture", columns, tuple(rows), tuple(notes))]


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
    text = f"{value:{'+' if signed else ''}.{facts.decimals}f}"
    return text if float(text) else text.lstrip("+-")


def p_value(p: float) -> str:
    """A p-value as people write it."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def counted(count: int, noun: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _title(evaluation: Evaluation) -> str:
    """The set, how many of its pictures, and by how much they are enlarged."""
    chosen = evaluation.set
    pictures = chosen.about.get("selection") or counted(len(chosen.pairs), "picture")
    scale = f", enlarged {chosen.scale:g} times" if chosen.scale is not None else ""
    return f"{chosen.name}: {pictures}{scale}"


def _has_any(statistics: Statistics, facts: MetricFacts) -> bool:
    return any(summary.count for (_, key), summary in statistics.summaries.items() if key == facts.key)


def _protocols(metrics: Sequence[MetricFacts]) -> list[str]:
    """What the protocols in the headings stand for."""
    names = dict.fromkeys(facts.protocol for facts in metrics if facts.protocol is not None)
    return [f"{name}: {PROTOCOLS[name].words}." for name in names if name in PROTOCOLS]


def _least_p(statistics: Statistics) -> float:
    """The smallest corrected p that so many pictures can give: that of one method which is better on all of them."""
    counts = [comparison.count for comparison in statistics.comparisons.values()]
    return min(1.0, len(counts) / 2 * 2.0 ** (1 - max(counts)))


def _mean_cell(statistics: Statistics, method: str, facts: MetricFacts) -> Cell:
    summary = statistics.summaries.get((method, facts.key))
    if summary is None or (summary.mean is None and not summary.infinite):
        return Cell(NOTHING)
    text = number(float("inf") if summary.mean is None else summary.mean, facts)
    if summary.interval is not None:
        text += f" ± {number(summary.interval.half, facts)}"
    if summary.absent:
        text += f" ({summary.count:,} of {summary.count + summary.absent:,})"
    best = statistics.best(facts.key) == method
    return Cell(f"{text} {BEST_MARK}" if best else text, best)


def _comparison_row(comparison: Comparison, facts: MetricFacts) -> tuple[Cell, ...]:
    pictures = f"{comparison.count:,}"
    if comparison.left_out:
        pictures += f" of {comparison.count + comparison.left_out:,}"
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


def _gaps(evaluation: Evaluation, statistics: Statistics, metrics: Sequence[MetricFacts]) -> list[str]:
    """What the means do not hold: pictures without a score, and those that equal their originals."""
    notes = []
    for method in evaluation.methods:
        lacking: dict[int, list[str]] = {}
        for facts in metrics:
            summary = statistics.summaries.get((method, facts.key))
            if summary is not None and summary.absent:
                lacking.setdefault(summary.count, []).append(heading(facts))
            if summary is not None and summary.infinite:
                same = "equals its original" if summary.infinite == 1 else "equal their originals"
                notes.append(
                    f"{method}: {counted(summary.infinite, 'picture')} {same}; {heading(facts)} is infinite there and "
                    "left out of the mean."
                )
        for count, names in lacking.items():
            have = f"{method}: {count:,} of {counted(len(evaluation.set.pairs), 'picture')} have {', '.join(names)}"
            notes.append(f"{have}; the means are over these alone." if count else f"{have}.")
    return notes
