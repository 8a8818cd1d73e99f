"""What is in photos, for training: from the captions that ``xpsr caption`` keeps, or from a file that it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from xpsr_cli.captioning.caption_files import read_captions
from xpsr_cli.captioning.choosing import choose_captioner
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.errors import UsageError


class StoredCaptions(Mapping[str, str]):
    """The kept captions of the multimodal model that ``xpsr caption`` would take here, by the photo's SHA-256."""

    def __init__(self) -> None:
        self._store = CaptionStore()
        self._key = choose_captioner().key

    def __getitem__(self, sha256: str) -> str:
        caption = self._store.read(sha256, self._key)
        if caption is None or not caption.high:
            raise KeyError(sha256)
        return caption.high

    def __iter__(self) -> Iterator[str]:
        raise TypeError("The store does not list its photos.")

    def __len__(self) -> int:
        raise TypeError("The store does not count its photos.")


def written_captions(path: Path) -> dict[str, str]:
    """Those of a file; :class:`UsageError` for one that is none, or whose rows have no hashes of their photos."""
    rows = read_captions(path).rows
    captions = {row.sha256: row.caption.high for row in rows if row.sha256 and row.caption.high}
    if not captions:
        raise UsageError(
            f"None of the {len(rows)} captions in {path} has a text and the sha256 of its photo.",
            "Write it with: xpsr caption photos/ --export captions.jsonl",
        )
    return captions
