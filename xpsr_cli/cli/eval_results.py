"""What a run of ``xpsr eval`` tells at its end: the tables, the report's files, and what is not in them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpsr_cli.cli.console import Console
from xpsr_cli.errors import PartialFailureError

if TYPE_CHECKING:
    from xpsr_cli.evaluation.datasets import Rejected
    from xpsr_cli.evaluation.report import Table
    from xpsr_cli.evaluation.scores import Evaluation, Failure

_TOLD = 5
_WIDTH_OF_A_PIPE = 200


def show(evaluation: Evaluation, output: Path, reference: str | None, console: Console) -> None:
    """Write the report, print the tables or the report as JSON, and say where the files are."""
    from xpsr_cli.evaluation.report import summary_tables, write_report

    paths = write_report(evaluation, output, reference=reference)
    report = next(path for path in paths if path.suffix == ".json")
    tables = summary_tables(evaluation, reference)
    console.result(json.loads(report.read_text(encoding="utf-8")), "\n\n".join(map(_drawn, tables)))
    for missing in evaluation.missing:
        console.note(f"missing: {missing.name}: {missing.reason.rstrip('.')}. To get it: {missing.command}")
    for line in evaluation.provenance["conversions"]:
        console.note(f"scored as 8-bit RGB: {line}")
    console.note(f"The report is in {', '.join(map(str, paths))}")


def tell_gaps(evaluation: Evaluation, rejected: Sequence[Rejected], console: Console) -> None:
    """What could not be scored, the first few of it one by one."""
    words = [f"{gap.picture}: {gap.reason}" for gap in rejected] + [_words(gap) for gap in evaluation.failures]
    for line in words[:_TOLD]:
        console.note(f"not scored: {line}")
    if len(words) > _TOLD:
        console.note(f"not scored: {len(words) - _TOLD} more, which the report names")


def raise_for_gaps(evaluation: Evaluation, rejected: Sequence[Rejected], output: Path) -> None:
    """:class:`PartialFailureError` if anything could not be scored."""
    counts = dict.fromkeys(evaluation.methods, 0)
    for failure in evaluation.failures:
        counts[failure.method] += 1
    clauses = [f"{count} of {method}" for method, count in counts.items() if count]
    if rejected:
        clauses.insert(0, f"{len(rejected)} of the set")
    if clauses:
        first = rejected[0].reason if rejected else evaluation.failures[0].reason
        raise PartialFailureError(
            f"Some pictures could not be scored: {', '.join(clauses)}. The first: {first}",
            f"The scores of the others are in {output}.",
        )


def _words(failure: Failure) -> str:
    seed = f", seed {failure.seed}" if failure.seed else ""
    return f"{failure.method}{seed}, {failure.picture}: {failure.reason}"


def _drawn(table: Table) -> str:
    """A table as text, as wide as the terminal; its colours only where there is one."""
    from rich.console import Console as RichConsole
    from rich.table import Table as RichTable

    drawing = RichTable(title=table.title, title_justify="left", title_style="bold")
    for number, column in enumerate(table.columns):
        drawing.add_column(column, justify="left" if number == 0 else "right")
    for row in table.rows:
        drawing.add_row(*(f"[bold]{_plain(cell.text)}[/bold]" if cell.best else _plain(cell.text) for cell in row))
    terminal = sys.stdout.isatty()
    text = io.StringIO()
    rich = RichConsole(file=text, force_terminal=terminal, width=None if terminal else _WIDTH_OF_A_PIPE)
    rich.print(drawing)
    for note in table.notes:
        rich.print(note, markup=False, style="dim", highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
