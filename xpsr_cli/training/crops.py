"""Which crop of which photo a training item gets, and reading it: from memory, or several at once from a file.

What an item gets depends on the recipe, the photos and its index alone; what is kept in memory changes only how long
it takes.
"""

# shapes: pixels are (S, S, 3) uint8, S the crop side; those of a prepared small photo are S / its scale

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.photo import Pixels
from xpsr_cli.training.pictures import Window
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.training_photo import LeftOut, TrainingPhoto

log = logging.getLogger(__name__)

OPEN_PHOTOS = 16
"""How many photos crops are taken from by turns, where a photo gives several."""
LANES = 4
"""Every fourth batch takes from the same photos, so that one, two or four workers do not decode each other's."""
READY_BYTES = 2**29
"""Memory of one process for crops that were cut before their turn."""
_ATTEMPTS = 100


class UnreadableError(PhotoError):
    """Photo after photo cannot be read.

    Of an error in a worker torch keeps the text of its traceback, and makes another one with that. Its last line is
    what was said.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            text.rstrip().rpartition(f"{type(self).__name__}: ")[2],
            "Bring the photos back to where they were, and go on from the last checkpoint.",
        )


class Cut(NamedTuple):
    """Pixels of a crop: of the large photo, and of the small one where a pair was prepared."""

    large: Pixels
    small: Pixels | None


@dataclass(frozen=True)
class Place:
    """Where a crop lies: the number of the photo, the corner in it, and which visit to the photo it is of."""

    photo: int
    top: int
    left: int
    visit: int | None = None


class Crops:
    """Random square crops by index, of photos that are read when they are wanted.

    With ``data.crops_per_reading`` above 1 photos are visited one after the other, and an item takes one of the last
    ``OPEN_PHOTOS`` visits. Whichever item comes first to a photo has the crops of those that follow cut as well.
    """

    def __init__(self, photos: Sequence[TrainingPhoto], recipe: Recipe) -> None:
        self.photos = photos
        self._seed = recipe.seed
        self._side = recipe.data.crop_px
        self._batch = recipe.data.batch_size
        self._per_reading = recipe.data.crops_per_reading
        self._unreadable = torch.zeros(len(photos), dtype=torch.uint8).share_memory_()  # workers tell the main process
        self._ready: dict[int, Cut] = {}  # by index, oldest first

    def read(self, index: int) -> tuple[TrainingPhoto, Cut, np.random.Generator]:
        """The photo of an item, its crop, and the random numbers that the rest of the item is drawn from.

        A photo whose pixels turn out to be damaged is named in the log, and another one is drawn in its place.

        Raises:
            UnreadableError: a hundred photos in a row cannot be read.
        """
        for attempt in range(_ATTEMPTS):
            place, rng = self._draw(index, attempt)
            photo = self.photos[place.photo]
            try:
                return photo, self._pixels(index, place), rng
            except PhotoError as error:
                why = error.message
                if not self._unreadable[place.photo]:
                    log.warning("left out a crop of %s: %s", photo.file, error.message)
                self._unreadable[place.photo] = 1
        raise UnreadableError(f"{_ATTEMPTS} photos in a row cannot be read. {why}")

    def unreadable(self) -> list[LeftOut]:
        """Photos that were drawn, by any worker, and could not be read."""
        return [self._why(self.photos[int(number)]) for number in self._unreadable.nonzero()]

    def _why(self, photo: TrainingPhoto) -> LeftOut:
        try:
            photo.in_memory()
        except PhotoError as error:
            return LeftOut(photo.file, error.message)
        return LeftOut(photo.file, "It could not be read at times.")

    def _draw(self, index: int, attempt: int = 0) -> tuple[Place, np.random.Generator]:
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, index], spawn_key=(attempt,) * (attempt > 0)))
        visit = None
        if self._per_reading > 1 and attempt == 0:
            lane, position = self._lane(index)
            visit = position // self._per_reading + int(rng.integers(OPEN_PHOTOS))
            visits = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(lane, visit)))
            number = int(visits.integers(len(self.photos)))
        else:
            number = int(rng.integers(len(self.photos)))
        photo = self.photos[number]
        step = photo.small.scale if photo.small else 1
        top = step * int(rng.integers((photo.picture.height - self._side) // step + 1))
        left = step * int(rng.integers((photo.picture.width - self._side) // step + 1))
        return Place(number, top, left, visit), rng

    def _lane(self, index: int) -> tuple[int, int]:
        """The lane of an index, and its position in it."""
        batch, item = divmod(index, self._batch)
        return batch % LANES, batch // LANES * self._batch + item

    def _index(self, lane: int, position: int) -> int:
        turn, item = divmod(position, self._batch)
        return (turn * LANES + lane) * self._batch + item

    def _pixels(self, index: int, place: Place) -> Cut:
        if index in self._ready:
            return self._ready.pop(index)
        photo = self.photos[place.photo]
        followers = {} if photo.is_kept else self._followers(index, place)
        try:
            crops = self._cut(photo, [place, *followers.values()])
        except PhotoError:  # perhaps of another crop than this one
            return self._cut(photo, [place])[0]
        self._ready.update(zip(followers, crops[1:], strict=True))
        while len(self._ready) * crops[0].large.nbytes > READY_BYTES:
            del self._ready[next(iter(self._ready))]
        return crops[0]

    def _followers(self, index: int, place: Place) -> dict[int, Place]:
        """Later items that take the same visit to the same photo."""
        if place.visit is None:
            return {}
        lane, position = self._lane(index)
        later = (self._index(lane, p) for p in range(position + 1, (place.visit + 1) * self._per_reading))
        drawn = {follower: self._draw(follower)[0] for follower in later}
        return {follower: other for follower, other in drawn.items() if other.visit == place.visit}

    def _cut(self, photo: TrainingPhoto, places: Sequence[Place]) -> list[Cut]:
        large = photo.picture.windows([Window(p.top, p.left, self._side, self._side) for p in places])
        if photo.small is None:
            return [Cut(pixels, None) for pixels in large]
        scale, side = photo.small.scale, self._side // photo.small.scale
        small = photo.small.picture.windows([Window(p.top // scale, p.left // scale, side, side) for p in places])
        return [Cut(*pixels) for pixels in zip(large, small, strict=True)]
