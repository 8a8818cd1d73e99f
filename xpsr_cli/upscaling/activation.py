"""The first stage of mode ``cassr``: an activator makes a reference, which the model then reads beside the photo.

After CasSR (Chen et al. 2024), of which only the abstract is public: to improve the picture that conditions a model is
easier than to describe it. Who makes it is a name, ``--activate NAME``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from xpsr_cli.photos.photo import Floats, PhotoSource
from xpsr_cli.progress import Progress


class Activator(Protocol):
    """Makes references: deterministic, at the size of the result, in bands, whatever the size of the photo."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides what it makes, besides the photo and the scale: JSON-like values, ``name`` among them."""

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None
    ) -> Iterator[Floats]:
        """The reference of a photo, (h, W, 3) float32 in [0, 1] from top to bottom, its colours those of the photo.

        W and the sum of the h are :func:`~xpsr_cli.settings.output_size` of the photo. ``progress`` is told of
        advances alone, whose number nobody knows beforehand. What an interruption may find again lies in
        ``work_folder``.
        """
