"""One run of ``xpsr eval``: everything that can be refused is refused first, and what was done stays done."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xpsr_cli.cli.console import Console
from xpsr_cli.cli.eval_models import Model, Placing, prepare_models, upscaled
from xpsr_cli.cli.eval_results import raise_for_gaps, show, tell_gaps
from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.baseline import Baseline
from xpsr_cli.evaluation.datasets import USUAL_SCALE, FoundPairs, Selection, SetFolders, find_pairs, find_set
from xpsr_cli.evaluation.evaluate import evaluate, usable_metrics
from xpsr_cli.evaluation.methods import Method, check_names, named_path, predicted, resampled
from xpsr_cli.evaluation.metrics import DEFAULT_PROTOCOL, make_metrics
from xpsr_cli.evaluation.prepared_sets import Degradation, PreparedSet, prepare_set
from xpsr_cli.evaluation.protocols import protocol_named
from xpsr_cli.evaluation.scores import EvaluationSet
from xpsr_cli.photos.formats import reason
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.upscaling.locks import lock_file

USUAL_FOLDER = Path("xpsr-eval")


@dataclass(frozen=True)
class Subject:
    """What is evaluated on, as the command line says it."""

    dataset: str | None
    roots: tuple[Path, ...]
    lr: Path | None
    hr: Path | None
    degrade: str | None
    seed: int
    selection: Selection
    scale: float | None

    def __post_init__(self) -> None:
        if self.dataset is not None and (self.lr or self.hr):
            given = "--lr" if self.lr else "--hr"
            raise UsageError(f"--dataset and {given} contradict each other.", "Give a known set, or your own folders.")
        if self.dataset is None and not (self.lr or self.hr):
            raise UsageError("Nothing is named to evaluate on.", "Give --dataset, or --lr and --hr.")
        if self.degrade is not None and self.lr:
            raise UsageError("--degrade makes small photos, and --lr names some.", "Give one of them.")
        if self.degrade is not None and self._scale % 1:
            raise UsageError(f"scale is {self._scale:g}, and --degrade takes whole numbers.", "Use 4, for instance.")

    @property
    def _scale(self) -> float:
        return float(USUAL_SCALE) if self.scale is None else self.scale

    def folders(self) -> SetFolders:
        """Where its pictures lie."""
        if self.dataset is not None:
            folders = find_set(self.dataset, self.roots, round(self._scale))
            return folders if self.degrade is None else replace(folders, lr=None)
        named = self.hr or self.lr
        assert named is not None  # as was checked
        return SetFolders(
            named.resolve().parent.name if named.name.lower() in ("hr", "lr") else named.name, self.lr, self.hr
        )

    def degradation(self) -> Degradation | None:
        """How its small photos are made, if they are."""
        if self.degrade is None:
            return None
        from xpsr_cli.cli.eval_degrading import degrader

        scale = round(self._scale)
        return Degradation(self.degrade, self.seed, scale, degrader(self.degrade, scale))

    def enlargement(self, found: FoundPairs) -> float:
        """By how much its small photos are enlarged. :class:`UsageError` for a scale that its pairs contradict."""
        if found.scale is not None and self.scale not in (None, found.scale):
            raise UsageError(
                f"scale is {self.scale:g}, and the large photos are {found.scale:g} times the small ones.",
                "Leave --scale out.",
            )
        return self._scale if found.scale is None else found.scale


@dataclass(frozen=True)
class Contest:
    """What is compared, as the command line says it."""

    models: tuple[str, ...]
    predictions: tuple[str, ...]
    baselines: tuple[Baseline, ...]
    reference: str | None
    seeds: int
    modes: tuple[UpscaleSettings, ...]
    add_on: str | None
    captions: str
    prompts: tuple[str | None, str | None]
    placing: Placing

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds is {self.seeds}, and 1 is the least.", "Leave it out for one run.")

    def check(self, models: Sequence[Model], small_photos: bool) -> None:
        """:class:`UsageError` for names that clash, and for methods that need what is not there."""
        names = [model.name for model in models] + [named_path(words)[0] for words in self.predictions]
        check_names([*names, *(baseline.value for baseline in self.baselines)])
        known = [*names, *(baseline.value for baseline in self.baselines)]
        if self.reference is not None and self.reference not in known:
            raise UsageError(f"The reference {self.reference!r} is none of the methods.", f"Here: {', '.join(known)}.")
        makers = [model.name for model in models] + [baseline.value for baseline in self.baselines]
        if makers and not small_photos:
            raise UsageError(f"{makers[0]} needs small photos, and there are none.", "Give --lr or --degrade.")


def run(
    subject: Subject,
    contest: Contest,
    names: Sequence[str],
    protocols: Sequence[str],
    output: Path | None,
    console: Console,
    *,
    overwrite: bool,
    debug: bool,
) -> None:
    """Evaluate, write the report and show it.

    Raises :class:`~xpsr_cli.errors.PartialFailureError` at the end if pictures could not be scored.
    """
    folders = subject.folders()
    found = find_pairs(folders, subject.selection)
    degradation, scale = subject.degradation(), subject.enlargement(found)
    modes = [replace(settings, scale=scale) for settings in contest.modes]
    models = [
        model
        for words in contest.models
        for model in prepare_models(
            words, modes, contest.add_on, contest.captions, contest.placing, console, contest.prompts
        )
    ]
    contest.check(models, folders.lr is not None or degradation is not None)
    protocols = protocols or (folders.known.protocol if folders.known else DEFAULT_PROTOCOL,)
    known_scale = scale if found.scale is not None or degradation is not None else None
    metrics, missing = make_metrics(names, protocols, scale=known_scale, device=contest.placing.device)

    output = USUAL_FOLDER / folders.name if output is None else output
    with _alone(output), console.log_lines("xpsr_cli", warnings_only=True):
        with console.progress("set") as progress:
            prepared = prepare_set(folders, found, output, degradation, overwrite=overwrite, progress=progress)
        for note in (*([found.selection] if found.selection else []), *prepared.notes):
            console.note(note)
        metrics, missing = usable_metrics(prepared.set, metrics, missing)
        methods = list(_methods(contest, models, prepared, scale, output, console, overwrite=overwrite, debug=debug))
        provenance = {
            "command": ["xpsr", *sys.argv[1:]],
            "protocols": {name: dict(protocol_named(name).describe()) for name in protocols},
            "notes": [*prepared.notes, *(note for method in methods for note in method.notes)],
            "left out of the set": {rejected.picture: rejected.reason for rejected in prepared.rejected},
        }
        with console.progress("eval") as progress:
            evaluation = evaluate(prepared.set, methods, metrics, missing, output, progress, provenance=provenance)
        show(evaluation, output, contest.reference, console)
    tell_gaps(evaluation, prepared.rejected, console)
    raise_for_gaps(evaluation, prepared.rejected, output)


def _methods(
    contest: Contest,
    models: Sequence[Model],
    prepared: PreparedSet,
    scale: float,
    output: Path,
    console: Console,
    *,
    overwrite: bool,
    debug: bool,
) -> Iterator[Method]:
    """Every method with its pictures, in the order models, predictions, baselines. Folders are looked at first."""
    pictures: EvaluationSet = prepared.set
    whole = "selection" not in pictures.about
    given = [predicted(pictures, *named_path(words), whole=whole) for words in contest.predictions]
    for method in given:
        for note in method.notes:
            console.note(note)
    for model in models:
        yield upscaled(model, pictures, output, contest.seeds, console, overwrite=overwrite, debug=debug)
    yield from given
    for baseline in contest.baselines:
        with console.progress("baseline") as progress:
            yield resampled(pictures, baseline, scale, output, overwrite=overwrite, progress=progress)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """The output folder is there inside the block, and no other run works in it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = lock_file(output / ".xpsr-eval.lock")
    except OSError as error:
        raise PhotoError(f"{output} cannot be used: {reason(error)}.", "Name another folder with -o.") from error
    with lock as has_it:
        if not has_it:
            raise UsageError(f"Another xpsr eval is at work in {output}.", "Wait for it, or name another folder.")
        yield
