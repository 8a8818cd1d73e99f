"""What comes out of the corpus of small photos of every kind: sizes, profiles, tags, bits and colours, by format.

    python benchmarks/corpus.py [--model xpsr-mini] [--folder FOLDER]

Makes the corpus of ``tests/photo_corpus.py``, enlarges all of it with ``xpsr upscale --scale 2``, and reads the
results with other libraries. The difference in colour is the mean CIEDE2000 between input and result at the input's
size. With ``--folder`` the photos (``inputs``) and results (``results``) stay there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from photo_corpus import commands, write_corpus
from photo_faults import faults

from xpsr_cli.cli.app import run

FAULTS = {
    "size": ("the size",),
    "profile": ("another colour profile", "no colour profile"),
    "bits": ("8 bits", "16 bits"),
    "turned": ("orientation",),
    "alpha": ("no alpha", "alpha out"),
    "colour": ("colours differ",),
}
"""Columns, and how the words of the faults that belong there begin; all others are lost tags."""


def column(fault: str) -> str:
    """Where a fault is counted."""
    return next((name for name, words in FAULTS.items() if fault.startswith(words)), "tags")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--folder", type=Path, help="where photos and results are left")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report(options.folder or Path(temporary), options.model)


def report(folder: Path, model: str) -> None:
    """Make, enlarge and read everything, and print the table."""
    inputs, results = folder / "inputs", folder / "results"
    inputs.mkdir(parents=True)
    records = write_corpus(inputs)
    started = time.perf_counter()
    for arguments in commands(records, results):
        run([*map(str, arguments), "--model", model])
    seconds = time.perf_counter() - started

    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    differences: dict[str, list[float]] = defaultdict(list)
    for record in records:
        kind = record.path.suffix[1:]
        counts[kind]["photos"] += 1
        result = results / record.result_name
        if not result.exists():
            counts[kind]["missing"] += 1
            print(f"{record.path.name}: no result")
            continue
        wrong, difference = faults(result, record)
        differences[kind].append(difference)
        for fault in wrong:
            counts[kind][column(fault)] += 1
            print(f"{record.path.name}: {fault}")

    columns = ["photos", "missing", *FAULTS, "tags"]
    print(f"{'':6}" + "".join(f"{name:>9}" for name in columns) + f"{'mean dE':>9}{'worst dE':>9}")
    for kind in counts:
        figures = "".join(f"{counts[kind][name]:9}" for name in columns)
        print(f"{kind:6}{figures}{sum(differences[kind]) / len(differences[kind]):9.3f}{max(differences[kind]):9.3f}")
    every = [value for values in differences.values() for value in values]
    totals = "".join(f"{sum(count[name] for count in counts.values()):9}" for name in columns)
    print(f"{'all':6}{totals}{sum(every) / len(every):9.3f}{max(every):9.3f}")
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
