"""What is said of a photo, in the two ways XPSR needs it: what is in it (high-level), how good it is (low-level).

Standard library only: captions are read, shown and edited without any network being loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from xpsr_cli.photos.photo import PhotoSource

HIGH_INSTRUCTION = "Please provide a descriptive summary of the content of this image."
"""What a multimodal model is asked for the high-level text (the released captioning script)."""
LOW_INSTRUCTION = "Describe and evaluate the quality of this image: its clarity, color, noise and lighting."
"""What it is asked for the low-level text: the released question, with the factors the paper names."""


@dataclass(frozen=True, order=True)
class Box:
    """A part of the upright photo, in its own pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class RegionText:
    """What is in a part of a photo."""

    box: Box
    high: str


@dataclass(frozen=True)
class Caption:
    """Two texts on one photo, each on one line, and who wrote them.

    ``captioner`` is the name of a :class:`Captioner`, or ``"person"``.
    """

    high: str
    low: str
    captioner: str
    regions: tuple[RegionText, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-like values."""
        return asdict(self) | {"regions": [asdict(region) for region in self.regions]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` gives, other keys ignored.

        ``high``, ``low``, ``captioner`` and ``regions`` may be missing. Raises ``ValueError`` with one clause on what
        does not fit.
        """
        texts = {name: values.get(name, default) for name, default in _TEXTS.items()}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"{name!r} is {text!r}, not a text")
        regions = values.get("regions", ())
        if not isinstance(regions, Sequence) or isinstance(regions, str):
            raise ValueError(f"'regions' is {regions!r}, not a list")
        lines = {name: one_line(text) for name, text in texts.items()}
        return cls(**lines, regions=tuple(_region(region) for region in regions))


_NO_SIDE = 2**31  # pixels: no photo is as wide
_TEXTS = {"high": "", "low": "", "captioner": "person"}


def _region(values: Any) -> RegionText:
    try:
        box, high = (
            Box(**{name: int(values["box"][name]) for name in ("left", "top", "width", "height")}),
            values["high"],
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"{values!r} is no region: it has a box of left, top, width and height, and high") from None
    inside = min(box.left, box.top) >= 0 and min(box.width, box.height) >= 1 and max(astuple(box)) < _NO_SIDE
    if not isinstance(high, str) or not inside:
        raise ValueError(f"{values!r} is no region with a box inside of the photo and a text")
    return RegionText(box, one_line(high))


def one_line(text: str) -> str:
    """The text with every run of white space, line ends too, as one blank."""
    return " ".join(text.split())


class Captioner(Protocol):
    """Describes photos. What it looks at is read first, photo by photo, so that one damaged file fails alone."""

    name: str
    """Who wrote a caption: ``"measured"``, a hub id, a folder's name."""
    batch_size: int
    """How many photos are best described in one call."""
    says_content: bool
    """Whether high-level texts come out of it; without them regions have nothing to say."""

    def look(self, photo: PhotoSource, box: Box | None = None) -> Any:
        """What :meth:`describe` needs of a photo, or of a part of it.

        Raises :class:`~xpsr_cli.errors.PhotoError` if its pixels are damaged.
        """

    def describe(self, looks: Sequence[Any]) -> list[Caption]:
        """One caption for each look, without regions, the same however many are given at a time."""

    def summarize(self, looks: Sequence[Any]) -> list[str]:
        """The high-level text alone, for each look."""

    def close(self) -> None:
        """Let go of what is held in memory; it is not asked again."""


@dataclass(frozen=True)
class CaptionerKey:
    """Who would caption and how, known without loading anything: captions with another key are made anew.

    ``model`` is what identifies the weights (name and version or hash), ``settings`` whatever else decides the texts:
    instructions, quantisation, length limits. ``version`` goes up when the code changes what texts come out.
    """

    name: str
    model: str
    settings: tuple[tuple[str, str], ...] = ()
    version: int = 1

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that stand for all of it, the same in every process."""
        text = json.dumps([self.name, self.model, sorted(self.settings), self.version])
        return hashlib.sha256(text.encode()).hexdigest()[:32]
