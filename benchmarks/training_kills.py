"""Kills at random steps of a training run: the weights that come out are those of an undisturbed run, to the last bit.

    python benchmarks/training_kills.py [--kills 10] [--data examples/] [--steps 60] [--seed 0]

First ``xpsr train --config xpsr-mini-smoke`` runs undisturbed. Then it is started, killed (SIGKILL) a random while
after a random step and resumed, again and again until it has ended by itself; and from the beginning until there were
enough kills. After each kill every checkpoint and the newest model have to be whole. Not for Windows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from xpsr_cli.errors import XpsrError
from xpsr_cli.integrity import check_safetensors
from xpsr_cli.training.checkpoint import check_whole, checkpoints, latest

LONGEST = 9  # steps between two kills


@dataclass
class Tally:
    """What came of all rounds."""

    rounds: int = 0
    steps: list[str] = field(default_factory=list)  # after which a run was killed
    broken: list[str] = field(default_factory=list)  # what was not whole after a kill
    differing: int = 0  # rounds that ended in other weights


def command(output: Path, data: Path, steps: int, *more: str) -> list[str]:
    changes = [f"optimizer.steps={steps}", "output.log_steps=1", "output.save_steps=5", "output.validate_steps=0"]
    sets = [word for change in changes for word in ("--set", change)]
    run = ["train", "--config", "xpsr-mini-smoke", "--data", str(data), "-o", str(output), "--json", "--quiet"]
    return [sys.executable, "-m", "xpsr_cli", *run, *sets, *more]


def digest(output: Path) -> str:
    """SHA-256 of the exact and the averaged weights of the last checkpoint, and of the model that came out."""
    folder = latest(output)
    assert folder is not None
    files = [folder / "state" / f"{name}.safetensors" for name in ("weights", "average")]
    files += sorted((output / "model").rglob("*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def one_round(output: Path, arguments: argparse.Namespace, chance: random.Random, tally: Tally) -> None:
    """Kill and resume until the run ends by itself, or there were enough kills and it may."""
    tally.rounds += 1
    ended = False
    while not ended:
        process = subprocess.Popen(
            command(output, arguments.data, arguments.steps, "--resume"), stdout=subprocess.PIPE, text=True
        )
        last, lines = "before the first", chance.randint(1, LONGEST)
        for count, line in enumerate(process.stdout or [], start=1):
            row = json.loads(line)
            last = f"{row.get('stage')} {row.get('step')}"
            if count >= lines and len(tally.steps) < arguments.kills:
                time.sleep(chance.uniform(0, 0.3))  # in a step, or in a save
                process.kill()
                break
        ended = process.wait() == 0
        if not ended:
            tally.steps.append(last)
            tally.broken += broken(output)


def broken(output: Path) -> list[str]:
    """What of a run's folder is not whole."""
    models = (output / "model").rglob("*.safetensors")
    found = []
    for check, paths in ((check_whole, checkpoints(output)), (check_safetensors, models)):
        for path in paths:
            try:
                check(path)
            except XpsrError as error:
                found.append(error.message)
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--data", type=Path, default=Path("examples"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, tally = random.Random(arguments.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "straight"
        subprocess.run(command(straight, arguments.data, arguments.steps), check=True, stdout=subprocess.DEVNULL)
        wanted = digest(straight)
        while len(tally.steps) < arguments.kills:
            output = Path(folder) / f"round-{tally.rounds}"
            shutil.copytree(straight / "tokenizer", output / "tokenizer")  # of a new run it would be another
            one_round(output, arguments, chance, tally)
            tally.differing += digest(output) != wanted
    print(f"{len(tally.steps)} kills in {tally.rounds} rounds, after: {', '.join(tally.steps)}")
    print(f"not whole after a kill: {len(tally.broken)}; rounds with other weights: {tally.differing}; {wanted[:16]}")
    for what in tally.broken:
        print(what)
    sys.exit(bool(tally.broken or tally.differing))


if __name__ == "__main__":
    main()
