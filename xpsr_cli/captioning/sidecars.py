"""``photo.caption.json`` beside a photo: what is said of it, for people to read and to change.

A person's words win over every captioner and are never overwritten. They are told by a digest of what the machine
wrote: a file without one, such as ``{"high": "a red barn", "low": "noisy"}``, or whose texts no longer fit it is a
person's.

Both ``photo.jpg.caption.json`` and ``photo.caption.json`` speak of ``photo.jpg``. The longer name is never in doubt.
The shorter one stands for the photo it names (``"photo": "photo.jpg"``); without that it stands for the only photo of
that name in the folder, and where ``photo.jpg`` and ``photo.png`` lie side by side it is refused. New files get the
shorter name where the folder has one such photo, else the longer one, and keep it whatever comes into the folder
later.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xpsr_cli.captioning.captions import Box, Caption, CaptionerKey
from xpsr_cli.captioning.json_files import write_json
from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import EXTENSIONS, reason

ENDING = ".caption.json"
PERSON = "person"
"""The captioner of what a person wrote, changed or accepted."""

_HOW_TO_MEND = 'Mend it, as in {"high": "a red barn", "low": "noisy"}, or remove it.'


@dataclass(frozen=True)
class Sidecar:
    """What stands beside a photo. ``photo_sha256`` and ``key`` are of the photo and the captioner that made it."""

    path: Path
    caption: Caption
    by_person: bool
    photo_sha256: str | None = None
    key: str | None = None  # a CaptionerKey.digest

    def is_of(self, photo_sha256: str, key: CaptionerKey, boxes: tuple[Box, ...]) -> bool:
        """Whether it is what ``key`` says of that very photo and of ``boxes`` in it."""
        same = (self.photo_sha256, self.key) == (photo_sha256, key.digest)
        return same and not self.by_person and tuple(region.box for region in self.caption.regions) == boxes

    def is_anothers(self, photo_sha256: str, key: CaptionerKey) -> bool:
        """Whether it is what another captioner than ``key`` says of that very photo."""
        return not self.by_person and self.photo_sha256 == photo_sha256 and self.key != key.digest


def read_sidecar(photo: Path) -> Sidecar | None:
    """What stands beside a photo, a person's words first; ``None`` if there is nothing.

    :class:`PhotoError`, which names the file and the line, for a sidecar that is no caption, and for one that could
    speak of several photos.
    """
    found = [sidecar for path in dict.fromkeys(_possible(photo)) if (sidecar := _read(path, photo)) is not None]
    return min(found, key=lambda sidecar: not sidecar.by_person, default=None)


def sidecar_path(photo: Path) -> Path:
    """Where the sidecar of a photo lies, or would lie. :class:`PhotoError` as in :func:`read_sidecar`."""
    there = read_sidecar(photo)
    return _free_path(photo) if there is None else there.path


def write_sidecar(photo: Path, caption: Caption, photo_sha256: str, key: CaptionerKey | None = None) -> Sidecar:
    """Put a caption beside a photo, and give what stands there then.

    With the ``key`` of a captioner it is a machine's, and a person's words stay as they are; without it is a person's.
    :class:`PhotoError` if it cannot be written, or if there is a file that is no caption.
    """
    there = read_sidecar(photo)
    if key is not None and there is not None and there.by_person:
        return there
    path = _free_path(photo) if there is None else there.path
    if there is None and os.path.lexists(path):
        raise PhotoError(f"{path} is not the sidecar of {photo}.", f"Move {path.name} away.")
    values = {"photo": photo.name, **caption.to_dict(), "photo_sha256": photo_sha256}
    if key is None:
        new = Sidecar(path, replace(caption, captioner=PERSON), True, photo_sha256)
        values["captioner"] = PERSON
    else:
        new = Sidecar(path, caption, False, photo_sha256, key.digest)
        values |= {"key": key.digest, "written": _digest(caption)}
    if new != there:
        write_json(path, values)
    return new


def _free_path(photo: Path) -> Path:
    """Where the first sidecar of a photo goes."""
    longer, shorter = _possible(photo)
    could_be_a_photo = Path(photo.stem).suffix.lower() in EXTENSIONS
    in_doubt = could_be_a_photo or os.path.lexists(shorter) or any(_namesakes(photo))
    return longer if in_doubt else shorter


def _possible(photo: Path) -> tuple[Path, Path]:
    """The two names of a photo's sidecar, the longer one first; they are one for a photo without an extension."""
    return photo.with_name(photo.name + ENDING), photo.with_name(photo.stem + ENDING)


def _namesakes(photo: Path) -> Iterator[Path]:
    """Other photos of the folder whose shorter sidecar would have the same name."""
    for extension in (*EXTENSIONS, *map(str.upper, EXTENSIONS)):
        other = photo.with_name(photo.stem + extension)
        if other.is_file() and not _same(other, photo):
            yield other


def _read(path: Path, photo: Path) -> Sidecar | None:
    """The sidecar at ``path`` if there is one and it speaks of ``photo``."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PhotoError(f"{path} cannot be read: {reason(error)}.", "Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise PhotoError(f"{path} is not in UTF-8.", "Save it in UTF-8, or remove it.") from error
    values = _parse(path, text)
    sidecar = _sidecar(path, text, values)
    return sidecar if _speaks_of(photo, sidecar, values.get("photo")) else None


def _parse(path: Path, text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        why = error.msg.removesuffix(" at")
        raise PhotoError(f"{path} is not JSON: {why} in line {error.lineno}.", _HOW_TO_MEND) from error
    except ValueError as error:
        raise PhotoError(
            f"{path} is not a caption: it holds a number of thousands of digits.", _HOW_TO_MEND
        ) from error
    except RecursionError as error:
        raise PhotoError(f"{path} is not a caption: it is nested too deeply in line 1.", _HOW_TO_MEND) from error
    if not isinstance(values, dict) or not {"high", "low"} & values.keys():
        raise PhotoError(f"{path} is not a caption: no 'high' or 'low' begins in line 1.", _HOW_TO_MEND)
    return values


def _sidecar(path: Path, text: str, values: Mapping[str, Any]) -> Sidecar:
    try:
        caption = Caption.from_dict(values)
        json.dumps(caption.to_dict(), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PhotoError(f"{path} is not a caption: there is half a character in it.", _HOW_TO_MEND) from error
    except ValueError as error:
        why, line = str(error), _line_of(text, str(error))
        why = why if len(why) <= 200 else f"{why[:199]}…"
        raise PhotoError(f"{path} is not a caption: {why}, in line {line}.", _HOW_TO_MEND) from error
    photo_sha256, key = (v if isinstance(v := values.get(name), str) else None for name in ("photo_sha256", "key"))
    if values.get("written") != _digest(caption):
        return Sidecar(path, replace(caption, captioner=PERSON), True, photo_sha256)
    return Sidecar(path, caption, False, photo_sha256, key)


def _line_of(text: str, clause: str) -> int:
    """The line of the key that a clause begins with; what begins with none is a region."""
    named = next((name for name in ("high", "low", "captioner") if clause.startswith(repr(name))), "regions")
    return text.count("\n", 0, text.find(f'"{named}"')) + 1


def _speaks_of(photo: Path, sidecar: Sidecar, named: Any) -> bool:
    """Whether a file that has one of the names of a photo's sidecar is it; see the head of this module."""
    if isinstance(named, str) and named and named == Path(named).name:
        recorded = photo.with_name(named)
        if sidecar.path in _possible(recorded) and recorded.is_file():
            return _same(recorded, photo)
    longer, _ = _possible(photo)
    if sidecar.path == longer:
        return True
    exact = photo.with_name(sidecar.path.name.removesuffix(ENDING))
    if exact.suffix.lower() in EXTENSIONS and exact.is_file():
        return False
    other = next(_namesakes(photo), None)
    if other is not None and sidecar.by_person:
        raise PhotoError(
            f"{sidecar.path} does not say whether it speaks of {photo.name} or of {other.name}.",
            f"Rename it to {longer.name} or {other.name}{ENDING}.",
        )
    return other is None


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one file, as they are where upper and lower case are the same."""
    try:
        return one.name == other.name or one.samefile(other)
    except OSError:
        return False


def _digest(caption: Caption) -> str:
    """What stands for the texts and boxes of a caption."""
    values = caption.to_dict()
    text = json.dumps([values["high"], values["low"], values["regions"]])
    return hashlib.sha256(text.encode()).hexdigest()
