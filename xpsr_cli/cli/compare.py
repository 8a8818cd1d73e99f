"""``xpsr compare``: two or more pictures, or folders of them, on one page with sliders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpsr_cli.cli.console import Console, print_error, quiet_third_parties
from xpsr_cli.cli.options import ConfigOption, DebugFlag, JsonFlag, QuietFlag
from xpsr_cli.errors import PartialFailureError, UsageError


def compare(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUTS...", help="Two or more pictures, or two or more folders.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, .html.")] = Path("compare.html"),
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default="the names")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Lay pictures over each other on a page: a line to drag, one zoom for all, and a map of their difference.

    Of folders, pictures of the same name are compared. The page is one file that holds the pictures, with whatever
    else is in their files, and needs no network.
    """
    if not debug:
        quiet_third_parties()
    from xpsr_cli.evaluation.compare_page import check_page, file_size, write_comparisons
    from xpsr_cli.evaluation.subjects import find_subjects

    check_page(output)
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists.", "Add --overwrite, or name another file.")
    console = Console(quiet=quiet, as_json=as_json)
    subjects, alone = find_subjects(inputs)
    for file in alone:
        console.note(f"{file}: left out, it has no partner")
    words = title or (subjects[0].title if len(subjects) == 1 else " / ".join(n for n, _ in subjects[0].pictures))
    with console.progress(output.name) as progress:
        made = write_comparisons(subjects, output, title=words, progress=progress)

    for comparison in made.comparisons:
        prefix = f"{comparison.title}: " if len(subjects) > 1 else ""
        for likeness in comparison.likenesses:
            console.note(f"{prefix}{' and '.join(likeness.names)}: {likeness}")
    size = output.stat().st_size
    record = {"page": str(output), "status": "done", "bytes": size}
    console.result(record | {"comparisons": [each.to_dict() for each in made.comparisons]}, str(output))
    console.note(f"{len(made.comparisons)} {'slider' if len(made.comparisons) == 1 else 'sliders'}, {file_size(size)}")
    if open_page:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
    for _, error in made.failures:
        print_error(error.message, error.hint)
    if made.failures:
        names = ", ".join(subject.title for subject, _ in made.failures)
        raise PartialFailureError(
            f"{len(made.failures)} of {len(subjects)} comparisons failed: {names}.", "The others are on the page."
        )
