"""Captions that were made before, in one place of the user's cache: a photo is described once.

One small file holds one caption: ``captions/ab/abcd...-KEY.json``, with the SHA-256 of the photo's file and the digest
of who described it and how; captions with texts for regions end in a digest of their boxes. Files are whole or absent,
so any number of processes may share the folder. What cannot be read counts as absent. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from xpsr_cli.captioning.captions import Box, Caption, CaptionerKey
from xpsr_cli.captioning.json_files import write_json
from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import reason
from xpsr_cli.user_cache import cache_folder

_log = logging.getLogger(__name__)


class CaptionStore:
    """The captions of one cache, by the content of the photo, the captioner and the regions."""

    def __init__(self, folder: Path | None = None) -> None:
        """The store in ``folder``, which is ``captions`` in :func:`cache_folder` unless it is named."""
        self.folder = cache_folder() / "captions" if folder is None else folder
        self._writable = True

    def read(self, photo_sha256: str, key: CaptionerKey, boxes: Sequence[Box] = ()) -> Caption | None:
        """The caption that ``key`` gave the photo, with texts for ``boxes``; ``None`` if there is none."""
        try:
            values = json.loads(self._file(photo_sha256, key, boxes).read_bytes())
            if (values["photo_sha256"], values["key"]) != (photo_sha256, key.digest):
                return None
            return Caption.from_dict(values)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def write(self, photo_sha256: str, key: CaptionerKey, caption: Caption, boxes: Sequence[Box] = ()) -> None:
        """Keep the caption that ``key`` gave the photo when it was asked for ``boxes`` too.

        A cache that cannot be written (a full disk, a home without permissions) fails nothing; it is reported once.
        """
        path = self._file(photo_sha256, key, boxes)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"photo_sha256": photo_sha256, "key": key.digest, **caption.to_dict()})
        except (OSError, PhotoError) as error:
            if self._writable:
                words = error.message if isinstance(error, PhotoError) else f"{path.parent}: {reason(error)}."
                _log.warning("Captions are not kept for the next time: %s", words)
            self._writable = False

    def _file(self, photo_sha256: str, key: CaptionerKey, boxes: Sequence[Box]) -> Path:
        ending = f"-{_digest(boxes)}" if boxes else ""
        return self.folder / photo_sha256[:2] / f"{photo_sha256}-{key.digest}{ending}.json"


def _digest(boxes: Sequence[Box]) -> str:
    text = json.dumps([astuple(box) for box in boxes])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
