"""What the journal remembers of one finished photo, and how it tells what has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Making = Mapping[str, Any]
"""All that decides the bytes of a result besides the photo: JSON-like values, in groups if that helps."""


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was looked at."""

    sha256: str
    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, known: Stamp | None = None) -> Stamp:
        """The stamp of a file; its content is not read again if it is as old and as long as the ``known`` one."""
        stat = path.stat()
        if known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return known
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(digest, stat.st_size, stat.st_mtime_ns)

    def fits(self, path: Path) -> bool:
        """Whether the file still has this content."""
        with suppress(OSError):
            return path.stat().st_size == self.size and Stamp.of(path, self).sha256 == self.sha256
        return False


@dataclass(frozen=True)
class Record:
    """One finished photo: a line of the journal. ``output`` is the result's name there."""

    output: str
    input: Stamp
    key: str
    making: Making
    result: Stamp

    @classmethod
    def parse(cls, line: bytes) -> Record | None:
        """The record in a line, if there is one."""
        try:
            values = json.loads(line)
            photo, result = (
                Stamp(str(values[name]["sha256"]), int(values[name]["size"]), int(values[name]["mtime_ns"]))
                for name in ("input", "result")
            )
            return cls(str(values["output"]), photo, str(values["key"]), dict(values["making"]), result)
        except (ValueError, TypeError, KeyError):
            return None

    def line(self) -> bytes:
        """The record as :meth:`parse` reads it."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode() + b"\n"

    def differences(self, photo: Stamp, making: Making) -> list[str]:
        """What is not as it was when this result was made, one clause each."""
        clauses = [] if photo.sha256 == self.input.sha256 else ["the photo was another one"]
        old, new = dict(_flat(self.making)), dict(_flat(json.loads(json.dumps(making))))
        for name in sorted({*old, *new}):
            before, now = old.get(name), new.get(name)
            if before != now:
                clauses.append(f"{name} was {_words(before)} and is {_words(now)}")
        return clauses


def digest(value: Any) -> str:
    """A digest of JSON-like values, the same in every process."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def key_of(photo: Stamp, making: Making) -> str:
    """What two results share that have the same bytes."""
    return digest([photo.sha256, making])


def _flat(values: Making) -> Iterator[tuple[str, Any]]:
    """The values of groups side by side, named as the flags are."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name.replace("_", "-"), value


def _words(value: Any) -> str:
    text = "unset" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:28]} ... {text[-28:]}"
