"""How long ``xpsr`` takes to answer help and TAB: the best and the median of fresh processes, wall and CPU seconds.

python benchmarks/startup.py [--repeat 10]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

CASES = {
    "--help": (["--help"], {}),
    "upscale --help": (["upscale", "--help"], {}),
    "weights list": (["weights", "list"], {}),
    "TAB after xpsr": ([], {"_XPSR_COMPLETE": "complete_bash", "COMP_WORDS": "xpsr ", "COMP_CWORD": "1"}),
}


def measure(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "xpsr_cli", *arguments]
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=10)
    repeat = parser.parse_args().repeat
    print(f"{'command':18} {'best s':>8} {'median s':>9} {'CPU s':>7}")
    for name, (arguments, environment) in CASES.items():
        walls, cpus = zip(*(measure(arguments, environment) for _ in range(repeat)), strict=True)
        print(f"{name:18} {min(walls):8.2f} {statistics.median(walls):9.2f} {min(cpus):7.2f}")


if __name__ == "__main__":
    main()
