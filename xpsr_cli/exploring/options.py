"""How answers to one small picture are drawn: method, resize filter, noise, steps and where to start.

Only the standard library is imported here: the command line reads this module to draw its help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from xpsr_cli.errors import UsageError
from xpsr_cli.settings import SchedulerName

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 20
MIN_SCALE, MAX_SCALE = 2.0, 32.0
"""Enlargement of each side: below, hardly anything is left open."""


class ResizeFilter(str, Enum):
    """How small pictures are made of large ones, in Pillow's words but for ``area`` (its BOX)."""

    BICUBIC = "bicubic"
    AREA = "area"
    BILINEAR = "bilinear"
    LANCZOS = "lanczos"


class Method(str, Enum):
    """How sampling is kept to the given picture.

    ``ddnm`` replaces what the given picture decides in every estimate (Wang et al. 2023); ``ddnm+`` is the same for a
    noisy picture, and what ``ddnm`` becomes when ``noise`` is above 0. ``pigdm`` (Song et al. 2023) and ``dps`` (Chung
    et al. 2023) follow a gradient through the network, at about three times the cost; ``dps`` does not reach the given
    picture by itself and is there to compare with.
    """

    DDNM = "ddnm"
    DDNM_PLUS = "ddnm+"
    PIGDM = "pigdm"
    DPS = "dps"

    @property
    def needs_gradient(self) -> bool:
        """Whether it differentiates through the network."""
        return self in (Method.PIGDM, Method.DPS)


@dataclass(frozen=True)
class Travel:
    """Every ``length`` steps are made ``repeat`` times, noised back to where they began (as in DDNM); 1x1 is off."""

    length: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or self.repeat < 1:
            raise UsageError(f"travel is {self.length}x{self.repeat}.", "Both numbers are at least 1, as in 10x3.")

    @classmethod
    def parse(cls, text: str) -> Travel:
        """``10x3`` is ``Travel(10, 3)``; :class:`UsageError` for anything else."""
        match = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text.strip())
        if match is None:
            raise UsageError(f"travel is {text!r}.", "Write it as length x repeat, such as 10x3.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.length}x{self.repeat}"


@dataclass(frozen=True)
class ExploreOptions:
    """What decides a sample besides the picture, the prior and the request.

    Attributes:
        method: how it is kept to the given picture.
        operator: how the given picture was made of a large one.
        noise: standard deviation of the noise in the given picture, whose values are 0 to 1; above 0 the noise is not
            copied, so the result is not reduced to exactly that picture.
        steps: of the prior's first stage, its own number by default; the other stages take as many in proportion.
        scheduler: whose steps they are; the ancestral ones (``ddpm``) keep the most of the spread.
        travel: repeats steps for hard cases.
        start: a large picture (3, H, W) in [0, 1] to walk on from, with ``strength`` 0 to 1: how much of it is drawn
            anew.
        energy_weight: how far a text-image score pulls each estimate (see :class:`consistency.EnergyGuidance`); 0 is
            not at all.
        rounds: at most so many of the last repair, which makes the 8-bit file exact; 0 leaves it out.
    """

    method: Method = Method.DDNM
    operator: ResizeFilter = ResizeFilter.BICUBIC
    noise: float = 0.0
    steps: int | None = None
    scheduler: SchedulerName = SchedulerName.DDPM
    travel: Travel = field(default_factory=Travel)
    start: Tensor | None = field(default=None, compare=False, repr=False)
    strength: float = 1.0
    energy_weight: float = 0.0
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        _within("noise", self.noise, 0, 1, "It is a standard deviation where 1 is white.")
        _within("strength", self.strength, 0, 1, "0 keeps the picture, 1 draws all of it anew.")
        if not 0 <= self.energy_weight < float("inf"):
            raise UsageError(f"energy_weight is {self.energy_weight}.", "It must be 0 or more.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}.", "At least one step is needed.")
        if self.rounds < 0:
            raise UsageError(f"rounds is {self.rounds}.", "It must be 0 or more.")
        if self.travel != Travel() and self.scheduler not in (SchedulerName.DDPM, SchedulerName.DDIM):
            raise UsageError(
                f"travel is {self.travel} with the {self.scheduler.value} scheduler, which remembers earlier steps.",
                "Use ddpm or ddim.",
            )

    def steps_of(self, stage_steps: int, first_steps: int) -> int:
        """Steps of a stage that takes ``stage_steps`` when the first one takes ``first_steps``."""
        return stage_steps if self.steps is None else max(1, round(stage_steps * self.steps / first_steps))


def _within(name: str, value: float, low: float, high: float, hint: str) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}, outside {low:g} to {high:g}.", hint)
