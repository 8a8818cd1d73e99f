"""The page of ``xpsr compare``: pictures under sliders, with their sizes and how like each other they are.

One file that needs nothing beside it and no network; a rule in its head keeps browsers from fetching anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from xpsr_cli import __version__
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.comparison import Comparison, Likeness, Subject, compare, mean_likenesses
from xpsr_cli.evaluation.page_pictures import PagePicture
from xpsr_cli.evaluation.slider import page_assets, slider_html
from xpsr_cli.photos.whole_file import whole_or_absent
from xpsr_cli.progress import Progress, SilentProgress

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 1700px; margin: 0 auto; padding: 1rem; font: 14px/1.45 system-ui, sans-serif; }
h1, p, summary { overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; margin: 0 0 0.8rem; }
h2 { font-size: 1.05rem; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 36rem), 1fr)); gap: 1rem; }
.many > div { min-width: 0; }
.xpsr-slider { margin-bottom: 0.5rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; white-space: nowrap; }
th, tr + tr > td { border-bottom: 1px solid color-mix(in srgb, CanvasText 15%, Canvas); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
footer, summary { color: color-mix(in srgb, CanvasText 65%, Canvas); }
"""
_MEASURES = (
    "PSNR and SSIM are of luma, without a border left out, between the pictures as 8-bit sRGB (protocol osediff of "
    "xpsr eval, which ends at 80 dB; here pictures that are the same have an infinite PSNR). Pictures of different "
    "sizes are not measured; they are laid over each other at one extent."
)


@dataclass(frozen=True)
class Compared:
    """What a page shows, and the subjects that it does not show since a picture of theirs cannot be read."""

    comparisons: tuple[Comparison, ...]
    failures: tuple[tuple[Subject, PhotoError], ...] = ()


def write_comparison(pictures: Sequence[tuple[str, Path]], page: Path, *, title: str = "") -> Comparison:
    """Write a page with one slider over all ``pictures``, each a name and a photo file; whole, or not at all.

    :class:`UsageError` for fewer than two pictures and for a ``page`` that is none; :class:`PhotoError` for a picture
    that cannot be read. A page that exists is replaced.
    """
    title = title or " / ".join(name for name, _ in pictures)
    return write_comparisons([Subject(title, tuple(pictures))], page, title=title).comparisons[0]


def write_comparisons(
    subjects: Sequence[Subject], page: Path, *, title: str, progress: Progress | None = None
) -> Compared:
    """Write a page with one slider for each subject; see :func:`write_comparison`.

    A subject that cannot be read is left out and told of in the result, as long as there is another.
    """
    for subject in subjects:
        if len(subject.pictures) < 2:
            names = ", ".join(str(file) for _, file in subject.pictures) or "nothing"
            raise UsageError(f"Only {names} is there to be compared.", "Name two or more pictures.")
    check_page(page)
    progress = progress or SilentProgress()
    progress.stage("compare", len(subjects))
    comparisons: list[Comparison] = []
    failures: list[tuple[Subject, PhotoError]] = []
    with whole_or_absent(Path(os.path.realpath(page))) as stream:
        stream.write(_bytes(_head(title, many=len(subjects) > 1)))
        for subject in subjects:
            try:
                comparison, pictures = compare(subject)
            except PhotoError as error:
                failures.append((subject, error))
            else:
                comparisons.append(comparison)
                stream.write(_bytes(_section(comparison, pictures, open_table=len(subjects) == 1)))
            progress.advance()
        if not comparisons:
            raise failures[0][1]
        stream.write(_bytes(_tail(comparisons)))
    return Compared(tuple(comparisons), tuple(failures))


def check_page(page: Path) -> None:
    """:class:`UsageError` unless a page can be written to this place, found out before any work is done for it."""
    if page.is_dir():
        raise UsageError(f"{page} is a folder, so no page can be written to it.", "Name a file in it.")
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{page} is no name for a page.", "Name a file that ends in .html.")
    if not page.parent.is_dir():
        raise UsageError(f"{page} cannot be written: there is no folder {page.parent}.", "Make the folder first.")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # the name of a file may be no text


def _head(title: str, *, many: bool) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
{page_assets()}
</head>
<body>
<h1>{escape(title)}</h1>
<main class="{"many" if many else "one"}">
"""


def _section(comparison: Comparison, pictures: Sequence[PagePicture], *, open_table: bool) -> str:
    named = [(picture.name, shown) for picture, shown in zip(comparison.pictures, pictures, strict=True)]
    first = comparison.likenesses[0] if comparison.likenesses else None
    slider = slider_html(
        named,
        title="" if open_table else comparison.title,
        note=str(first) if first is not None and len(pictures) == 2 else "",
    )
    tables = _files_table(comparison) + _likeness_table(comparison.likenesses)
    if not open_table:
        tables = f"<details><summary>Files</summary>{tables}</details>"
    return f"<div>{slider}\n{tables}</div>\n"


def _tail(comparisons: Sequence[Comparison]) -> str:
    """The means over many pictures, how they were measured, and who made the page."""
    means = mean_likenesses(comparisons)
    table = f"<h2>Mean of {len(comparisons)}</h2>\n{_likeness_table(list(means.values()))}" if means else ""
    return f"</main>\n{table}<footer><p>{_MEASURES}</p><p>Made by xpsr {__version__}.</p></footer>\n</body>\n</html>\n"


def _files_table(comparison: Comparison) -> str:
    rows = [
        (p.name, str(p.file), f"{p.width} x {p.height}", file_size(p.file_bytes), p.change or "as it is")
        for p in comparison.pictures
    ]
    return _table(("Picture", "File", "Pixels", "Size", "On this page"), rows, numbers={2, 3})


def _likeness_table(likenesses: Sequence[Likeness]) -> str:
    if not likenesses:
        return ""
    rows = [
        (
            *likeness.names,
            "\u221e" if likeness.psnr == float("inf") else f"{likeness.psnr:.2f} dB",
            f"{likeness.ssim:.4f}",
            "every pixel is the same" if likeness.identical else "",
        )
        for likeness in likenesses
    ]
    return _table(("Picture", "and", "PSNR", "SSIM", ""), rows, numbers={2, 3})


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: set[int]) -> str:
    def cells(tag: str, texts: Sequence[str]) -> str:
        kinds = [' class="number"' if column in numbers else "" for column in range(len(texts))]
        return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return f'<div class="table"><table>\n<tr>{cells("th", titles)}</tr>\n{body}</table></div>\n'


def file_size(count: int) -> str:
    """A number of bytes for people: ``"1.4 MB"``."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
