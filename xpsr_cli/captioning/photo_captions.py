"""Where each photo of a run gets its two texts: words of a person, a file of captions, or a captioner.

A person's sidecar beside a photo wins over every captioner. What of the texts decides a result is known before any
captioner is loaded, so that finished photos are recognised at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xpsr_cli.captioning.caption_files import CaptionFile
from xpsr_cli.captioning.captioning import caption_photos
from xpsr_cli.captioning.captions import Box, Caption
from xpsr_cli.captioning.choosing import CaptionerChoice
from xpsr_cli.captioning.sidecars import Sidecar, read_sidecar
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.errors import PhotoError, XpsrError
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.photos.source import open_photo
from xpsr_cli.progress import Progress
from xpsr_cli.settings import CaptionSource

NOTHING = Caption("", "", "none")


class PhotoCaptions:
    """The captions of the photos of one run.

    Args:
        source: where they come from, as ``--captions`` says it; ``AUTO`` takes any sidecar that is true of its photo
            and has the regions that are wanted, else the captioner.
        choice: the captioner; ``None`` where the source needs none.
        file: captions that were written down before; they are then the only source.
        boxes: the parts of a photo that get a high-level text of their own.
        store: captions that were made before.
    """

    def __init__(
        self,
        source: CaptionSource,
        *,
        choice: CaptionerChoice | None = None,
        file: CaptionFile | None = None,
        boxes: Callable[[PhotoInfo], Sequence[Box]] | None = None,
        store: CaptionStore | None = None,
    ) -> None:
        self.source = source
        self.choice = choice
        self._file = file
        self._boxes = boxes
        self._store = store or CaptionStore()
        self._made: dict[Path, Caption | XpsrError] = {}

    def deciding(self, photo: Path) -> dict[str, Any]:
        """JSON-like values that say which caption a photo gets: its texts, or who will write them, and of what parts.

        Raises what :meth:`of` raises for words that cannot be read.
        """
        written = self._written(photo)
        if written is not None:
            return written.to_dict()
        assert self.choice is not None
        parts = "regions" if self._boxes else "image"
        return {"captioner": self.choice.key.name, "captioner_key": self.choice.key.digest, "caption_scope": parts}

    def prepare(self, photos: Sequence[Path], progress: Progress | None = None) -> None:
        """Caption many photos at once, so that the captioner's memory is free again when they are worked on.

        Failures are kept, for :meth:`of` to raise.
        """
        missing = [photo for photo in photos if photo not in self._made and self._unwritten(photo)]
        if not missing or self.choice is None:
            return
        for captioned in caption_photos(missing, self.choice, self._store, boxes=self._boxes, progress=progress):
            made = captioned.caption or captioned.error
            assert made is not None
            self._made[captioned.photo] = made

    def of(self, photo: Path) -> Caption:
        """The caption of a photo.

        Raises:
            PhotoError: the photo cannot be read, or has no sidecar, or an unreadable one, or no line in the file.
        """
        written = self._written(photo)
        if written is not None:
            return written
        self.prepare([photo])
        made = self._made[photo]
        if isinstance(made, XpsrError):
            raise made
        return made

    def _unwritten(self, photo: Path) -> bool:
        try:
            return self._written(photo) is None
        except XpsrError:
            return False  # told when the photo's turn comes

    def _written(self, photo: Path) -> Caption | None:
        """The words that are there for a photo before any captioner is asked; ``None`` where one is to be asked."""
        if self.source is CaptionSource.NONE:
            return NOTHING
        if self._file is not None:
            caption = self._file.of(photo, _sha256(photo))
            if caption is None:
                raise PhotoError(f"{photo} has no caption in {self._file.path}.", "Add one, or leave the photo out.")
            return caption
        sidecar = read_sidecar(photo)
        if sidecar is not None and (sidecar.by_person or self._takes_machines(photo, sidecar)):
            return sidecar.caption
        if self.source is CaptionSource.SIDECAR:
            what = "no caption beside it" if sidecar is None else "a caption beside it that was made of another photo"
            raise PhotoError(f"{photo} has {what}.", "Run: xpsr caption PHOTOS --sidecars")
        return None

    def _takes_machines(self, photo: Path, sidecar: Sidecar) -> bool:
        """Whether a machine's sidecar is asked for, true of the photo as it is now, and has regions if they are."""
        if self.source not in (CaptionSource.AUTO, CaptionSource.SIDECAR) or sidecar.photo_sha256 != _sha256(photo):
            return False
        if self._boxes is None or sidecar.caption.regions:
            return True
        with open_photo(photo) as source:
            return not self._boxes(source.info)


def _sha256(photo: Path) -> str:
    """The hash of the photo's file; :class:`PhotoError` if it cannot be read."""
    try:
        return hash_file(photo)
    except OSError as error:
        raise PhotoError(f"{photo} cannot be read: {reason(error)}.", "Check the name and its permissions.") from error
