"""How long work reports its progress: one small protocol, no drawing (``cli/console.py`` draws)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what the library is doing, stage by stage."""

    def stage(self, name: str, total: int) -> None:
        """A stage such as ``"sample"`` begins and will take ``total`` advances."""

    def advance(self, count: int = 1) -> None:
        """``count`` units of the current stage are done."""


class SilentProgress:
    """The progress of callers that do not look."""

    def stage(self, name: str, total: int) -> None:
        """Nothing is shown."""

    def advance(self, count: int = 1) -> None:
        """Nothing is shown."""
