"""Photos in, photos out: everything that can be refused is refused first, and one bad photo does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.cli.console import Console, print_error
from xpsr_cli.cli.failures import as_xpsr_error
from xpsr_cli.errors import PartialFailureError, PhotoError, UsageError, XpsrError
from xpsr_cli.photos.inputs import find_photos, output_paths
from xpsr_cli.photos.sink import check_output, write_photo
from xpsr_cli.photos.source import read_photo
from xpsr_cli.settings import UpscaleSettings

if TYPE_CHECKING:
    from xpsr_cli.upscaling.upscaler import Upscaler, UpscaleResult


@dataclass(frozen=True)
class FileOptions:
    """Which files are taken and what happens to those that exist."""

    recursive: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    quality: int | None = None


class Batch:
    """One run of ``xpsr upscale`` over its photos; the model is loaded once, and only if there is work for it."""

    def __init__(
        self, settings: UpscaleSettings, files: FileOptions, console: Console, *, stop_at_errors: bool = False
    ) -> None:
        self._settings = settings
        self._files = files
        self._console = console
        self._stop_at_errors = stop_at_errors
        self._failed: list[Path] = []

    def run(self, inputs: Sequence[Path], output: Path, load: Callable[[], Upscaler]) -> None:
        """Upscale ``inputs`` to ``output``.

        A single photo's failure is raised as it is; of several, each is told and the run ends with a
        :class:`PartialFailureError`.
        """
        targets = self._targets(inputs, output)
        self._stop_at_errors |= len(targets) == 1
        with _made_folders({target.parent for target in targets.values() if target != output}):
            ready = {source: target for source, target in targets.items() if self._is_possible(source, target)}
            if ready:
                self._upscale_all(ready, load())
        if self._failed:
            names = ", ".join(str(path) for path in self._failed)
            raise PartialFailureError(
                f"{len(self._failed)} of {len(targets)} photos failed: {names}.", "The others are done."
            )

    def _targets(self, inputs: Sequence[Path], output: Path) -> dict[Path, Path]:
        """Where each photo's result goes; photos whose result exists are dropped or refused, as the user said."""
        photos = find_photos(inputs, self._files.recursive)
        root = inputs[0] if len(inputs) == 1 and inputs[0].is_dir() else None
        targets = output_paths(photos, output, root=root)
        there = [source for source, target in targets.items() if target.is_file()]
        if there and self._files.skip_existing:
            for source in there:
                target = targets.pop(source)
                self._console.note(f"{source}: skipped, {target} exists")
                self._console.result(_record(source, target, "skipped"))
        elif there and not self._files.overwrite:
            more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
            raise UsageError(f"{targets[there[0]]} exists{more}.", "Add --overwrite or --skip-existing.")
        return targets

    def _is_possible(self, source: Path, target: Path) -> bool:
        """Whether the photo can be read and its result can be written, tried before the model is loaded."""
        from xpsr_cli.upscaling.canvas import output_size

        try:
            photo = read_photo(source)
            size = output_size(photo.width, photo.height, self._settings.scale)
            check_output(target, size, photo, quality=self._files.quality)
        except PhotoError as error:
            self._fail(source, target, error)
            return False
        return True

    def _upscale_all(self, targets: Mapping[Path, Path], upscaler: Upscaler) -> None:
        for number, (source, target) in enumerate(targets.items(), start=1):
            label = source.name if len(targets) == 1 else f"[{number}/{len(targets)}] {source.name}"
            try:
                with self._console.progress(label) as progress:
                    result = upscaler.upscale(read_photo(source), self._settings, progress)
                    write_photo(result.photo, target, quality=self._files.quality)
            except Exception as error:
                self._fail(source, target, error)
            else:
                self._tell(label, source, target, result, upscaler)

    def _fail(self, source: Path, target: Path, error: Exception) -> None:
        """Remember a photo that failed and go on; the only photo's failure is raised again instead."""
        failure = as_xpsr_error(error)
        self._console.result(_record(source, target, "failed", failure))
        if self._stop_at_errors:
            raise error
        self._failed.append(source)
        print_error(failure.message, failure.hint)

    def _tell(self, label: str, source: Path, target: Path, result: UpscaleResult, upscaler: Upscaler) -> None:
        photo, seconds = result.photo, sum(result.seconds.values())
        self._console.note(f"{label}: {photo.width} x {photo.height} pixels in {seconds:.1f} s")
        record = _record(source, target, "done")
        if self._console.as_json:
            record |= {
                "width": photo.width,
                "height": photo.height,
                "model": upscaler.components.name,
                "fingerprint": upscaler.components.fingerprint,
                "seed": result.seed,
                "settings": result.settings,
                "windows": result.windows,
                "seconds": result.seconds,
            }
        self._console.result(record, str(target))


def _record(source: Path, target: Path, status: str, failure: XpsrError | None = None) -> dict[str, Any]:
    record: dict[str, Any] = {"input": str(source), "output": str(target), "status": status}
    if failure is not None:
        record |= {"error": failure.message, "hint": failure.hint, "exit_code": int(failure.exit_code)}
    return record


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
