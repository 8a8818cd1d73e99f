"""Which photos a command line names, where their results go, and which part of them this machine does.

Standard library only.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.formats import EXTENSIONS, FORMAT_NAMES, FORMATS, OUTPUT_EXTENSIONS, reason

Item = TypeVar("Item")


class ResultFormat(str, Enum):
    """In what format results are written; ``same`` is that of the photo by its name, or PNG where none can be."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIF = "tif"
    SAME = "same"

    def extension(self, photo: Path) -> str:
        """What the name of a photo's result ends in."""
        if self is not ResultFormat.SAME:
            return f".{self.value}"
        return photo.suffix if photo.suffix.lower() in OUTPUT_EXTENSIONS else ".png"


@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts of a list, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, words: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """The part that ``"3/8"`` names; ``"slurm"`` asks the array job that the process runs in.

        :class:`UsageError` for anything else, and for an array whose numbers are not evenly spaced.
        """
        if words == "slurm":
            return cls._of_array(environment)
        number, slash, count = words.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UsageError(f"shard is {words!r}, which is no part of a whole.", "Write 1/8 to 8/8, or slurm.")
        return cls(int(number), int(count))

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Shard:
        """Slurm's numbers of an array job: this task's, the first, how many there are, and how far they are apart."""
        names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
        try:
            task, first, count = (int(environment[name]) for name in names)
            step = int(environment.get("SLURM_ARRAY_TASK_STEP") or 1)
            place, between = divmod(task - first, step)
        except (KeyError, ValueError, ZeroDivisionError):
            raise UsageError(
                "shard is slurm, but this is no task of a Slurm array job.", "Start it with sbatch --array=1-8."
            ) from None
        if between or not 0 <= place < count:
            raise UsageError(
                f"shard is slurm, but task {task} is none of {count} evenly spaced ones from {first} on.",
                "Number the tasks without gaps, as in sbatch --array=1-8.",
            )
        return cls(place + 1, count)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """This part of ``items``: every one of them is in exactly one part."""
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"


def find_photos(
    paths: Sequence[str | Path], recursive: bool = False, leave_out: str | Path | None = None
) -> list[Path]:
    """The photo files that files, folders and glob patterns name, sorted, each once.

    A file is taken whatever its name. Of a folder (and with ``recursive`` of the folders under it) and of a pattern
    come the files with a photo's extension, rather than links to them; hidden ones are left out, and so are those
    under the folder ``leave_out`` (the results) where it lies below the one that is searched. Links that lead nowhere
    come too, to be told of one by one. A name that exists is never read as a pattern.
    :class:`PhotoError` for whatever is not there, cannot be searched or leads to no photo, :class:`UsageError` when
    nothing is named.
    """
    if not paths:
        raise UsageError("No photo is named.", "Name files, folders or patterns such as 'photos/*.jpg'.")
    found: dict[str, Path] = {}
    for path in paths:
        photos = _photos_of(Path(path), recursive, None if leave_out is None else Path(leave_out))
        for photo in sorted(photos, key=lambda photo: (photo.is_symlink(), photo)):  # files before links
            found.setdefault(os.path.realpath(photo), photo)
    return sorted(found.values())


def results_folder(output: str | Path) -> Path:
    """The folder that all results of a run lie in or under: ``output`` itself, or the folder of that file."""
    return Path(output) if _is_folder(output) else Path(output).parent


def output_paths(
    inputs: Sequence[Path],
    output: str | Path | None,
    *,
    suffix: str = "",
    wanted: ResultFormat | None = None,
    root: Path | None = None,
) -> dict[Path, Path]:
    """Where the result of each input goes, so that no two share a file and none is an input.

    ``output`` is a file when there is one input and the name has an extension; it is a folder when it exists as one,
    ends in a separator, or has no extension; ``None`` is the folder of each input. In a folder a result is called
    by the input's stem, ``suffix`` and the extension of the ``wanted`` format (PNG). With ``root`` the folders under
    it are repeated in the output. Results that would share a name, ``a.png`` of ``a.png`` and of ``a.jpg``, are called
    ``a_png.png`` and ``a_jpg.png``. Nothing is created.
    :class:`UsageError` for many inputs and one output file, a file whose extension says another format than the
    ``wanted`` one, or a result that would replace an input.
    """
    if output is not None and not _is_folder(output):
        if len(inputs) == 1:
            _check_format(inputs[0], Path(output), wanted)
            return {inputs[0]: Path(output)}
        if Path(output).suffix.lower() in EXTENSIONS:
            raise UsageError(f"{len(inputs)} photos cannot go into the one file {output}.", "Name a folder.")
    folders = {photo: _folder_for(photo, output, root) for photo in inputs}
    endings = {photo: suffix + (wanted or ResultFormat.PNG).extension(photo) for photo in inputs}
    plain = {photo: folders[photo] / f"{photo.stem}{endings[photo]}" for photo in inputs}
    shared = Counter(_key(path) for path in plain.values())
    taken = {_key(path) for path in plain.values() if shared[_key(path)] == 1}
    results: dict[Path, Path] = {}
    for photo, path in plain.items():
        if shared[_key(path)] > 1:
            stem = f"{photo.stem}_{photo.suffix[1:].lower()}" if photo.suffix else photo.stem
            path = _free_name(folders[photo], stem, endings[photo], taken)
            taken.add(_key(path))
        results[photo] = path
    _check_not_inputs(results)
    return results


def _check_format(photo: Path, output: Path, wanted: ResultFormat | None) -> None:
    """:class:`UsageError` for a file whose extension says another format than the wanted one."""
    if wanted is None:
        return
    extension = wanted.extension(photo).lower()
    alike = next(photo_format.extensions for photo_format in FORMATS if extension in photo_format.extensions)
    if output.suffix.lower() not in alike:
        raise UsageError(
            f"format is {wanted.value}, but {output} is to be a {output.suffix} file.",
            f"Name a {alike[0]} file or a folder, or leave the format out.",
        )


def _photos_of(path: Path, recursive: bool, leave_out: Path | None) -> list[Path]:
    try:
        if path.is_dir():
            entries = _files_under(path, leave_out) if recursive else path.iterdir()
            photos = [entry for entry in entries if _looks_like_a_photo(entry, path)]
            hint = "" if recursive else " Folders under it are only searched when asked for (recursive)."
            missing = f"{path} is a folder with no {FORMAT_NAMES} files in it."
        elif path.exists() or path.is_symlink():
            return [path]
        elif glob.has_magic(str(path)):
            matches = (Path(match) for match in glob.iglob(str(path), recursive=True))
            photos = [match for match in matches if _looks_like_a_photo(match, match.parent)]
            photos = [photo for photo in photos if not _is_left_out(photo, _fixed_part(path), leave_out)]
            missing, hint = f"No photo matches {path}.", ""
        else:
            raise PhotoError(f"{path} does not exist.", "Check the name and the folder.")
    except (OSError, ValueError) as error:
        named = getattr(error, "filename", None) or path
        raise PhotoError(f"{named} cannot be opened: {reason(error)}.", "Check its permissions.") from error
    if not photos:
        raise PhotoError(missing, f"Photos are found by the extensions {', '.join(EXTENSIONS)}.{hint}")
    return photos


def _files_under(top: Path, leave_out: Path | None) -> Iterator[Path]:
    """Every file below a folder, links not followed; a folder that cannot be listed raises its :class:`OSError`."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, names, files in os.walk(top, onerror=refuse):
        names[:] = [n for n in names if not n.startswith(".") and not _is_left_out(Path(folder, n), top, leave_out)]
        yield from (Path(folder, name) for name in files)


def _is_left_out(path: Path, searched: Path, leave_out: Path | None) -> bool:
    """Whether a path is under ``leave_out``, and that below the folder that was ``searched``."""
    if leave_out is None:
        return False
    place, above, folder = (Path(os.path.realpath(p)) for p in (path, searched, leave_out))
    return place.is_relative_to(folder) and not above.is_relative_to(folder)


def _fixed_part(pattern: Path) -> Path:
    """The folder in front of the first part of a pattern that has a wildcard in it."""
    return next(folder for folder in pattern.parents if not glob.has_magic(str(folder)))


def _looks_like_a_photo(path: Path, folder: Path) -> bool:
    """Whether a file found in ``folder`` has a photo's extension and no hidden name on the way to it."""
    if path.suffix.lower() not in EXTENSIONS or any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_folder(output: str | Path) -> bool:
    ends_in_separator = str(output).endswith(("/", os.sep))
    return ends_in_separator or Path(output).is_dir() or not Path(output).suffix


def _folder_for(photo: Path, output: str | Path | None, root: Path | None) -> Path:
    if output is None:
        return photo.parent
    if root is not None and photo.is_relative_to(root):
        return Path(output) / photo.relative_to(root).parent
    return Path(output)


def _free_name(folder: Path, stem: str, ending: str, taken: Iterable[str]) -> Path:
    path, number = folder / f"{stem}{ending}", 1
    while _key(path) in taken:
        number += 1
        path = folder / f"{stem}_{number}{ending}"
    return path


def _key(path: Path) -> str:
    """What two names have in common when some file system takes them for one."""
    return os.path.realpath(path).casefold()


def _check_not_inputs(results: dict[Path, Path]) -> None:
    inputs = {os.path.realpath(photo) for photo in results}
    for photo, path in results.items():
        if os.path.realpath(path) in inputs:
            raise UsageError(f"The result of {photo} would replace the input {path}.", "Name another folder or file.")
