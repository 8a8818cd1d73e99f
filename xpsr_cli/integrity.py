"""Whether files of weights are whole: JSON, SHA-256 sums, and the length a safetensors header promises."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from xpsr_cli.errors import WeightsError

SUMS_NAME = "SHA256SUMS"
"""Name of the file of hashes in a folder of weights; ``sha256sum -c`` understands it."""


_hashes: dict[str, tuple[tuple[int, int], str]] = {}
_SETTLED_NS = 2 * 10**9  # the coarsest clock of a file system (FAT): younger files may change and look the same


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    A file is read once in a process, as long as its size and time stay as they were; one that was written in the last
    two seconds is read every time.
    """
    name = os.path.realpath(path)
    with path.open("rb") as file:
        status, now = os.fstat(file.fileno()), time.time_ns()
        state = (status.st_size, status.st_mtime_ns)
        before, known = _hashes.get(name, (None, ""))
        if before == state:
            return known
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_mtime_ns + _SETTLED_NS < now:
        _hashes[name] = (state, digest)
    return digest


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; :class:`WeightsError` if the file is missing or not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.", "Check the model folder.") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}.", "Fetch or save the weights again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__} instead of an object.")
    return content


def read_sums(folder: Path) -> dict[str, str]:
    """The recorded hashes of a folder, path to SHA-256. Empty when nothing was recorded."""
    try:
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {path.lstrip(" *"): digest for digest, _, path in (line.partition(" ") for line in lines if line.strip())}


def record_sums(folder: Path) -> dict[str, str]:
    """Hash every file of a folder but its card, and write its ``SHA256SUMS``; returns path to SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (SUMS_NAME, "README.md"))
    sums = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
    text = "".join(f"{digest}  {path}\n" for path, digest in sums.items())
    (folder / SUMS_NAME).write_text(text, encoding="utf-8", newline="\n")
    return sums


def check_safetensors(path: Path) -> None:
    """Raise :class:`WeightsError` unless the file is a safetensors file as long as its header says."""
    length = path.stat().st_size
    try:
        with path.open("rb") as file:
            header_length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(header_length, length)))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise WeightsError(f"{path} is not a safetensors file, or its header is damaged.", "Fetch it again.") from None
    if 8 + header_length + max(ends, default=0) != length:
        raise WeightsError(f"{path} is damaged: its length is not what its header says.", "Fetch it again.")
