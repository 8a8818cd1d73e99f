"""``--dry-run``: what every photo of a run would take, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.cli.console import Console
from xpsr_cli.cli.outcomes import bits_of, tell_planned
from xpsr_cli.cli.work_progress import units_of
from xpsr_cli.photos import formats
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.photos.spool import MEMORY_BYTES
from xpsr_cli.progress import RELATIVE_COST, in_words
from xpsr_cli.settings import UpscaleSettings

if TYPE_CHECKING:
    from xpsr_cli.upscaling.plan import Plan
    from xpsr_cli.upscaling.upscaler import Upscaler

_BAND_BYTES_PER_COLUMN = 128 * 3 * 4 * 12
"""Memory that a column of the result takes: a dozen float32 copies of a band are alive at the worst moment."""


def tell_forecast(
    console: Console,
    upscaler: Upscaler,
    settings: UpscaleSettings,
    planned: Sequence[tuple[Path, Path, PhotoInfo, PhotoInfo, Plan]],
) -> None:
    """Tell what each photo would take, and all together. ``planned`` are files, headers (photo, result) and plans.

    Time and memory are measured on one window, on the device that would do the work.
    """
    seconds_per_window = upscaler.seconds_per_window(settings)
    networks_bytes = _memory_in_use(upscaler)
    every: list[dict[str, Any]] = []
    for source, target, photo, result, plan in planned:
        units = units_of(len(plan.windows), plan.steps)
        facts = {
            "input_width": photo.width,
            "input_height": photo.height,
            "width": result.width,
            "height": result.height,
            "bits": bits_of(result),
            "windows": len(plan.windows),
            "steps": plan.steps,
            "memory_bytes": networks_bytes
            + plan.size[0] * _BAND_BYTES_PER_COLUMN
            + (0 if plan.in_files else plan.latent_bytes),
            "scratch_bytes": (plan.latent_bytes if plan.in_files else 0) + _spooled(source, photo),
            "seconds": round(seconds_per_window * sum(RELATIVE_COST[stage] * n for stage, n in units.items()), 1),
        }
        every.append(facts)
        tell_planned(console, source, target, f"{source} -> {target}: {_line(facts)}", facts)
    if len(every) > 1:
        seconds = sum(facts["seconds"] for facts in every)
        memory, scratch = (max(facts[name] for facts in every) for name in ("memory_bytes", "scratch_bytes"))
        console.note(f"{len(every)} photos: {_amounts(memory, scratch, seconds)}")


def _line(facts: dict[str, Any]) -> str:
    sizes = f"{facts['input_width']} x {facts['input_height']} to {facts['width']} x {facts['height']} pixels"
    work = f"{facts['windows']} window{'s' * (facts['windows'] > 1)} x {facts['steps']} steps"
    amounts = _amounts(facts["memory_bytes"], facts["scratch_bytes"], facts["seconds"])
    return f"{sizes}, {facts['bits']} bits, {work}, {amounts}"


def _amounts(memory_bytes: int, scratch_bytes: int, seconds: float) -> str:
    disk = f", {scratch_bytes / 1e9:.1f} GB of disk meanwhile" if scratch_bytes else ""
    return f"about {memory_bytes / 1e9:.1f} GB of memory{disk}, about {in_words(seconds)}"


def _memory_in_use(upscaler: Upscaler) -> int:
    """The most memory, in bytes, that the networks and one window have taken, on the device they run on."""
    import psutil
    import torch

    device = upscaler.placement.device
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", 0) or memory.rss)


def _spooled(source: Path, photo: PhotoInfo) -> int:
    """Bytes of a photo's pixels that are laid by on disk, as files are that must be decoded from their beginning."""
    with source.open("rb") as stream:
        if formats.identify(stream.read(16)) is formats.TIFF:
            return 0
    channels = (1 if photo.grey else 3) + photo.alpha
    size = photo.width * photo.height * channels * photo.depth.dtype.itemsize
    return size if size > MEMORY_BYTES else 0
