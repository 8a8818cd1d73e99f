"""Photos in, photos out: everything that can be refused is refused first, and one bad photo does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli import __version__
from xpsr_cli.cli import outcomes
from xpsr_cli.cli.console import Console, print_error
from xpsr_cli.cli.dry_run import tell_forecast
from xpsr_cli.cli.failures import as_xpsr_error
from xpsr_cli.cli.one_photo import deciding, upscale_file
from xpsr_cli.cli.work_progress import RunProgress, reference_steps, run_progress, units_of
from xpsr_cli.errors import PartialFailureError, PhotoError, UsageError
from xpsr_cli.photos.inputs import ResultFormat, Shard, find_photos, output_paths, results_folder
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.photos.sink import check_output, result_info
from xpsr_cli.photos.source import open_photo
from xpsr_cli.settings import OutputOptions, UpscaleSettings, output_size
from xpsr_cli.upscaling.journal import Journal, State

if TYPE_CHECKING:
    from xpsr_cli.cli.photo_prompts import Prompts
    from xpsr_cli.upscaling.plan import Plan
    from xpsr_cli.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class FileOptions:
    """Which files are taken, what happens to those that exist, and how results are written."""

    recursive: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    shard: Shard | None = None
    format: ResultFormat | None = None
    work_dir: Path | None = None
    dry_run: bool = False
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Item:
    """A photo to be done: its header and that of its result, without the metadata, which may be large."""

    source: Path
    target: Path
    photo: PhotoInfo
    result: PhotoInfo


class Batch:
    """One run of ``xpsr upscale`` over its photos; the model is loaded once, and only if there is work for it.

    ``model`` gives what of the model decides the bytes of a result, as JSON-like values, without loading it.
    """

    def __init__(
        self,
        settings: UpscaleSettings,
        files: FileOptions,
        console: Console,
        model: Callable[[], Mapping[str, Any]],
        prompts: Prompts,
        *,
        stop_at_errors: bool = False,
    ) -> None:
        self._settings = settings
        self._files = files
        self._console = console
        self._model = model
        self._prompts = prompts
        self._stop_at_errors = stop_at_errors
        self._failed: list[Path] = []

    def run(self, inputs: Sequence[Path], output: Path, load: Callable[[], Upscaler]) -> None:
        """Upscale ``inputs`` to ``output``.

        A single photo's failure is raised as it is; of several, each is told and the run ends with a
        :class:`PartialFailureError`.
        """
        targets = self._targets(inputs, output)
        self._stop_at_errors |= len(targets) == 1
        journal = Journal(results_folder(output), folder=self._files.work_dir, shard=str(self._files.shard or ""))
        if not self._files.dry_run:
            journal.recover(overwrite=self._files.overwrite)
        wanted = self._wanted(targets, journal)
        with _made_folders({target.parent for target in wanted.values() if target != output}), closing(journal):
            items = [item for item in map(self._checked, wanted, wanted.values()) if item is not None]
            if items:
                self._caption(items)
                self._do(items, load(), journal)
        if self._failed:
            names = ", ".join(str(path) for path in self._failed)
            others = "The others could be done." if self._files.dry_run else "The others are done."
            raise PartialFailureError(f"{len(self._failed)} of {len(targets)} photos failed: {names}.", others)

    def _targets(self, inputs: Sequence[Path], output: Path) -> dict[Path, Path]:
        """Where each photo's result goes; the names are those of all photos, whichever part of them is done here."""
        photos = find_photos(inputs, self._files.recursive, leave_out=results_folder(output))
        root = inputs[0] if len(inputs) == 1 and inputs[0].is_dir() else None
        targets = output_paths(photos, output, wanted=self._files.format, root=root)
        return targets if self._files.shard is None else dict(self._files.shard.of(list(targets.items())))

    def _making(self, photo: Path) -> dict[str, Any]:
        """All that decides the bytes of a result besides the photo itself: the settings, and what is said of it."""
        return {**self._made_with, **self._prompts.deciding(photo)}

    @cached_property
    def _made_with(self) -> dict[str, Any]:
        groups = {"settings": deciding(asdict(self._settings)), "output": asdict(self._files.output)}
        plain = {name: {key: _plain(value) for key, value in group.items()} for name, group in groups.items()}
        return {**plain, "model": dict(self._model()), "xpsr": __version__}

    def _wanted(self, targets: Mapping[Path, Path], journal: Journal) -> dict[Path, Path]:
        """The photos that are to be done; those whose result exists are left out or refused, as the user said."""
        wanted, refused = {}, []
        for source, target in targets.items():
            if not target.is_file():
                wanted[source] = target
                continue
            try:
                status = journal.status(source, target, self._making(source))
            except PhotoError as error:
                self._fail(source, target, error)
                continue
            if status.state is State.DONE:
                outcomes.tell_done_before(self._console, source, target)
            elif self._files.skip_existing:
                outcomes.tell_skipped(self._console, source, target)
            elif self._files.overwrite:
                wanted[source] = target
            else:
                refused.append(f"{target} {status.words}")
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise UsageError(f"{refused[0]}{more}.", "Add --overwrite or --skip-existing.")
        return wanted

    def _checked(self, source: Path, target: Path) -> Item | None:
        """The photo if it can be read and its result can be written, which is tried before the model is loaded."""
        options = self._files.output
        try:
            with open_photo(source) as photo:
                info = photo.info
                result = result_info(info, output_size(*info.size, self._settings.scale), target, options)
                transparent = info.alpha and (result.alpha or photo.transparent())
                check_output(target, result, options, transparent=transparent, source_path=source)
            self._making(source)  # words about it that cannot be read are told now
        except Exception as error:
            self._fail(source, target, error)
            return None
        return Item(source, target, *(replace(header, metadata=Metadata()) for header in (info, result)))

    def _caption(self, items: Sequence[Item]) -> None:
        """Have all photos described before the model takes the memory, and leave nothing of whoever did it."""
        if self._files.dry_run:
            return
        with (
            self._console.log_lines("xpsr_cli", warnings_only=True),
            self._console.progress("captions") as progress,
        ):
            self._prompts.prepare([item.source for item in items], progress)

    def _do(self, items: Sequence[Item], upscaler: Upscaler, journal: Journal) -> None:
        """Plan every photo, and then do every photo, or tell what doing it would take."""
        planned: list[tuple[Item, Plan]] = []
        for item in items:
            try:
                planned.append((item, upscaler.plan(item.photo, self._settings)))
            except PhotoError as error:
                self._fail(item.source, item.target, error)
        if self._files.dry_run:
            facts = [(item.source, item.target, item.photo, item.result, plan) for item, plan in planned]
            tell_forecast(self._console, upscaler, self._settings, facts)
            return
        first = reference_steps(upscaler, self._settings)
        labels = [outcomes.label(item.source, n, len(planned)) for n, (item, _) in enumerate(planned, start=1)]
        works = [units_of(len(plan.windows), plan.steps, first) for _, plan in planned]
        with (
            self._console.log_lines("xpsr_cli", warnings_only=True),
            run_progress(dict(zip(labels, works, strict=True)), quiet=self._console.quiet) as progress,
        ):
            for label, (item, _) in zip(labels, planned, strict=True):
                self._do_one(label, item, upscaler, journal, progress)

    def _do_one(self, label: str, item: Item, upscaler: Upscaler, journal: Journal, progress: RunProgress) -> None:
        files = self._files
        try:
            with progress.photo(label) as photo_progress:
                settings, caption = self._prompts.of(item.source, self._settings)
                told = {"prompts": [settings.prompt, settings.low_prompt, *map(asdict, settings.region_prompts)]}
                making, identity = self._making(item.source), {**upscaler.identity, **told}
                with journal.claim(item.source, item.target, making, identity) as claim:
                    if claim.status.state is State.DONE:  # by another process, meanwhile
                        outcomes.tell_done_before(self._console, item.source, item.target)
                        return
                    if claim.status.state is not State.NEW and not files.overwrite:
                        raise PhotoError(f"{item.target} {claim.status.words}.", "Add --overwrite or --skip-existing.")
                    info, made = upscale_file(claim, upscaler, settings, caption, files.output, photo_progress)
        except Exception as error:
            self._fail(item.source, item.target, error)
        else:
            outcomes.tell_done(self._console, claim, label, info, made, caption, upscaler, progress.left)

    def _fail(self, source: Path, target: Path, error: Exception) -> None:
        """Remember a photo that failed and go on; the only photo's failure is raised again instead."""
        failure = as_xpsr_error(error)
        outcomes.tell_failed(self._console, source, target, failure)
        if self._stop_at_errors:
            raise error
        self._failed.append(source)
        print_error(failure.message, failure.hint)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


@contextmanager
def _made_folders(folders: Iterable[Path]) -> Iterator[None]:
    """The folders exist inside the block; those made for it and left empty are taken away again."""
    made: list[Path] = []
    try:
        for folder in folders:
            made += [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename) not in made:
            raise
        raise PhotoError(f"The folder {error.filename} cannot be made: {error.strerror}.") from error
    finally:
        for folder in sorted(made, reverse=True):
            with suppress(OSError):  # it holds results
                folder.rmdir()
