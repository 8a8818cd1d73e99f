"""Which photos a command line names, and where their results go. Standard library only."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.formats import EXTENSIONS, FORMAT_NAMES, reason


def find_photos(paths: Sequence[str | Path], recursive: bool = False) -> list[Path]:
    """The photo files that files, folders and glob patterns name, sorted, each once.

    A file is taken whatever its name. Of a folder (and with ``recursive`` of the folders under it) and of a pattern
    come the files with a photo's extension; hidden ones are left out. A name that exists is never read as a pattern.
    :class:`PhotoError` for whatever is not there or leads to no photo, :class:`UsageError` when nothing is named.
    """
    if not paths:
        raise UsageError("No photo is named.", "Name files, folders or patterns such as 'photos/*.jpg'.")
    found: dict[str, Path] = {}
    for path in paths:
        for photo in _photos_of(Path(path), recursive):
            found.setdefault(os.path.realpath(photo), photo)
    return sorted(found.values())


def output_paths(
    inputs: Sequence[Path],
    output: str | Path | None,
    *,
    suffix: str = "",
    extension: str = ".png",
    root: Path | None = None,
) -> dict[Path, Path]:
    """Where the result of each input goes, so that no two share a file and none is an input.

    ``output`` is a file when there is one input and the name has an extension; it is a folder when it exists as one,
    ends in a separator, or has no extension; ``None`` is the folder of each input. In a folder a result is called
    by the input's stem, ``suffix`` and ``extension``. With ``root`` the folders under it are repeated in the output.
    Results that would share a name, ``a.png`` and ``a.jpg``, are called ``a_png`` and ``a_jpg``. Nothing is created.
    :class:`UsageError` for many inputs and one output file, or a result that would replace an input.
    """
    if output is not None and not _is_folder(output):
        if len(inputs) == 1:
            return {inputs[0]: Path(output)}
        if Path(output).suffix.lower() in EXTENSIONS:
            raise UsageError(f"{len(inputs)} photos cannot go into the one file {output}.", "Name a folder.")
    folders = {photo: _folder_for(photo, output, root) for photo in inputs}
    plain = {photo: folders[photo] / f"{photo.stem}{suffix}{extension}" for photo in inputs}
    shared = Counter(_key(path) for path in plain.values())
    taken = {_key(path) for path in plain.values() if shared[_key(path)] == 1}
    results: dict[Path, Path] = {}
    for photo, path in plain.items():
        if shared[_key(path)] > 1:
            stem = f"{photo.stem}_{photo.suffix[1:].lower()}" if photo.suffix else photo.stem
            path = _free_name(folders[photo], stem, f"{suffix}{extension}", taken)
            taken.add(_key(path))
        results[photo] = path
    _check_not_inputs(results)
    return results


def _photos_of(path: Path, recursive: bool) -> list[Path]:
    try:
        if path.is_dir():
            entries = path.rglob("*") if recursive else path.iterdir()
            photos = [entry for entry in entries if _looks_like_a_photo(entry, path)]
            hint = "" if recursive else " Folders under it are only searched when asked for (recursive)."
            missing = f"{path} is a folder with no {FORMAT_NAMES} files in it."
        elif path.exists():
            return [path]
        elif glob.has_magic(str(path)):
            matches = (Path(match) for match in glob.iglob(str(path), recursive=True))
            photos = [match for match in matches if _looks_like_a_photo(match, match.parent)]
            missing, hint = f"No photo matches {path}.", ""
        else:
            raise PhotoError(f"{path} does not exist.", "Check the name and the folder.")
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be opened: {reason(error)}.", "Check its permissions.") from error
    if not photos:
        raise PhotoError(missing, f"Photos are found by the extensions {', '.join(EXTENSIONS)}.{hint}")
    return photos


def _looks_like_a_photo(path: Path, folder: Path) -> bool:
    """Whether a file found in ``folder`` has a photo's extension and no hidden name on the way to it."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in EXTENSIONS and not hidden and path.is_file()


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
