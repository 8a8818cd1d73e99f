"""Captions of many photos in one file or folder: written for other programs, and read again, theirs too.

JSON lines, Parquet, and the two folders of text files that researchers use. Importing this needs the standard library
only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from xpsr_cli.captioning import caption_parquet
from xpsr_cli.captioning.caption_rows import CaptionFile, CaptionRow, is_photo_name
from xpsr_cli.captioning.captions import Caption, one_line
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.whole_file import whole_or_absent

HIGH_FOLDER = "highlevel_prompt"
LOW_FOLDER = "lowlevel_prompt_q"
"""Where the released code looks for the texts of ``NAME.png``, in files called ``NAME.txt``."""
_SHAPE = "A row has photo or sha256, and high and low."


def check_captions_file(path: Path) -> None:
    """Whether captions can be written to ``path``, found out before any work is done for it.

    Raises :class:`UsageError` for an extension that is not known, and
    :class:`~xpsr_cli.errors.MissingExtraError` for Parquet without pyarrow.
    """
    if path.suffix.lower() not in (".jsonl", ".parquet") or path.is_dir():
        raise UsageError(f"{path} is no file for captions.", "Name one that ends in .jsonl or .parquet.")
    if path.suffix.lower() == ".parquet":
        caption_parquet.check()


def write_captions(rows: Iterable[CaptionRow], path: Path) -> None:
    """One row per photo, as JSON lines or Parquet by the extension of ``path``; the file is whole or absent.

    The columns are photo, sha256, high, low, captioner and regions. Raises what :func:`check_captions_file` does, and
    :class:`PhotoError` if the file cannot be written.
    """
    check_captions_file(path)
    values = [row.to_dict() for row in rows]  # what fails here has nothing to do with the file
    _make_folder(path.parent)
    with whole_or_absent(path) as stream:
        if path.suffix.lower() == ".parquet":
            caption_parquet.write(values, stream)
        else:
            stream.writelines(_json_line(row) for row in values)


def write_text_pairs(rows: Iterable[CaptionRow], folder: Path) -> None:
    """``NAME.txt`` in two folders, for the stem ``NAME`` of each photo: one line of high-level, one of low-level text.

    Raises :class:`UsageError`, before anything is written, for two photos that would share a file, and
    :class:`PhotoError` if a file cannot be written.
    """
    captions = list(rows)
    check_text_names([row.photo for row in captions])
    for name in (HIGH_FOLDER, LOW_FOLDER):
        _make_folder(folder / name)
    for row in captions:
        file = f"{Path(row.photo).stem}.txt"
        for name, text in ((HIGH_FOLDER, row.caption.high), (LOW_FOLDER, row.caption.low)):
            with whole_or_absent(folder / name / file) as stream:
                stream.write(f"{one_line(text)}\n".encode("utf-8", "replace"))


def check_text_names(photos: Iterable[str]) -> None:
    """:class:`UsageError` for two photos whose text files would have the same name."""
    owners: dict[str, str] = {}
    for photo in photos:
        stem = Path(photo).stem
        other = owners.setdefault(stem.casefold(), photo)  # some file systems take A.txt and a.txt for one
        if other != photo:
            raise UsageError(
                f"{other} and {photo} would share the text file {stem}.txt.",
                "Rename one, or write their captions into a .jsonl or .parquet file.",
            )


def check_no_texts(photos: Iterable[str], folder: Path) -> None:
    """:class:`UsageError` for a text file in ``folder`` that a person may have changed and that would be replaced."""
    for photo in photos:
        for name in (HIGH_FOLDER, LOW_FOLDER):
            path = folder / name / f"{Path(photo).stem}.txt"
            if os.path.lexists(path):
                raise UsageError(f"{path} exists.", "Add --overwrite, or name another folder.")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhotoError(f"{folder} is no folder to write to: {reason(error)}.", "Name another one.") from None


def _json_line(row: dict[str, Any]) -> bytes:
    try:
        return f"{json.dumps(row, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:  # the name of a file may be no Unicode
        return f"{json.dumps(row)}\n".encode()


def read_captions(path: Path) -> CaptionFile:
    """Captions from a ``.jsonl``, ``.json`` or ``.parquet`` file, or from a folder with the two folders of text files.

    A ``.json`` file is a list of rows, or an object of rows by the names of their photos. Rows need photo or sha256,
    and high or low; what else :meth:`CaptionRow.to_dict` gives may be missing. Raises :class:`UsageError` with the
    line or row that does not fit, and :class:`~xpsr_cli.errors.MissingExtraError` for Parquet without pyarrow.
    """
    if path.is_dir():
        return CaptionFile(path, list(_text_pairs(path)))
    readers: dict[str, Callable[[Path], Iterator[tuple[Any, str]]]] = {
        ".jsonl": _json_lines,
        ".json": _json_rows,
        ".parquet": _parquet_rows,
    }
    if not path.exists():
        raise UsageError(f"{path} is not there.", "Check the name of the file of captions.")
    if path.suffix.lower() not in readers:
        raise UsageError(
            f"{path} is no file of captions.", "It ends in .jsonl, .json or .parquet, or is a folder of text files."
        )
    try:
        return CaptionFile(path, [(_row(path, *row), row[1]) for row in readers[path.suffix.lower()](path)])
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}.", "Check its permissions.") from None


def _json_lines(path: Path) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield _json(path, f"line {number}", line), f"line {number}"


def _json_rows(path: Path) -> Iterator[tuple[Any, str]]:
    values = _json(path, "", path.read_bytes())
    if isinstance(values, dict):
        for name, row in values.items():
            yield ({"photo": name} | row if isinstance(row, dict) else row), f"the row of {name!r}"
    elif isinstance(values, list):
        for number, row in enumerate(values, 1):
            yield row, f"row {number}"
    else:
        raise UsageError(f"{path} holds neither a list nor an object of captions.", _SHAPE)


def _parquet_rows(path: Path) -> Iterator[tuple[Any, str]]:
    for number, row in enumerate(caption_parquet.read(path), 1):
        yield row, f"row {number}"


def _json(path: Path, place: str, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        why = "it is nested too deeply"
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if place else f"line {error.lineno}, column {error.colno}"
        why = f"{error.msg.removesuffix(' at')} at {where}"
    except ValueError:
        why = "it holds a number of thousands of digits"
    raise UsageError(f"{', '.join(filter(None, (str(path), place)))} is not JSON: {why}.", _SHAPE)


def _row(path: Path, values: Any, place: str) -> CaptionRow:
    """What one row says; what is ``null`` in it counts as missing."""
    try:
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        known = {name: value for name, value in values.items() if value is not None}
        photo, sha256 = known.get("photo", ""), known.get("sha256", "")
        if not isinstance(photo, str) or not isinstance(sha256, str):
            raise ValueError("photo and sha256 are not texts")
        if sha256 and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
            raise ValueError(f"sha256 is {sha256!r}, not 64 hexadecimal digits")
        if not photo and not sha256:
            raise ValueError("it names no photo")
        if "high" not in known and "low" not in known:
            raise ValueError("it has neither high nor low")
        caption = Caption.from_dict(known)
        json.dumps(caption.to_dict(), ensure_ascii=False).encode()  # JSON can hold halves of characters
        return CaptionRow(photo, sha256.lower(), caption)
    except ValueError as error:
        why = str(error)
        why = why if len(why) <= 200 else f"{why[:199]}…"
        raise UsageError(f"{path}, {place}, is no caption: {why}.", _SHAPE) from None


def _text_pairs(folder: Path) -> Iterator[tuple[CaptionRow, str]]:
    """The rows of the two folders; a text that is missing in one of them is empty."""
    files = [file for part in (HIGH_FOLDER, LOW_FOLDER) for file in (folder / part).glob("*.txt")]
    names = {file.stem for file in files if not file.name.startswith(".")}
    if not names:
        raise UsageError(
            f"{folder} holds no captions.", f"They are .txt files in its folders {HIGH_FOLDER} and {LOW_FOLDER}."
        )
    for name in sorted(names):
        high, low = (_first_line(folder / part / f"{name}.txt") for part in (HIGH_FOLDER, LOW_FOLDER))
        photo = f"{name}.png" if is_photo_name(name) else name  # a.jpg.txt is of a.jpg.png, and a.txt of a.jpg
        yield CaptionRow(photo, "", Caption(high, low, "person")), f"{name}.txt"


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return one_line(lines.readline())
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise UsageError(f"{path} cannot be read: {why}.", "Write it anew as text in UTF-8.") from None
