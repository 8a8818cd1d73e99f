"""Photos in tar shards, as webdataset writes them: read where they lie, never unpacked.

A sample is the members of one shard that share a name up to its first dot: a photo, and where wanted ``NAME.txt``
(what is in it) or ``NAME.json``, an object with any of ``high``, ``low``, ``photo_id`` and ``category``.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos.formats import EXTENSIONS, reason
from xpsr_cli.training.pictures import Picture, TarMember
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto, known_category, one_line

SHARD_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Of files that are taken for shards; compressed ones are refused in so many words."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")

Sample = dict[str, TarMember]  # members by what follows the first dot of their names


def shard_photos(shard: Path, top: Path) -> Iterator[TrainingPhoto | LeftOut]:
    """Photos of a shard; what is no readable photo, or has texts that are none, is left out.

    Raises:
        PhotoError: the shard is damaged, or it ends before its end mark.
        UsageError: the shard is compressed, or no tar file.
    """
    shown = shard.relative_to(top).as_posix()
    samples: dict[str, Sample] = {}
    for member in _members(shard):
        path = PurePosixPath(member.name)
        stem, _, kind = path.name.partition(".")
        if stem:  # others are hidden files
            samples.setdefault(str(path.with_name(stem)), {})[kind.lower()] = member
    for name, sample in samples.items():
        photos = {kind: member for kind, member in sample.items() if f".{kind}".endswith(EXTENSIONS)}
        chosen = next((kind for kind in photos if f".{kind}" in EXTENSIONS), None)
        for kind, member in photos.items():
            file = f"{shown}/{member.name}"
            if kind != chosen:
                yield LeftOut(file, _why_not(name, kind))
                continue
            try:
                yield _photo(file, name, member, sample)
            except PhotoError as error:
                yield LeftOut(file, error.message)


def _why_not(name: str, kind: str) -> str:
    if f".{kind}" in EXTENSIONS:
        return f"The sample {name} has another photo."
    return f"By its name it is the {kind!r} of the sample {name}: the names of samples hold no dots."


def _photo(file: str, name: str, member: TarMember, sample: Sample) -> TrainingPhoto:
    picture = Picture.at(member)
    said = _facts(sample["json"]) if "json" in sample else {}
    text = _text(sample["txt"]) if "txt" in sample else ""
    return TrainingPhoto(
        file=file,
        picture=picture,
        photo_id=said.get("photo_id") or PurePosixPath(name).name,
        category=known_category(said.get("category", "")),
        high=said.get("high") or text,
        low=said.get("low", ""),
    )


def _facts(member: TarMember) -> dict[str, str]:
    """The texts of a JSON member that training knows, each as one line."""
    try:
        values: Any = json.loads(member.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise PhotoError(f"{member.name} beside it is no JSON.") from None
    if not isinstance(values, dict):
        raise PhotoError(f"{member.name} beside it holds no object.")
    known = {key: values[key] for key in ("high", "low", "photo_id", "category") if values.get(key) is not None}
    if isinstance(known.get("photo_id"), int):
        known["photo_id"] = str(known["photo_id"])
    for key, value in known.items():
        if not isinstance(value, str):
            raise PhotoError(f"{key} in {member.name} beside it is no text.")
    return {key: one_line(value) for key, value in known.items()}


def _text(member: TarMember) -> str:
    try:
        return one_line(member.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise PhotoError(f"{member.name} beside it is not UTF-8.") from None


def _members(shard: Path) -> list[TarMember]:
    """The regular files in a shard; only its headers are read."""
    members: list[TarMember] = []
    damaged = PhotoError(f"{shard} is damaged or cut short.", "Copy or download it again.")
    try:
        with shard.open("rb") as stream:
            head = stream.read(8)
            if head.startswith(_COMPRESSED):
                raise UsageError(f"{shard} is compressed.", "Uncompress it: photos in it are read by their place.")
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for info in archive:
                    if info.isreg() and not info.issparse():
                        members.append(TarMember(shard, info.name, info.offset_data, info.size))
                stream.seek(archive.offset)
                end_mark = stream.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, ValueError, OverflowError):
        if head.strip(b"\0") and not members:
            raise UsageError(f"{shard} is no tar file.", "Shards are what tar and webdataset write.") from None
        raise damaged from None
    except OSError as error:
        raise PhotoError(f"{shard} cannot be opened: {reason(error)}.", "Check its permissions.") from error
    if end_mark != bytes(tarfile.BLOCKSIZE):  # tarfile takes anything for the end
        raise damaged
    return members
