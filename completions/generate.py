"""Writes the completion scripts of ``xpsr`` into this folder: ``python completions/generate.py``.

The command makes them itself when ``_XPSR_COMPLETE=source_SHELL`` is set; nothing here depends on typer's insides.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = {"bash": "xpsr.bash", "zsh": "_xpsr", "fish": "xpsr.fish", "powershell": "xpsr.ps1"}
"""File of each shell, named as the shell looks for it."""


def script_for(shell: str) -> str:
    """The completion script of one shell, as the ``xpsr`` of this environment makes it."""
    environment = {**os.environ, "_XPSR_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-m", "xpsr_cli"]
    made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return made.stdout.strip() + "\n"


def main() -> None:
    """Write every script."""
    for shell, name in SCRIPTS.items():
        (Path(__file__).parent / name).write_text(script_for(shell), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
