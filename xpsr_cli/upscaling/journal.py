"""What was made of which photo, kept beside the results, so that after any kill the same command goes on.

The folder ``.xpsr`` beside the results holds, with ``RESULT`` a digest of a result's name and ``KEY`` one of all that
decides its bytes:

- ``journal.jsonl``: one line per finished photo (and ``journal-3-of-8.jsonl`` of a shard, so that machines which share
  a disk never write to one file); a line that is torn or makes no sense counts for nothing;
- ``RESULT.lock``: held while a photo is worked on, so that no two processes do the same one;
- ``RESULT-KEY.work/``: what half-done work on a large photo can be continued from;
- ``RESULT-KEY.png.part``: a result that is being written, ``RESULT-KEY.png`` one that is complete.

A complete result is first recorded, then renamed to its place: whatever is visible is whole and known.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from xpsr_cli.errors import PhotoError
from xpsr_cli.upscaling.locks import lock_file
from xpsr_cli.upscaling.records import Making, Record, Stamp, digest, key_of

FOLDER = ".xpsr"
"""Name of the journal's folder beside the results."""


class State(Enum):
    """What is known of the file in a result's place."""

    NEW = "new"  # there is none
    DONE = "done"  # made from this very photo with these very settings
    DIFFERS = "differs"  # made from another photo or with other settings
    UNKNOWN = "unknown"  # not made by xpsr, or changed since


@dataclass(frozen=True)
class Status:
    """The state of a result, and what to say of it: the end of a sentence that begins with its name."""

    state: State
    words: str = ""


@dataclass
class Claim:
    """The right to work on one photo, and the places to do it in.

    ``work_folder`` is the same whenever the same work is begun again; it is made by whoever needs it. The result is
    written to ``complete``, by way of ``temporary``, and becomes visible with :meth:`commit`.
    """

    source: Path
    target: Path
    status: Status
    photo: Stamp
    making: Making
    work_folder: Path
    complete: Path
    journal: Journal
    committed: bool = False

    @property
    def temporary(self) -> Path:
        """Where the unfinished result lies."""
        return self.complete.with_name(self.complete.name + ".part")

    def commit(self) -> None:
        """Record the complete result and move it to its place. :class:`PhotoError` if the photo has changed."""
        if not self.photo.fits(self.source):
            raise PhotoError(f"{self.source} was changed while it was worked on.", "Run the same command again.")
        with _disk_errors(self.target):
            self.journal.add(self.target, self.photo, self.making, Stamp.of(self.complete))
            _publish(self.complete, self.target)
        self.committed = True


class Journal:
    """The journal of one folder of results."""

    def __init__(self, results: Path, *, folder: Path | None = None, shard: str = "") -> None:
        """The journal in ``folder``, which is ``.xpsr`` in the folder of the ``results`` unless it is named."""
        self.folder = results / FOLDER if folder is None else folder
        self._results = Path(os.path.realpath(results)) if folder is None else None
        self._file = self.folder / (f"journal-{shard.replace(' ', '-')}.jsonl" if shard else "journal.jsonl")
        self._records: dict[str, list[Record]] = {}
        self._read: dict[Path, int] = {}  # bytes of each file

    def status(self, source: Path, target: Path, making: Making) -> Status:
        """What is known of the file at ``target``. :class:`PhotoError` if the photo has to be read and cannot be."""
        self._refresh()
        if not target.is_file():
            return Status(State.NEW)
        records = self._records_of(target)
        record = next((record for record in reversed(records) if record.result.fits(target)), None)
        if record is None:
            return Status(State.UNKNOWN, "exists and is not as xpsr left it" if records else "exists")
        photo = _stamp_of_input(source, record.input)
        if record.key == key_of(photo, making):
            return Status(State.DONE, "was done before")
        what = "; ".join(record.differences(photo, making))
        return Status(State.DIFFERS, f"exists and was made differently: {what}")

    @contextmanager
    def claim(self, source: Path, target: Path, making: Making, identity: Any = None) -> Iterator[Claim]:
        """Work on one photo inside the block, which no other process does meanwhile.

        ``identity`` (JSON-like) is what half-done work must share with the work that goes on with it: device, type,
        versions. A claim that fails leaves its work folder, if there is anything in it, and nothing else. Work for the
        same result with other settings is cleared away. :class:`PhotoError` if another process has the photo or it
        cannot be read.
        """
        with self._locked(target):
            status = self.status(source, target, making)
            photo = _stamp_of_input(source, next((r.input for r in reversed(self._records_of(target))), None))
            key = key_of(photo, making)
            work = self.folder / f"{self._digest(target)}-{digest([key, identity])[:16]}.work"
            claim = Claim(source, target, status, photo, making, work, self._complete(target, key), self)
            self._clear(target, keep=work)
            try:
                yield claim
            finally:
                with suppress(OSError):
                    work.rmdir()  # unless there is something in it to go on with
                self._clear(target, keep=None if claim.committed else work)

    def recover(self, *, overwrite: bool = False) -> None:
        """Put complete results of a killed run in their places, and clear away what it left of finished photos."""
        self._refresh()
        left = {path.name.partition("-")[0] for path in self.folder.glob("*-*")}
        for record in [record for records in self._records.values() for record in records]:
            target = Path(record.output) if self._results is None else self._results / record.output
            complete = self._complete(target, record.key)
            if complete.exists() or self._digest(target) in left:
                with suppress(PhotoError), self._locked(target), _disk_errors(target):
                    if record.result.fits(complete) and (overwrite or not target.exists()):
                        _publish(complete, target)
                    if record.result.fits(target):
                        self._clear(target)

    def add(self, target: Path, photo: Stamp, making: Making, result: Stamp) -> None:
        """Add a line in one write, and on a line of its own whatever a killed process left at the end of the file."""
        line = Record(self._name(target), photo, key_of(photo, making), making, result).line()
        with self._file.open("ab+", buffering=0) as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else b"\n" + line
            if stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())

    def close(self) -> None:
        """Take the journal's own folder away if nothing is in it."""
        if self._results is not None:
            with suppress(OSError):
                self.folder.rmdir()

    def _refresh(self) -> None:
        """Read what was added to the journal's files, by this process or another."""
        for path in sorted(filter(Path.is_file, self.folder.glob("journal*.jsonl"))):
            with suppress(OSError), path.open("rb") as stream:
                begin = stream.seek(self._read.get(path, 0))
                whole, newline, _ = stream.read().rpartition(b"\n")
                self._read[path] = begin + len(whole + newline)
                for record in filter(None, map(Record.parse, whole.split(b"\n"))):
                    self._records.setdefault(record.output, []).append(record)

    def _records_of(self, target: Path) -> list[Record]:
        return self._records.get(self._name(target), [])

    def _name(self, target: Path) -> str:
        """What the journal calls a result: its path below the folder of the results, or all of it."""
        path = Path(os.path.realpath(target.parent), target.name)
        if self._results is not None and path.is_relative_to(self._results):
            path = path.relative_to(self._results)
        return path.as_posix()

    def _digest(self, target: Path) -> str:
        return digest(self._name(target))[:16]

    def _complete(self, target: Path, key: str) -> Path:
        """Where a complete result waits: where a rename can bring it to its place."""
        name, folder = f"{self._digest(target)}-{key[:16]}{target.suffix}", Path(os.path.realpath(target)).parent
        with suppress(OSError):
            if folder.stat().st_dev != self.folder.stat().st_dev:
                return folder / f"{FOLDER}-{name}"
        return self.folder / name

    def _clear(self, target: Path, keep: Path | None = None) -> None:
        """Remove what lies around of one result."""
        beside = Path(os.path.realpath(target)).parent.glob(f"{FOLDER}-{self._digest(target)}-*")
        for path in [*self.folder.glob(f"{self._digest(target)}-*"), *beside]:
            if path != keep:
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        path = self.folder / f"{self._digest(target)}.lock"
        with ExitStack() as stack:
            with _disk_errors(path):
                has_it = stack.enter_context(lock_file(path))
            if not has_it:
                raise PhotoError(f"Another xpsr is at work on {target}.", "Wait for it, or leave the photo to it.")
            yield


def _publish(complete: Path, target: Path) -> None:
    """Rename a complete result to its place, for good. A link stays a link: what it points to is replaced."""
    place = Path(os.path.realpath(target))
    os.replace(complete, place)
    if os.name == "posix":
        handle = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "Make room on the disk." if full else "Check the folder and its permissions."
        raise PhotoError(f"{path} could not be written: {error.strerror or error}.", hint) from error


def _stamp_of_input(source: Path, known: Stamp | None) -> Stamp:
    try:
        if source.exists() and not source.is_file():
            raise PhotoError(f"{source} is no regular file.", "Save the photo to a file first.")
        return Stamp.of(source, known)
    except OSError as error:
        raise PhotoError(f"{source} cannot be read: {error.strerror or error}.", "Check the name.") from error
