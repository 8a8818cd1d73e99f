"""Kills at random moments, over a folder of photos and over one large photo: the same bytes as without any.

    python benchmarks/kills.py [--kills 20] [--photos 12] [--side 3000] [--seed 0] [--model xpsr-mini]

First both jobs run undisturbed. Then the same command is started again and again and killed (SIGKILL) at a random
moment of the time that it takes, until it has ended by itself; then from the beginning, until there were enough kills.
After each kill every file that can be seen has to be whole, that is the one of the undisturbed run. Not for Windows.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from stand_in import picture

XPSR = [sys.executable, "-m", "xpsr_cli", "upscale", "--quiet"]


@dataclass
class Tally:
    """What came of one job."""

    kills: int = 0
    rounds: int = 0
    half_written: int = 0
    other_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)  # of the kills, in seconds


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 by name of all files in a folder that can be seen."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def undisturbed(command: list[str], output: Path) -> tuple[dict[str, str], float]:
    """The sums of the results, and the seconds that it takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    found = sums(output)
    shutil.rmtree(output)
    return found, seconds


def disturbed(command: list[str], output: Path, wanted: dict[str, str], seconds: float, kills: int) -> Tally:
    """Kill and start again until there were ``kills``, and let the last round end."""
    tally = Tally()
    while tally.kills < kills:
        tally.rounds += 1
        while not _one_run(command, output, wanted, seconds, tally, may_kill=tally.kills < kills):
            pass
        tally.other_bytes += sums(output) != wanted
        shutil.rmtree(output)
    return tally


def _one_run(
    command: list[str], output: Path, wanted: dict[str, str], seconds: float, tally: Tally, *, may_kill: bool
) -> bool:
    """Start the command and perhaps kill it; whether it ended by itself."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    moment = random.uniform(0, seconds)
    try:
        _, errors = process.communicate(timeout=moment if may_kill else None)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        tally.kills += 1
        tally.moments.append(round(moment, 2))
        seen = sums(output)
        tally.half_written += any(wanted.get(name) != digest for name, digest in seen.items())
        return False
    if process.returncode != 0:
        tally.failures.append(f"code {process.returncode}: {errors.strip()}")
    return True


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each of the two jobs")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--side", type=int, default=3000, help="of the one large result, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="xpsr-mini")
    options = parser.parse_args()
    random.seed(options.seed)
    counted = f"{'kills':>7}{'rounds':>8}{'half-written':>14}{'other bytes':>13}{'failures':>10}"
    print(f"{'':8}{'results':>8}{'seconds':>9}{counted}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        jobs = {"folder": _folder_job(folder, options), "large": _large_job(folder, options)}
        tallies = [_measure(name, *job, options.kills) for name, job in jobs.items()]
    faults = sum(tally.half_written + tally.other_bytes + len(tally.failures) for tally in tallies)
    raise SystemExit(bool(faults))


def _folder_job(folder: Path, options: argparse.Namespace) -> tuple[list[str], Path]:
    photos, output = folder / "photos", folder / "results"
    photos.mkdir()
    for number in range(options.photos):
        pixels = picture(100 * number, 0, 160, 200 + 8 * number, np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02d}.{'png' if number % 2 else 'jpg'}")
    return [*XPSR, str(photos), "--output", str(output), "--model", options.model], output


def _large_job(folder: Path, options: argparse.Namespace) -> tuple[list[str], Path]:
    photo, output = folder / "large.png", folder / "large"
    side = options.side // 4
    Image.fromarray(picture(0, 0, side, side, np.uint8)).save(photo)
    return [*XPSR, str(photo), "--output", f"{output}/", "--model", options.model], output


def _measure(name: str, command: list[str], output: Path, kills: int) -> Tally:
    wanted, seconds = undisturbed(command, output)
    tally = disturbed(command, output, wanted, seconds, kills)
    figures = f"{tally.kills:7}{tally.rounds:8}{tally.half_written:14}{tally.other_bytes:13}{len(tally.failures):10}"
    print(f"{name:8}{len(wanted):8}{seconds:9.1f}{figures}")
    print(f"{'':8}killed after {', '.join(map(str, tally.moments))} s")
    for failure in tally.failures:
        print(f"{'':8}{failure}")
    sys.stdout.flush()
    return tally


if __name__ == "__main__":
    main()
