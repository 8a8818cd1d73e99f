"""What a command line of files or of folders asks to have compared, and by which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xpsr_cli.errors import UsageError
from xpsr_cli.evaluation.comparison import Subject
from xpsr_cli.evaluation.pairing import fitting, photos_in


def find_subjects(inputs: Sequence[Path]) -> tuple[list[Subject], list[Path]]:
    """The pictures to be compared with each other, and the files that have no partner.

    Two or more files are one subject. Of two or more folders every picture that all of them have, by the name of its
    file without the extension and without what says its size, is one. :class:`UsageError` for anything else.
    """
    if len(inputs) < 2:
        named = f"Only {inputs[0]} is" if inputs else "Nothing is"
        raise UsageError(f"{named} there to be compared.", "Name two or more pictures, or two or more folders.")
    folders = [path for path in inputs if path.is_dir()]
    if not folders:
        names = _distinct(inputs)
        return [Subject(" / ".join(names), tuple(zip(names, inputs, strict=True)))], []
    if len(folders) < len(inputs):
        file = next(path for path in inputs if path not in folders)
        raise UsageError(
            f"{folders[0]} is a folder and {file} is not, so they cannot be compared.",
            "Name pictures only, or folders only.",
        )
    return _of_folders(folders)


def _of_folders(folders: Sequence[Path]) -> tuple[list[Subject], list[Path]]:
    found = [photos_in(folder, "folder to compare") for folder in folders]
    stems = Counter(photo.stem for photo in found[0])
    if (twice := next((stem for stem, count in stems.items() if count > 1), None)) is not None:
        raise UsageError(f"{folders[0]} has several pictures called {twice}.", "Keep one of them.")
    first = {photo.stem: photo for photo in found[0]}
    partners = [fitting({stem: [stem] for stem in first}, photos) for photos in found[1:]]
    names = _distinct([folder.resolve() for folder in folders])
    subjects = [
        Subject(stem, tuple(zip(names, [photo, *(others[stem] for others in partners)], strict=True)))
        for stem, photo in first.items()
        if all(stem in others for others in partners)
    ]
    if not subjects:
        both = " and ".join(str(folder) for folder in folders)
        raise UsageError(
            f"{both} have no picture of the same name.",
            "Give those that belong together one name, as in a/1.png b/1.jpg.",
        )
    shown = {file for subject in subjects for _, file in subject.pictures}
    return subjects, [photo for photos in found for photo in photos if photo not in shown]


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths that tell them apart, as short as they can be; numbered where the files are the same."""
    parts = [path.absolute().parts for path in paths]
    most = max(map(len, parts))
    ends = [["/".join(names[-count:]) for names in parts] for count in range(1, most + 1)]
    chosen = next((names for names in ends if len(set(names)) == len(names)), [path.name for path in paths])
    seen: Counter[str] = Counter()
    result = []
    for name in chosen:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
