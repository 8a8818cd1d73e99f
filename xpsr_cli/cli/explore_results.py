"""What ``xpsr explore`` leaves and tells: the sheet, the record, the page, and a line for each answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xpsr_cli.cli.console import Console
from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.answers import Answer, AnswerFiles, settings_of
from xpsr_cli.exploring.diversity import measure
from xpsr_cli.exploring.gallery import Card, Slider, db_in_words, gallery_page
from xpsr_cli.exploring.given import scale_of
from xpsr_cli.exploring.records import (
    GALLERY,
    RECORD,
    SHEET,
    ExplorationRecord,
    PromptRecord,
    SampleRecord,
    is_record,
)
from xpsr_cli.exploring.sheet import SheetRow, SheetSample, draw_sheet
from xpsr_cli.exploring.text_score import JUDGE, TextScorer
from xpsr_cli.photos.whole_file import whole_or_absent

if TYPE_CHECKING:
    from xpsr_cli.cli.explore_run import Exploration

_NO_WORDS = "(no words)"
_AGREEING_DB = 50


@dataclass(frozen=True, eq=False)
class Row:
    """The answers to one prompt, which is the ``number``-th."""

    number: int
    prompt: str
    unknown_words: tuple[str, ...]
    answers: list[Answer]


def check_places(asked: Exploration) -> None:
    """:class:`UsageError` for a sheet, record or page in the folder that no earlier exploration has left."""
    folder = asked.output
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, and answers need a folder.", "Name a folder with -o.")
    names = [RECORD, SHEET, *([GALLERY] if asked.html else [])]
    there = [folder / name for name in names if (folder / name).exists()]
    if there and not asked.overwrite and not is_record(folder / RECORD):
        raise UsageError(
            f"{there[0]} exists, and no exploration has left it.", "Add --overwrite, or name another folder with -o."
        )


def write(asked: Exploration, files: AnswerFiles, rows: Sequence[Row], console: Console) -> None:
    """The sheet, the record and, where it is wanted, the page; then a word on all of it."""
    folder, given = asked.output, files.given
    record, fact = _record(asked, files, rows), _fact(files)
    sheet = draw_sheet(given.pixels, [_sheet_row(row) for row in rows], title=f"{given.info.name}: {fact}")
    places = {"sheet": folder / SHEET, "record": folder / RECORD}
    with whole_or_absent(places["sheet"]) as stream:
        sheet.save(stream, format="PNG")
    if asked.html:
        places["page"] = folder / GALLERY
        page = _page(files, fact, record, rows)
        with whole_or_absent(places["page"]) as stream:
            stream.write(page.encode("utf-8", "replace"))
    told = record.to_dict()
    with whole_or_absent(places["record"]) as stream:
        stream.write((json.dumps(told, indent=2, allow_nan=False) + "\n").encode())

    for prompt in record.prompts:
        if words := [said for said in (_spread(prompt), _obedience(prompt)) if said]:
            console.note(f"prompt {prompt.number}: {'; '.join(words)}")
    lowest, operator = min(a.agreement.final_db for row in rows for a in row.answers), files.options.operator.value
    if files.options.noise == 0 and lowest < _AGREEING_DB:
        console.note(f"not all answers are reduced to this picture: it is sharper than {operator} reduction makes one")
    result = {
        "input": str(asked.picture),
        "status": "done",
        **{name: str(path) for name, path in places.items()},
        "summary": told["summary"],
        "diversity": [asdict(prompt.diversity) for prompt in record.prompts],
    }
    console.result(result, "\n".join(str(path) for name, path in places.items() if name != "record"))


def tell(console: Console, picture: Path, number: int, answer: Answer) -> None:
    """One answer is in its place."""
    record = {
        "input": str(picture),
        "output": str(answer.file),
        "status": "done before" if answer.before else "done",
        "number": number,
        "prompt": answer.request.prompt,
        "seed": answer.request.seed,
        **answer.agreement.to_dict(),
    }
    console.result(record, str(answer.file))


def in_words(number: int, answer: Answer) -> str:
    """An answer and how it agrees with the small picture, on one line."""
    agreement = answer.agreement
    return (
        f"prompt {number}, seed {answer.request.seed}: {db_in_words(agreement.final_db)} to the picture "
        f"({db_in_words(agreement.raw_db)} before a repair of {agreement.repair_rms:.4f})"
    )


def _record(asked: Exploration, files: AnswerFiles, rows: Sequence[Row]) -> ExplorationRecord:
    given, size = files.given, files.size
    height, width = given.size
    texts, judge = [row.prompt for row in rows], files.prior.scorers.get(JUDGE)
    prompts = tuple(
        PromptRecord(
            row.number,
            row.prompt,
            row.unknown_words,
            tuple(_sample(answer, texts, judge) for answer in row.answers),
            measure([answer.pixels for answer in row.answers], max(given.size)),
        )
        for row in rows
    )
    shared = settings_of(rows[0].answers[0].request)
    del shared["prompt"]
    return ExplorationRecord(
        {"name": asked.picture.name, "sha256": given.sha256, "width": width, "height": height},
        {"width": size[1], "height": size[0], "scale": round(scale_of(given.size, size), 4)},
        {"name": files.prior.name, **files.prior.identity, "judge": judge.name if judge else None},
        {**shared, **files.settings},
        prompts,
    )


def _sample(answer: Answer, texts: Sequence[str], judge: TextScorer | None) -> SampleRecord:
    """An answer, and how well its prompt fits it beside the other ``texts``."""
    record = SampleRecord(answer.file.name, answer.request.seed, answer.agreement)
    prompt = answer.request.prompt
    if judge is None or not prompt:
        return record
    fits = dict(zip(texts, judge.fit(answer.pixels, texts), strict=True))
    others = [fit for text, fit in fits.items() if text not in (prompt, "")]
    return replace(record, text_score=fits[prompt], obeys=fits[prompt] > max(others) if others else None)


def _fact(files: AnswerFiles) -> str:
    """What was done, on one line."""
    (height, width), size, options = files.given.size, files.size, files.options
    return (
        f"{width} x {height} pixels to {size[1]} x {size[0]} (x {scale_of(files.given.size, size):.3g}), "
        f"{files.prior.name}, {options.method.value}, {options.operator.value}"
    )


def _sheet_row(row: Row) -> SheetRow:
    heading = f"{row.number}: {row.prompt or _NO_WORDS}"
    return SheetRow(heading, [SheetSample(a.pixels, a.reduced, _lines(a)) for a in row.answers])


def _lines(answer: Answer) -> list[str]:
    agreement = answer.agreement
    return [f"seed {answer.request.seed}", db_in_words(agreement.final_db), f"repair {agreement.repair_rms:.4f}"]


def _page(files: AnswerFiles, fact: str, record: ExplorationRecord, rows: Sequence[Row]) -> str:
    from xpsr_cli.evaluation.page_pictures import encode_png
    from xpsr_cli.evaluation.slider import page_assets, slider_html

    pictures: list[tuple[str, bytes]] = [("given", encode_png(files.given.pixels))]
    cards = []
    for row in rows:
        for answer in row.answers:
            seed = answer.request.seed
            pictures.append((f"prompt {row.number}, seed {seed}", answer.file.read_bytes()))
            cards.append(Card(row.number, seed, answer.file.name, answer.agreement, encode_png(answer.reduced)))
    prompts = {prompt.prompt or _NO_WORDS: _spread(prompt) for prompt in record.prompts}
    slider = Slider(slider_html(pictures), page_assets())
    return gallery_page(files.given.info.name, fact, prompts, cards, encode_png(files.given.pixels), slider)


def _obedience(prompt: PromptRecord) -> str:
    """How many answers fit their prompt better than any other, where somebody has judged it."""
    judged = [sample.obeys for sample in prompt.samples if sample.obeys is not None]
    return f"{sum(judged)} of {len(judged)} fit these words best" if judged else ""


def _spread(prompt: PromptRecord) -> str:
    """How different the answers to a prompt are, where there are several."""
    if len(prompt.samples) < 2:
        return ""
    return f"answers differ by {prompt.diversity.std:.3f} at a pixel (standard deviation, where white is 1)"
