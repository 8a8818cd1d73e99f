"""Seams on pictures that hide none: a flat ramp, a sky, black, and a noise chart, through the real networks.

    python benchmarks/seams.py [--model xpsr-mini] [--size 2048] [--scale 4] [--fidelity 1] [--device auto]

Prints the seam index with its 99 % interval and the brightness step in 1/255, as ``xpsr upscale --verify`` does: see
``xpsr_cli/upscaling/seams.py`` for what is measured. The charts have 16 bits, so that a ramp has no steps of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_base, find_model

Chart = NDArray[np.float64]


def ramp(side: int) -> Chart:
    """From dark to bright across, and a little down."""
    y, x = np.mgrid[:side, :side] / side
    return np.repeat((0.1 + 0.6 * x + 0.2 * y)[..., None], 3, axis=2)


def sky(side: int) -> Chart:
    """A blue that fades towards the horizon, with the noise of a camera."""
    y, x = np.mgrid[:side, :side] / side
    fade = (y + 0.1 * np.sin(3 * x))[..., None]
    clear = np.array([0.35, 0.55, 0.9]) + np.array([0.35, 0.25, 0.05]) * fade
    return clear + np.random.default_rng(1).normal(0, 0.004, clear.shape)


def black(side: int) -> Chart:
    """Nothing."""
    return np.zeros((side, side, 3))


def noise(side: int) -> Chart:
    """Every pixel of its own colour."""
    return np.random.default_rng(2).random((side, side, 3))


CHARTS: tuple[Callable[[int], Chart], ...] = (ramp, sky, black, noise)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--size", type=int, default=2048, help="side of the results in pixels")
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--fidelity", type=float, default=0.0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    folder = find_model(options.model)
    components = load_components(folder, stable_diffusion=find_base(folder))
    upscaler = Upscaler.from_components(components, options.device)
    settings = UpscaleSettings(scale=options.scale, fidelity=options.fidelity, verify=True)
    print(f"{'':8}{'windows':>8}{'seam index':>12}{'99 % interval':>20}{'step (1/255)':>14}{'seconds':>10}")
    for chart in CHARTS:
        values = np.clip(chart(round(options.size / options.scale)), 0, 1)
        photo = Photo(np.rint(values * 65535).astype(np.uint16), name=chart.__name__)
        started = time.perf_counter()
        made = upscaler.upscale(photo, settings)
        for _ in made.bands():
            pass
        seams, seconds = made.seams, time.perf_counter() - started
        interval = f"{seams.index_low:.4f} to {seams.index_high:.4f}"
        figures = f"{seams.index:12.4f}{interval:>20}{seams.brightness_step:14.4f}{seconds:10.1f}"
        print(f"{chart.__name__:8}{made.windows:8}{figures}", flush=True)


if __name__ == "__main__":
    main()
