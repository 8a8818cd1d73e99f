"""Peak memory and time per megapixel of a small and a large result: both are to be the same.

    python benchmarks/flat_memory.py [--sizes 4000 12000] [--scale 4] [--formats tif png jpg] [--fidelity 1]
        [--mode cassr --add-on weights/xpsr-mini-cassr --activate dfc]

Each result is made by a process of its own, from a synthetic 8-bit photo of the same format. A wave takes the place of
the networks, and everything else is real; ``--model xpsr-mini`` uses the networks. Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from stand_in import load_upscaler, peak_mb, picture, write_tiff

from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.sink import result_info, write_bands
from xpsr_cli.photos.source import open_photo
from xpsr_cli.settings import OutputOptions, UpscaleSettings


def enlarge(options: argparse.Namespace) -> None:
    """The process that is measured: prints its seconds and its peak as JSON."""
    upscaler = load_upscaler(options.model, add_on=options.add_on)
    settings = UpscaleSettings(
        scale=options.scale,
        mode=options.mode,
        activate=options.activate,
        fidelity=options.fidelity,
        tile_batch=options.tile_batch,
    )
    upscaler.upscale(Photo(picture(0, 0, 128, 128, np.uint8)), settings).photo()  # warms up what is slow once
    started = time.perf_counter()
    with open_photo(options.source, spool_folder=options.work) as photo:
        made = upscaler.upscale(photo, settings, work_folder=options.work)
        output = OutputOptions()
        info = result_info(made.info, made.info.size, options.result, output)
        write_bands(made.bands(), info, options.result, output)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "stages": made.seconds}))


def measure(options: argparse.Namespace, extension: str, side: int, folder: Path) -> dict[str, float]:
    """One result of ``side`` x ``side`` pixels."""
    source = folder / f"input.{extension}"
    small = round(side / options.scale)
    if extension == "tif":
        write_tiff(source, small, np.uint8)
    else:
        Image.fromarray(picture(0, 0, small, small, np.uint8)).save(source)
    command = [sys.executable, __file__, "--model", options.model, "--scale", str(options.scale)]
    command += ["--fidelity", str(options.fidelity), "--mode", options.mode]
    for flag, value in (("--add-on", options.add_on), ("--activate", options.activate)):
        command += [flag, str(value)] if value else []
    command += ["--source", str(source), "--result", str(folder / f"result.{extension}"), "--work", str(folder)]
    if options.tile_batch:
        command += ["--tile-batch", str(options.tile_batch)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def report(options: argparse.Namespace) -> None:
    """The table."""
    print(f"{'':6}{'pixels':>16}{'peak MB':>10}{'seconds':>10}{'s per MP':>10}")
    for extension in options.formats:
        peaks, speeds = [], []
        for side in options.sizes:
            with tempfile.TemporaryDirectory() as folder:
                measured = measure(options, extension, side, Path(folder))
            peaks.append(measured["peak_mb"])
            speeds.append(measured["seconds"] / (side * side / 1e6))
            line = f"{peaks[-1]:10.0f}{measured['seconds']:10.1f}{speeds[-1]:10.3f}"
            print(f"{extension:6}{f'{side} x {side}':>16}{line}   {measured['stages']}", flush=True)
        print(f"{extension:6}{'last : first':>16}{peaks[-1] / peaks[0]:10.3f}{'':10}{speeds[-1] / speeds[0]:10.3f}")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4000, 12000], help="sides of the results in pixels")
    parser.add_argument("--mode", default="xpsr")
    parser.add_argument("--add-on", type=Path)
    parser.add_argument("--activate")
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--fidelity", type=float, default=0.0)
    parser.add_argument("--formats", nargs="+", default=["tif", "png", "jpg"])
    parser.add_argument("--model", default="stand-in")
    parser.add_argument("--tile-batch", type=int, help="windows at a time; by the memory when left out")
    for name in ("--source", "--result", "--work"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.source:
        enlarge(options)
    else:
        report(options)


if __name__ == "__main__":
    main()
