"""Who makes the reference of mode ``cassr``, as ``--activate`` names it: a word, and behind a colon its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xpsr_cli.errors import UsageError

NONE, BICUBIC, DFC, XPSR, SCEDIT, SPANDREL = ACTIVATORS = ("none", "bicubic", "dfc", "xpsr", "scedit", "spandrel")
"""``none`` makes no reference, ``bicubic`` the enlarged photo, ``dfc`` what the model's own pixel heads say, ``xpsr``
the result of a short run, ``scedit`` that of a trained skip tuner (of the add-on, or ``scedit:FOLDER``),
``spandrel:FILE`` what any restorer makes that spandrel can load."""

_FORMS = "none, bicubic, dfc, xpsr, scedit, scedit:FOLDER or spandrel:FILE"


@dataclass(frozen=True)
class ActivatorName:
    """An activator by its word, and where its own files lie, if they were named."""

    word: str
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> ActivatorName:
        """``WORD`` or ``WORD:PATH``; :class:`UsageError` for anything else. No path is looked for here."""
        word, colon, path = text.partition(":")
        if not (path and word in (SCEDIT, SPANDREL) if colon else word in ACTIVATORS and word != SPANDREL):
            raise UsageError(f"There is no activator {text!r}.", f"Give {_FORMS}.")
        return cls(word, Path(path).expanduser() if path else None)

    def __str__(self) -> str:
        """What is recorded of it: the name of its file or folder, and not where that lies."""
        return self.word if self.path is None else f"{self.word}:{self.path.resolve().name}"
