"""Kills at random moments while photos are captioned: no caption lost, none made twice, no file half-written.

    python benchmarks/caption_kills.py [--kills 20] [--photos 200] [--side 480] [--seed 0] [--model measured]

First the job runs undisturbed. Then the same command is started again and again with a cache of its own and killed
(SIGKILL) at a random moment of the time that it takes, until it has ended by itself; then from the beginning with an
empty cache, until there were enough kills. After each kill every file that can be seen, in the cache and beside the
photos, has to be a whole caption, and the export absent or whole. Not for Windows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

Texts = dict[str, tuple[str, str]]  # what is said of each photo


@dataclass
class Tally:
    """What came of all rounds."""

    kills: int = 0
    rounds: int = 0
    lost: int = 0  # said to be done, and made again after that
    twice: int = 0  # said to be made more than once
    half_written: int = 0
    other_texts: list[str] = field(default_factory=list)
    left_over: int = 0  # hidden temporary files that killed runs left
    failures: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)  # of the kills, in seconds
    finished: list[int] = field(default_factory=list)  # photos that were done at each kill


class Job:
    """The command, its photos, its cache and its files."""

    def __init__(self, folder: Path, photos: int, side: int, model: str) -> None:
        self.photos, self.cache = folder / "photos", folder / "cache"
        self.export = folder / "captions.jsonl"
        self.photos.mkdir()
        ramp = np.add.outer(np.arange(side), np.arange(side))[..., None]
        for number in range(photos):
            noise = np.random.default_rng(number).normal(0, 1 + number % 20, (side, side, 3))
            picture = np.clip(ramp * (1 + number % 7) % 256 + noise, 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(self.photos / f"{number:03d}.{'png' if number % 2 else 'jpg'}")
        flags = ["--model", model, "--json", "--quiet", "--sidecars", "--export", str(self.export), "--overwrite"]
        self.command = [sys.executable, "-m", "xpsr_cli", "caption", str(self.photos), *flags]

    def start(self) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        environment = os.environ | {"XPSR_CACHE": str(self.cache)}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command, **streams, text=True, env=environment)

    def clear(self) -> None:
        """Nothing has been captioned."""
        shutil.rmtree(self.cache, ignore_errors=True)
        for path in [*self.photos.glob("*.json"), *self.photos.glob(".*.tmp"), self.export]:
            path.unlink(missing_ok=True)

    def half_written(self, photos: int) -> int:
        """How many of the files that can be seen are not whole."""
        captions = [*self.cache.rglob("*.json"), *self.photos.glob("*.json")]
        bad = sum(not _is_caption(path.read_bytes()) for path in captions)
        if self.export.exists():
            lines = self.export.read_bytes().split(b"\n")
            bad += len(lines) != photos + 1 or not all(map(_is_caption, lines[:-1]))
        return bad

    def texts(self) -> tuple[Texts, Texts]:
        """What the sidecars say, and what the export says."""
        sidecars = [json.loads(path.read_bytes()) for path in self.photos.glob("*.caption.json")]
        rows = [json.loads(line) for line in self.export.read_text().splitlines()]
        return _by_photo(sidecars), _by_photo(rows)


def _is_caption(content: bytes) -> bool:
    try:
        return {"high", "low", "captioner"} <= json.loads(content).keys()
    except (ValueError, AttributeError):
        return False


def _by_photo(rows: list[dict[str, str]]) -> Texts:
    texts = {Path(row["photo"]).name: (row["high"], row["low"]) for row in rows}
    return texts if len(texts) == len(rows) else {}


def one_round(job: Job, wanted: Texts, seconds: float, kills: int, tally: Tally) -> None:
    """Kill and start again until the command ends by itself, or there were enough kills and it may."""
    tally.rounds += 1
    made: Counter[str] = Counter()
    told: set[str] = set()
    ended = False
    while not ended:
        may_kill = tally.kills < kills
        records, ended = _one_run(job, seconds if may_kill else None, tally)
        tally.lost += sum(record["origin"] == "made" and record["photo"] in told for record in records)
        told |= {record["photo"] for record in records}
        made.update(record["photo"] for record in records if record["origin"] == "made")
        tally.half_written += job.half_written(len(wanted))
        if not ended:
            tally.finished.append(len(told))
    tally.twice += sum(count > 1 for count in made.values())
    for texts in (*job.texts(), _by_photo(records)):
        differing = [name for name in wanted if texts.get(name) != wanted[name]]
        tally.other_texts += [f"{name}: {texts.get(name)} and not {wanted[name]}" for name in differing]
    stored = len(list(job.cache.rglob("*.json")))
    tally.twice += max(0, stored - len(wanted))
    tally.lost += max(0, len(wanted) - stored)
    tally.left_over += len([*job.cache.rglob(".*.tmp"), *job.photos.glob(".*.tmp")])


def _one_run(job: Job, seconds: float | None, tally: Tally) -> tuple[list[dict[str, str]], bool]:
    """What one run said of photos, and whether it ended by itself."""
    process = job.start()
    moment = None if seconds is None else random.uniform(0, seconds)
    try:
        out, errors = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        tally.kills += 1
        tally.moments.append(round(moment or 0.0, 2))
        whole, _, _ = out.rpartition("\n")  # the last line may be torn
        return [json.loads(line) for line in whole.splitlines()], False
    if process.returncode != 0 or errors:
        tally.failures.append(f"code {process.returncode}: {errors.strip()}")
    return [json.loads(line) for line in out.splitlines()], True


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--side", type=int, default=480, help="of a photo, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="measured")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        job = Job(Path(temporary), options.photos, options.side, options.model)
        started = time.perf_counter()
        _, errors = job.start().communicate()
        seconds = time.perf_counter() - started
        wanted, exported = job.texts()
        assert wanted == exported, errors
        assert len(wanted) == options.photos, errors
        tally = Tally()
        while tally.kills < options.kills:
            job.clear()
            one_round(job, wanted, seconds, options.kills, tally)
    print(f"{options.photos} photos, undisturbed in {seconds:.1f} s")
    for name in ("kills", "rounds", "lost", "twice", "half_written", "left_over"):
        print(f"{name.replace('_', ' '):14}{getattr(tally, name):6}")
    print(f"{'other texts':14}{len(tally.other_texts):6}\n{'failures':14}{len(tally.failures):6}")
    print(f"killed after {', '.join(map(str, tally.moments))} s")
    print(f"when {', '.join(map(str, tally.finished))} photos were done")
    for fault in (*tally.other_texts, *tally.failures):
        print(fault)
    raise SystemExit(bool(tally.lost or tally.twice or tally.half_written or tally.other_texts or tally.failures))


if __name__ == "__main__":
    main()
