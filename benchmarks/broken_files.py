"""Broken files through ``xpsr upscale``, one process each and then all in one run: each is refused in a sentence.

    python benchmarks/broken_files.py [--count 300] [--seed 0] [--limit 20] [--model xpsr-mini]

The files are those of ``tests/broken_photos.py``: flipped bits, cut files, wrong extensions, bombs, loops, links to
nowhere, folders called like photos. Right is code 3 and one sentence, or code 0 where a mutated file is still a photo;
of the run over all of them, code 7 and a list of every photo that failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import imagecodecs
from broken_photos import Broken, write_broken

XPSR = [sys.executable, "-m", "xpsr_cli", "upscale"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds after which a file counts as hanging")
    parser.add_argument("--model", default="xpsr-mini")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "photos")
        folder.mkdir()
        broken = write_broken(folder, options.count, options.seed)
        problems = one_by_one(broken, Path(temporary, "one"), options)
        problems += all_at_once(broken, folder, Path(temporary, "all"), options)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    raise SystemExit(bool(problems))


def one_by_one(broken: list[Broken], output: Path, options: argparse.Namespace) -> list[str]:
    """A process for each file; prints a table of codes by kind, and gives what is not right."""
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    problems, slowest = [], 0.0
    output.mkdir()
    for one in broken:
        result = output / f"{one.path.name}.png"
        command = [*XPSR, str(one.path), "--output", str(result), "--scale", "2", "--model", options.model, "--quiet"]
        started = time.perf_counter()
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
        except subprocess.TimeoutExpired:
            codes[one.kind]["hang"] += 1
            problems.append(f"{one.path.name}: no end after {options.limit:g} s")
            continue
        slowest = max(slowest, time.perf_counter() - started)
        codes[one.kind][str(run.returncode)] += 1
        problems += [f"{one.path.name}: {fault}" for fault in _faults(one, result, run)]
    left = [path.name for path in output.iterdir() if path.name != ".xpsr" and path.suffix != ".png"]
    problems += [f"{name} was left behind" for name in left]

    columns = sorted({code for counter in codes.values() for code in counter})
    print(f"{'':18}{'files':>7}" + "".join(f"{'code ' + code:>9}" for code in columns))
    for kind, counter in sorted(codes.items()):
        print(f"{kind:18}{counter.total():7}" + "".join(f"{counter[code]:9}" for code in columns))
    total = sum(codes.values(), Counter())
    print(f"{'all':18}{total.total():7}" + "".join(f"{total[code]:9}" for code in columns))
    print(f"slowest {slowest:.1f} s")
    return problems


def _faults(one: Broken, result: Path, run: subprocess.CompletedProcess[str]) -> list[str]:
    """What is not right about one run."""
    faults = []
    if run.returncode not in ((3,) if one.hopeless else (0, 3)):
        faults.append(f"code {run.returncode}")
    if "Traceback" in run.stderr:
        faults.append("a traceback")
    if run.returncode == 3 and one.path.name not in "".join(run.stderr.split("\n")):
        faults.append(f"it is not named: {run.stderr!r}")
    if (run.returncode == 0) != result.exists():
        faults.append("a result without code 0, or none with it")
    if result.exists() and not _is_whole(result):
        faults.append("half a result")
    return faults


def _is_whole(png: Path) -> bool:
    try:
        imagecodecs.png_decode(png.read_bytes())
    except Exception:
        return False
    return True


def all_at_once(broken: list[Broken], folder: Path, output: Path, options: argparse.Namespace) -> list[str]:
    """One run over the folder; folders in it that are called like photos are not among its photos."""
    command = [*XPSR, str(folder), "--output", str(output), "--scale", "2", "--model", options.model, "--json"]
    started = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True)
    records = {record["input"]: record for record in map(json.loads, run.stdout.splitlines())}
    failed = [name for name, record in records.items() if record["status"] == "failed"]
    done = [Path(record["output"]) for record in records.values() if record["status"] == "done"]
    problems = ["a traceback"] if "Traceback" in run.stderr else []
    if run.returncode != 7:
        problems.append(f"code {run.returncode}, not 7")
    if set(records) != {str(one.path) for one in broken if one.kind != "folder"}:
        problems.append(f"{len(records)} photos were told of")
    summary = run.stderr[run.stderr.rfind(" photos failed: ") :]
    problems += [f"{name} is not in the list of those that failed" for name in failed if name not in summary]
    problems += [f"half a result: {path.name}" for path in done if not _is_whole(path)]
    if set(done) != {path for path in output.iterdir() if path.name != ".xpsr"}:
        problems.append("the results are not those that were told of")
    seconds = time.perf_counter() - started
    print(f"all in one run: code {run.returncode}, {len(failed)} failed, {len(done)} done, {seconds:.0f} s")
    return [f"all in one run: {problem}" for problem in problems]


if __name__ == "__main__":
    main()
