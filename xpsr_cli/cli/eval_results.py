"""What a run of ``xpsr eval`` tells at its end: the tables, the report's files, and what is not in them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from xpsr_cli.cli.console import Console
from xpsr_cli.errors import PartialFailureError

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from xpsr_cli.evaluation.datasets import Rejected
    from xpsr_cli.evaluation.report import Table
    from xpsr_cli.evaluation.scores import Evaluation, Failure

_TOLD = 5
_WIDTH_OF_A_PIPE = 200
_NARROW, _COLUMNS_IF_NARROW = 120, 3  # characters, and metrics that stand beside one another then


def show(evaluation: Evaluation, output: Path, reference: str | None, console: Console) -> None:
    """Write the report, print the tables or the report as JSON, and say where the files are."""
    from xpsr_cli.evaluation.report import summary_tables, write_report

    paths = write_report(evaluation, output, reference=reference)
    report = next(path for path in paths if path.suffix == ".json")
    width = get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    tables = summary_tables(evaluation, reference, *([_COLUMNS_IF_NARROW] if width < _NARROW else []))
    drawn = "\n\n".join(drawn_table(table, width) for table in tables)
    console.result(json.loads(report.read_text(encoding="utf-8")), drawn)
    causes: dict[tuple[str, str], list[str]] = {}
    for missing in evaluation.missing:
        causes.setdefault((missing.reason.rstrip("."), missing.command), []).append(missing.name)
    for (why, command), names in causes.items():
        console.note(f"missing: {', '.join(names)}: {why}. To get {'it' if len(names) == 1 else 'them'}: {command}")
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


def drawn_table(table: Table, width: int) -> str:
    """A table as text of at most ``width`` characters; its colours only where there is a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console as RichConsole
    from rich.table import Table as RichTable

    gap = 0 if width < _NARROW else 1
    drawing = RichTable(box=SIMPLE_HEAD, show_edge=False, padding=(0, gap))
    for number, column in enumerate(table.columns):
        is_text = table.is_text(number)
        drawing.add_column(_plain(column), justify="left" if is_text else "right", overflow="fold")
    for row in table.rows:
        drawing.add_row(*(f"[bold]{_plain(cell.text)}[/bold]" if cell.best else _plain(cell.text) for cell in row))
    _keep_numbers_whole(drawing, table, width)
    text = io.StringIO()
    rich = RichConsole(file=text, force_terminal=sys.stdout.isatty(), width=width)
    rich.print(table.title, style="bold", markup=False, highlight=False)
    rich.print(drawing)
    for note in table.notes:
        rich.print(note, markup=False, style="dim", highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _keep_numbers_whole(drawing: RichTable, table: Table, width: int) -> None:
    """Let only words break into lines, if that is enough for a table to fit."""
    from rich.cells import cell_len

    numbers = [number for number in range(len(table.columns)) if not table.is_text(number)]
    longest = -1  # nothing stands behind the last column
    for number, heading in enumerate(table.columns):
        texts = [row[number].text for row in table.rows]
        whole = texts if number in numbers else [word for text in texts for word in text.split()]
        longest += max(map(cell_len, [*whole, *heading.split()]), default=0) + 2 * drawing.padding[1] + 1
    for number in numbers if longest <= width else ():
        drawing.columns[number].no_wrap = True


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
