"""What enlarging a photo takes, known before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xpsr_cli.sampling.tiles import Window


@dataclass(frozen=True)
class Plan:
    """Sizes and amounts of work.

    ``size`` is (width, height) of the result in pixels, ``cells`` (height, width) of the latent canvas, on which the
    ``windows`` lie. ``latent_bytes`` are those of the latents before and after a step; with ``in_files`` they are kept
    in files, and the work can be taken up again.
    """

    size: tuple[int, int]
    cells: tuple[int, int]
    windows: Sequence[Window]
    steps: int
    latent_bytes: int
    in_files: bool

    @property
    def work(self) -> int:
        """How many times a window is evaluated."""
        return len(self.windows) * self.steps
