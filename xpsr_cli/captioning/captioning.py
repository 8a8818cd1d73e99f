"""Captions for many photos: a person's words, else what was made before, else what a captioner says now.

Each caption is kept before it is given out, so that a run that is killed at any moment has lost nothing it had
finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from xpsr_cli.captioning.captions import Box, Caption, Captioner, RegionText
from xpsr_cli.captioning.choosing import CaptionerChoice
from xpsr_cli.captioning.sidecars import Sidecar, read_sidecar, write_sidecar
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.errors import NoAnswerError, OutOfMemoryError, PhotoError, XpsrError
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.photos.source import open_photo
from xpsr_cli.progress import Progress, SilentProgress

Boxes = Callable[[PhotoInfo], Sequence[Box]]
"""The regions of a photo that get a high-level text of their own."""


class Origin(str, Enum):
    """Where a caption comes from."""

    MADE = "made"  # now, by the captioner
    STORE = "store"  # by the captioner, earlier
    PERSON = "person"


@dataclass(frozen=True)
class Captioned:
    """What came of one photo.

    ``caption`` and ``origin`` are ``None`` if there is none, and then there is an ``error``; both are there where a
    caption was made that could not be put beside the photo. ``seconds`` is the time the photo took.
    """

    photo: Path
    caption: Caption | None
    origin: Origin | None
    error: XpsrError | None = None
    sha256: str | None = None
    seconds: float = 0.0


def caption_photos(
    photos: Sequence[Path],
    choice: CaptionerChoice,
    store: CaptionStore,
    *,
    boxes: Boxes | None = None,
    sidecars: bool = False,
    refresh: bool = False,
    progress: Progress | None = None,
) -> Iterator[Captioned]:
    """Caption photos; gives each as soon as it is known, those that the captioner is asked about batch by batch.

    The captioner is loaded when the first photo needs it. ``boxes`` are regions that get a text of their own, if the
    captioner says what is in a photo. ``sidecars`` puts captions beside the photos too. ``refresh`` asks the captioner
    even if it was asked before; a person's words stay.

    What is wrong with one photo or its sidecar is its :class:`Captioned` ``error``, and so is that a server does not
    describe it while it describes others. What is wrong with the captioner is raised; what was finished until then is
    kept.
    """
    with closing(_Run(choice, store, boxes, sidecars, refresh)) as run:
        yield from _in_batches(run, photos, progress or SilentProgress())


def _in_batches(run: _Run, photos: Sequence[Path], progress: Progress) -> Iterator[Captioned]:
    progress.stage("caption", len(photos))
    waiting: list[_Task] = []
    for photo in photos:
        found = run.find(photo)
        if isinstance(found, _Task) and any(task.sha256 == found.sha256 for task in waiting):  # copies are asked once
            yield from _counted(run.make(waiting), progress)
            waiting, found = [], run.find(photo)
        if isinstance(found, _Task):
            found = run.look(found)
        if isinstance(found, Captioned):
            progress.skip(1)
            yield found
            continue
        waiting.append(found)
        if len(waiting) >= run.captioner.batch_size:
            yield from _counted(run.make(waiting), progress)
            waiting = []
    yield from _counted(run.make(waiting), progress)


def _counted(made: Iterator[Captioned], progress: Progress) -> Iterator[Captioned]:
    for captioned in made:
        progress.advance()
        yield captioned


@dataclass
class _Task:
    """A photo that the captioner has to be asked about."""

    photo: Path
    sha256: str
    version: tuple[int, int]  # of the file that was hashed
    boxes: tuple[Box, ...]
    seconds: float
    whole: Caption | None = None  # what is said of all of it, if only the regions lack a text
    look: Any = None


class _Run:
    """What :func:`caption_photos` does with one photo, and with one batch."""

    def __init__(
        self, choice: CaptionerChoice, store: CaptionStore, boxes: Boxes | None, sidecars: bool, refresh: bool
    ) -> None:
        self._choice = choice
        self._store = store
        self._boxes = boxes
        self._sidecars = sidecars
        self._refresh = refresh
        self._described = False  # whether the captioner has described any photo yet

    @cached_property
    def captioner(self) -> Captioner:
        """Loaded when it is needed."""
        return self._choice.load()

    def close(self) -> None:
        """Let go of the captioner, if it was loaded."""
        if "captioner" in self.__dict__:
            self.captioner.close()

    def find(self, photo: Path) -> Captioned | _Task:
        """What is known of a photo, or else what has to be done."""
        started = time.perf_counter()
        try:
            sidecar = read_sidecar(photo)
            if not photo.is_file():
                open_photo(photo).close()  # says what else it is
            version = _version(photo)
            sha256 = hash_file(photo)
            if sidecar is not None and sidecar.by_person:
                seconds = time.perf_counter() - started
                return Captioned(photo, sidecar.caption, Origin.PERSON, None, sha256, seconds)
            boxes = self._boxes_of(photo)
            key = self._choice.key
            known = None if self._refresh else self._store.read(sha256, key, boxes)
            if known is None and not self._refresh and sidecar is not None and sidecar.is_of(sha256, key, boxes):
                known = sidecar.caption
            task = _Task(photo, sha256, version, boxes, time.perf_counter() - started)
            if known is not None:
                return self._finished(task, known, Origin.STORE)
            if boxes and not self._refresh:
                task.whole = self._store.read(sha256, key)
            return task
        except (PhotoError, OSError, MemoryError) as error:
            return _failed(photo, error)

    def look(self, task: _Task) -> Captioned | _Task:
        """The task with what the captioner needs of the photo."""
        try:
            source = open_photo(task.photo)
        except PhotoError as error:
            return _failed(task.photo, error)
        with source:
            captioner = self.captioner  # only now: no captioner is loaded for a file that is no photo
            started = time.perf_counter()
            try:
                if task.whole is None:
                    task.look = captioner.look(source)
                if _version(task.photo) != task.version:
                    raise PhotoError(
                        f"{task.photo} was changed while it was worked on.", "Run the same command again."
                    )
            except (PhotoError, OSError, MemoryError) as error:
                return _failed(task.photo, error)
        task.seconds += time.perf_counter() - started
        return task

    def make(self, tasks: Sequence[_Task]) -> Iterator[Captioned]:
        """Ask the captioner, keep what it says, and give it out."""
        for task, refusal in self._asked([task for task in tasks if task.whole is None]):
            yield _failed(task.photo, refusal)
        for task in tasks:
            if task.whole is None:
                continue
            try:
                made = self._with_regions(task)
            except (PhotoError, NoAnswerError, OSError, MemoryError) as error:
                yield _failed(task.photo, error)
            else:
                yield self._finished(task, made, Origin.MADE)

    def _asked(self, tasks: list[_Task]) -> list[tuple[_Task, NoAnswerError]]:
        """Have photos described; those that are not, and why. When it is all of a run's first, that is raised."""
        try:
            self._describe(tasks)
        except NoAnswerError as error:
            refused = (
                [(tasks[0], error)] if len(tasks) == 1 else [r for task in tasks for r in self._asked_alone(task)]
            )
            if len(refused) == len(tasks) and not self._described:
                raise error
            return refused
        return []

    def _asked_alone(self, task: _Task) -> list[tuple[_Task, NoAnswerError]]:
        try:
            self._describe([task])
        except NoAnswerError as error:
            return [(task, error)]
        return []

    def _describe(self, tasks: list[_Task]) -> None:
        """Fill in and keep what the captioner says of photos."""
        if not tasks:
            return
        started = time.perf_counter()
        captions = self.captioner.describe([task.look for task in tasks])
        seconds = (time.perf_counter() - started) / len(tasks)
        for task, caption in zip(tasks, captions, strict=True):
            task.whole, task.look, task.seconds = caption, None, task.seconds + seconds
            self._store.write(task.sha256, self._choice.key, caption)
        self._described = True

    def _boxes_of(self, photo: Path) -> tuple[Box, ...]:
        if self._boxes is None:
            return ()
        with open_photo(photo) as source:
            return tuple(self._boxes(source.info))

    def _with_regions(self, task: _Task) -> Caption:
        """What is said of the whole photo, with what is said of its regions."""
        assert task.whole is not None
        if not task.boxes:
            return task.whole
        started, caption = time.perf_counter(), task.whole
        if self.captioner.says_content:
            caption = replace(caption, regions=tuple(self._regions(task)))
        self._store.write(task.sha256, self._choice.key, caption, task.boxes)
        task.seconds += time.perf_counter() - started
        return caption

    def _regions(self, task: _Task) -> Iterator[RegionText]:
        captioner, at = self.captioner, 0
        with open_photo(task.photo) as source:
            while at < len(task.boxes):
                boxes = task.boxes[at : at + captioner.batch_size]
                texts = captioner.summarize([captioner.look(source, box) for box in boxes])
                yield from map(RegionText, boxes, texts)
                at += len(boxes)

    def _finished(self, task: _Task, caption: Caption, origin: Origin) -> Captioned:
        """The caption, put beside the photo if that is wanted.

        A person may have written there meanwhile; what another captioner says of this very photo stays, unless all is
        to be refreshed.
        """
        done = Captioned(task.photo, caption, origin, None, task.sha256, task.seconds)
        if not self._sidecars:
            return done
        try:
            there = read_sidecar(task.photo)
            if there is not None and not self._refresh and there.is_anothers(task.sha256, self._choice.key):
                return done
            sidecar: Sidecar = write_sidecar(task.photo, caption, task.sha256, self._choice.key)
        except (PhotoError, OSError) as error:
            return replace(done, error=_as_error(task.photo, error))
        return replace(done, caption=sidecar.caption, origin=Origin.PERSON) if sidecar.by_person else done


def _version(photo: Path) -> tuple[int, int]:
    status = photo.stat()
    return status.st_size, status.st_mtime_ns


def _failed(photo: Path, error: Exception) -> Captioned:
    return Captioned(photo, None, None, _as_error(photo, error))


def _as_error(photo: Path, error: Exception) -> XpsrError:
    if isinstance(error, XpsrError):
        return error
    if isinstance(error, MemoryError):
        failure: XpsrError = OutOfMemoryError(f"There is not enough memory to look at {photo}.", "Make it smaller.")
    else:
        failure = PhotoError(f"{photo} cannot be read: {reason(error)}.", "Check the name and its permissions.")
    failure.__cause__ = error
    return failure
