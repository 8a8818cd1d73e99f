"""From one set of flags to the settings of every mode of ``xpsr eval``, each with what it knows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xpsr_cli.settings import Mode, StartLatent, UpscaleSettings


def settings_of_modes(
    shared: UpscaleSettings,
    modes: Sequence[Mode],
    activate: str | None,
    start: StartLatent | None,
    strength: float | None,
) -> tuple[UpscaleSettings, ...]:
    """``shared`` in every mode. What one of the modes knows is left out of those that do not.

    :class:`~xpsr_cli.errors.UsageError` for what none of them knows, or what contradicts itself.
    """
    given: Mapping[str, Any] = {"activate": activate, "start": start, "strength": strength}
    known = frozenset().union(*(_known(mode, start) for mode in modes))
    unknown = {mode: known - _known(mode, start) for mode in modes}
    return tuple(
        replace(shared, mode=mode, **{name: value for name, value in given.items() if name not in unknown[mode]})
        for mode in modes
    )


def _known(mode: Mode, start: StartLatent | None) -> frozenset[str]:
    """The flags that have a meaning in a mode, where sampling starts from ``start``."""
    if mode is Mode.ACTIVATOR:
        return frozenset({"activate"})
    if mode is Mode.CASSR:
        return frozenset({"activate", "start", "strength"})
    return frozenset() if start is StartLatent.REFERENCE else frozenset({"start", "strength"})
