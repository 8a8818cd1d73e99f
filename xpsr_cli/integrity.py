"""Whether files of weights are whole: SHA-256 sums beside them, and the length a safetensors header promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xpsr_cli.errors import WeightsError

SUMS_NAME = "SHA256SUMS"
"""Name of the file of hashes in a folder of weights; ``sha256sum -c`` understands it."""


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
