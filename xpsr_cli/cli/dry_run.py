"""``--dry-run``: what every photo of a run would take, without doing it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.cli.console import Console
from xpsr_cli.cli.outcomes import bits_of, tell_planned
from xpsr_cli.cli.work_progress import reference_steps, units_of
from xpsr_cli.photos import formats
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.photos.spool import MEMORY_BYTES
from xpsr_cli.progress import RELATIVE_COST, in_words
from xpsr_cli.settings import UpscaleSettings

if TYPE_CHECKING:
    from xpsr_cli.upscaling.plan import Plan
    from xpsr_cli.upscaling.upscaler import Upscaler

_BYTES_PER_COLUMN = 90_000
"""Memory for each column of the result, measured: bands over the whole width are decoded, matched and written."""
_REFERENCE_BYTES = 6
"""Of each pixel of a reference, which is kept in a file."""


def tell_forecast(
    console: Console,
    upscaler: Upscaler,
    settings: UpscaleSettings,
    planned: Sequence[tuple[Path, Path, PhotoInfo, PhotoInfo, Plan]],
) -> None:
    """Tell what each photo would take, and all together. ``planned`` are files, headers (photo, result) and plans.

    Time and memory are measured on one window, on the device that would do the work; on a GPU the memory is the GPU's.
    """
    seconds_per_window = upscaler.seconds_per_window(settings)
    window_bytes, first = _memory_of_a_window(upscaler), reference_steps(upscaler, settings)
    every: list[dict[str, Any]] = []
    for source, target, photo, result, plan in planned:
        facts = _facts(photo, result, plan, first)
        facts["memory_bytes"] = window_bytes
        if upscaler.placement.device.type != "cuda":
            facts["memory_bytes"] += result.width * _BYTES_PER_COLUMN + (0 if plan.in_files else plan.latent_bytes)
        facts["scratch_bytes"] = (plan.latent_bytes if plan.in_files else 0) + _spooled(source, photo)
        if first is not None:
            facts["scratch_bytes"] += _REFERENCE_BYTES * result.width * result.height
        units = units_of(len(plan.windows), plan.steps, first)
        facts["seconds"] = round(seconds_per_window * sum(RELATIVE_COST[stage] * n for stage, n in units.items()), 1)
        every.append(facts)
        tell_planned(console, source, target, f"{source} -> {target}: {_line(facts)}", facts)
    if len(every) > 1:
        seconds = sum(facts["seconds"] for facts in every)
        memory, scratch = (max(facts[name] for facts in every) for name in ("memory_bytes", "scratch_bytes"))
        console.note(f"{len(every)} photos: {_amounts(memory, scratch, seconds)}")


def _facts(photo: PhotoInfo, result: PhotoInfo, plan: Plan, first: int | None) -> dict[str, Any]:
    return {
        "input_width": photo.width,
        "input_height": photo.height,
        "width": result.width,
        "height": result.height,
        "bits": bits_of(result),
        "windows": len(plan.windows),
        "steps": plan.steps,
        **({} if first is None else {"reference_steps": first}),
    }


def _line(facts: dict[str, Any]) -> str:
    sizes = f"{facts['input_width']} x {facts['input_height']} to {facts['width']} x {facts['height']} pixels"
    windows, steps = _counted(facts["windows"], "window"), _counted(facts["steps"], "step")
    if facts.get("reference_steps"):
        first = f"{_counted(facts['reference_steps'], 'step')} for the reference"
        steps = f"{first} and {steps} with it" if facts["steps"] else first
    amounts = _amounts(facts["memory_bytes"], facts["scratch_bytes"], facts["seconds"])
    return f"{sizes}, {facts['bits']} bits, {windows}, {steps}, {amounts}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _amounts(memory_bytes: int, scratch_bytes: int, seconds: float) -> str:
    disk = f", {scratch_bytes / 1e9:.1f} GB of disk meanwhile" if scratch_bytes >= 5e7 else ""
    return f"about {memory_bytes / 1e9:.1f} GB of memory{disk}, about {in_words(seconds)}"


def _memory_of_a_window(upscaler: Upscaler) -> int:
    """The most memory, in bytes, that the networks and one window have taken, on the device they run on."""
    import torch

    device = upscaler.placement.device
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _spooled(source: Path, photo: PhotoInfo) -> int:
    """Bytes of a photo's pixels that are laid by on disk, as files are that must be decoded from their beginning."""
    with source.open("rb") as stream:
        if formats.identify(stream.read(16)) is formats.TIFF:
            return 0
    channels = (1 if photo.grey else 3) + photo.alpha
    size = photo.width * photo.height * channels * photo.depth.dtype.itemsize
    return size if size > MEMORY_BYTES else 0
