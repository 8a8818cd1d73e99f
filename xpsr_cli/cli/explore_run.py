"""The work of ``xpsr explore``: what is asked for, what of it is there already, and the rest drawn one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from xpsr_cli.cli import explore_results
from xpsr_cli.cli.console import Console, printable
from xpsr_cli.cli.explore_results import Row
from xpsr_cli.device import choose_placement
from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.answers import Answer, AnswerFiles, farthest_columns
from xpsr_cli.exploring.given import as_tensor, large_size, read_given, remarks
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.prior_loading import load_prior
from xpsr_cli.exploring.priors import Prior, Request
from xpsr_cli.exploring.records import sample_name
from xpsr_cli.exploring.text_score import GUIDE
from xpsr_cli.exploring.vocabulary import in_words, unknown_words
from xpsr_cli.photos.source import open_photo
from xpsr_cli.progress import in_words as time_in_words
from xpsr_cli.settings import Precision

DRAWN = "drawn"
"""Folder, under that of the answers, of what ``--diverse`` draws to choose from."""
_WORTH_SAYING_S = 10


@dataclass(frozen=True)
class Exploration:
    """What is asked for. ``kept`` of the ``seeds`` are wanted; ``scale`` is ``None`` for the size of ``refine``."""

    picture: Path
    output: Path
    prompts: tuple[str, ...]
    negative_prompt: str
    guidance_scale: float | None
    image_weight: float
    options: ExploreOptions
    seeds: range
    kept: int
    scale: float | None
    refine: Path | None
    prior: str
    device: str
    precision: Precision
    html: bool
    overwrite: bool

    @property
    def choosing(self) -> bool:
        """Whether more is drawn than is kept."""
        return self.kept < len(self.seeds)

    def requests(self) -> Iterator[tuple[int, Request]]:
        """Every answer to draw, with the number of its prompt."""
        for number, prompt in enumerate(self.prompts, 1):
            for seed in self.seeds:
                yield number, Request(prompt, self.negative_prompt, self.guidance_scale, seed, self.image_weight)

    def places(self, number: int, seed: int) -> list[Path]:
        """Where an answer may be, the last of them where it is written."""
        name = sample_name(number, seed)
        return [self.output / name, self.output / DRAWN / name] if self.choosing else [self.output / name]


def run(asked: Exploration, console: Console) -> None:
    """Draw what is missing, and write the sheet, the record and the page."""
    explore_results.check_places(asked)
    with console.log_lines("xpsr_cli", warnings_only=True):
        files, prior = _open(asked)
        for remark in [*remarks(files.given), *_unknown(asked, prior)]:
            console.note(remark)
        work = _Work(asked, files, console)
        work.check_places()
        work.draw_missing()
    rows = work.rows()
    if asked.choosing:
        rows = work.keep_farthest(rows)
    explore_results.write(asked, files, rows, console)


def _open(asked: Exploration) -> tuple[AnswerFiles, Prior]:
    """The picture and the prior; what the prior cannot make is refused here, before the pixels are read."""
    with ExitStack() as open_files:
        source = open_files.enter_context(open_photo(asked.picture, least_side_px=1))
        refined = None if asked.refine is None else open_files.enter_context(open_photo(asked.refine, least_side_px=1))
        size = large_size(source.info, asked.scale, None if refined is None else refined.info)
        prior = load_prior(asked.prior, choose_placement(asked.device, asked.precision))
        prior.stages((source.info.height, source.info.width), size)
        if asked.options.energy_weight > 0 and GUIDE not in prior.scorers:
            raise UsageError(f"{prior.name} has no text-image score to steer with.", "Leave out --text-guidance.")
        given, options = read_given(source, asked.picture), asked.options
        if refined is not None:
            start = refined.read(0, 0, refined.info.height, refined.info.width)
            options = replace(options, start=as_tensor(start.colour))
    return AnswerFiles(given, size, prior, options, asked.refine), prior


class _Work:
    """One exploration under way. ``ready`` are its answers so far, by the number of the prompt and the seed."""

    def __init__(self, asked: Exploration, files: AnswerFiles, console: Console) -> None:
        self.asked, self.files, self.console = asked, files, console
        self.ready: dict[tuple[int, int], Answer] = {}

    def check_places(self) -> None:
        """Take what this very command has made; :class:`UsageError` for other files in the way."""
        inputs = [path for path in (self.asked.picture, self.asked.refine) if path is not None]
        for number, request in self.asked.requests():
            for file in self.asked.places(number, request.seed):
                if not file.exists():
                    continue
                if any(file.samefile(path) for path in inputs):
                    raise UsageError(f"{file} would be replaced while it is read.", "Name another folder with -o.")
                answer = self.files.find(request, file)
                if answer is not None:
                    self.ready.setdefault((number, request.seed), answer)
                elif not self.asked.overwrite:
                    raise UsageError(
                        f"{file} exists, and this command would make it in another way.",
                        "Add --overwrite, or name another folder with -o.",
                    )

    def draw_missing(self) -> None:
        """Draw one answer after the other; each is in its file as soon as it is drawn."""
        self.asked.output.mkdir(parents=True, exist_ok=True)
        missing = [(n, request) for n, request in self.asked.requests() if (n, request.seed) not in self.ready]
        whole = len(self.ready) + len(missing)
        for (number, _), answer in self.ready.items():
            self._tell(number, answer)
        seconds = 0.0
        try:
            for position, (number, request) in enumerate(missing, 1):
                began, count = time.monotonic(), f"[{len(self.ready) + 1}/{whole}]"
                with self.console.progress(f"{count} prompt {number}, seed {request.seed}") as progress:
                    answer = self.files.draw(request, self.asked.places(number, request.seed)[-1], progress)
                self.ready[number, request.seed] = answer
                seconds += time.monotonic() - began
                left = seconds / position * (len(missing) - position)
                words = f"{count} {explore_results.in_words(number, answer)}, {time.monotonic() - began:.1f} s"
                self.console.note(words + (f", {time_in_words(left)} left" if left > _WORTH_SAYING_S else ""))
                self._tell(number, answer)
        except KeyboardInterrupt:
            self.console.note(f"{len(self.ready)} of {whole} answers are finished; the same command goes on.")
            raise

    def rows(self) -> list[Row]:
        """All answers, by prompt."""
        vocabulary = self.files.prior.vocabulary
        return [
            Row(
                number,
                prompt,
                tuple(unknown_words(prompt, vocabulary)),
                [self.ready[number, seed] for seed in self.asked.seeds],
            )
            for number, prompt in enumerate(self.asked.prompts, 1)
        ]

    def keep_farthest(self, rows: list[Row]) -> list[Row]:
        """The seeds whose answers lie farthest from each other, over all prompts; they move up into the folder."""
        columns = farthest_columns([row.answers for row in rows], self.asked.kept, max(self.files.given.size))
        return [
            replace(row, answers=[self._moved_up(row.number, row.answers[column]) for column in columns])
            for row in rows
        ]

    def _moved_up(self, number: int, answer: Answer) -> Answer:
        place = self.asked.places(number, answer.request.seed)[0]
        if answer.file != place:
            answer.file.replace(place)
            with suppress(OSError):  # others are in it
                answer.file.parent.rmdir()
        answer = replace(answer, file=place)
        explore_results.tell(self.console, self.asked.picture, number, answer)
        return answer

    def _tell(self, number: int, answer: Answer) -> None:
        if not self.asked.choosing:  # else it is not yet known whether it stays
            explore_results.tell(self.console, self.asked.picture, number, answer)


def _unknown(asked: Exploration, prior: Prior) -> Iterator[str]:
    """What is said of words that the prior was not trained on."""
    texts = [*asked.prompts, asked.negative_prompt]
    unknown = dict.fromkeys(word for text in texts for word in unknown_words(text, prior.vocabulary))
    if unknown:
        words = printable(", ".join(unknown))
        yield f"{prior.name} was not trained on: {words}. It knows: {in_words(prior.vocabulary)}."
