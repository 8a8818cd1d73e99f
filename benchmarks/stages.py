"""Seconds and peak memory of every stage of one enlargement, by default 256 x 256 to 1024 x 1024 pixels.

    python benchmarks/stages.py [--model xpsr-mini] [--photo PHOTO] [--size 256] [--scale 4] [--tile-batch 2]

Loading the model comes first; the enlargement runs ``--repeat`` times and the fastest is shown. Memory is the resident
set of the process (Linux: its peak within the stage; elsewhere: so far), on CUDA what torch allocated.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import Precision, UpscaleSettings
from xpsr_cli.upscaling.enlargement import Enlargement
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_base, find_model

EXAMPLE = Path(__file__).parent.parent / "examples" / "photo.jpg"


def reset_peak() -> None:
    """Let the peak of memory start from what is in use."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_gb() -> float:
    """Peak of memory since the last reset."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


@dataclass
class PeakPerStage:
    """A progress that notes the peak of memory of each stage."""

    peaks: dict[str, float] = field(default_factory=dict)
    current: str = "enlarge"

    def stage(self, name: str, total: int) -> None:
        """The stage before is over."""
        self.close()
        self.current = name

    def advance(self, count: int = 1) -> None:
        """Nothing to note."""

    def skip(self, count: int) -> None:
        """Nothing to note."""

    def close(self) -> None:
        """Note the peak of the current stage and start the next."""
        self.peaks[self.current] = peak_gb()
        reset_peak()


def crop(path: Path, size: int) -> Photo:
    """The middle of a photo, enlarged first if it is smaller."""
    image = Image.open(path).convert("RGB")
    grow = max(size / side for side in (*image.size, size))
    image = image.resize((max(size, round(image.width * grow)), max(size, round(image.height * grow))))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return Photo(np.asarray(image.crop((left, top, left + size, top + size))), name=path.name)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--photo", type=Path, default=EXAMPLE)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tile-batch", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", type=Precision, default=Precision.AUTO)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()

    reset_peak()
    started = time.perf_counter()
    folder = find_model(options.model)
    components = load_components(folder, stable_diffusion=find_base(folder))
    upscaler = Upscaler.from_components(components, options.device, options.precision)
    print(f"{'load':10} {time.perf_counter() - started:8.2f} s {peak_gb():8.2f} GB")

    photo = crop(options.photo, options.size)
    settings = UpscaleSettings(scale=options.scale, steps=options.steps, tile_batch=options.tile_batch)
    runs: list[tuple[float, Enlargement, dict[str, float]]] = []
    for _ in range(options.repeat):
        noted = PeakPerStage()
        started = time.perf_counter()
        result = upscaler.upscale(photo, settings, noted)
        result.photo()
        runs.append((time.perf_counter() - started, result, noted.peaks))
        noted.close()
    total, result, peaks = min(runs, key=lambda run: run[0])
    for name, seconds in result.seconds.items():
        print(f"{name:10} {seconds:8.2f} s {peaks[name]:8.2f} GB")
    print(f"{'all':10} {total:8.2f} s {max(peaks.values()):8.2f} GB")
    place, used = upscaler.placement, result.settings
    print(
        f"{components.name}: {photo.width} x {photo.height} to {result.info.width} x {result.info.height} pixels, "
        f"{result.windows} windows, {used['steps']} steps, guidance {used['guidance_scale']:g}; "
        f"{place.device}, {str(place.dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
