"""What a training run leaves on disk: a model folder people can use, and the state to go on from.

``OUTPUT/model/`` is the averaged (EMA) model in diffusers layout, half precision.
``OUTPUT/state/`` holds the exact weights, optimizer, average, random state and position. Each is written beside its
place and renamed, so that a kill leaves the previous one whole.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file

from xpsr_cli.errors import WeightsError
from xpsr_cli.training.objective import Networks


@dataclass
class Position:
    """How far a run has come."""

    stage: str  # "autoencoder" or "diffusion"
    step: int  # optimizer steps done in this stage
    seconds: float  # spent training, over all sessions


def save_state(
    folder: Path,
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel,
    generator: torch.Generator,
    position: Position,
) -> None:
    """Write everything a later process needs to go on as if it had never stopped."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, module in networks.modules().items():
        save_file(
            {key: value.contiguous() for key, value in module.state_dict().items()}, temporary / f"{name}.safetensors"
        )
    torch.save(
        {"optimizer": optimizer.state_dict(), "ema": ema.state_dict(), "generator": generator.get_state()},
        temporary / "optimizer.pt",
    )
    (temporary / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
    replace_folder(temporary, folder)


def read_position(folder: Path) -> Position | None:
    """Where the run in ``folder`` stands, or None when it holds no state."""
    file = folder / "position.json"
    return Position(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def load_weights(folder: Path, networks: Networks) -> None:
    """Load the exact weights of a state folder.

    Raises:
        WeightsError: a file is missing or of another architecture.
    """
    for name, module in networks.modules().items():
        try:
            module.load_state_dict(load_file(folder / f"{name}.safetensors"))
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"The training state {folder} does not fit the recipe: {name}: {str(error).splitlines()[0]}.",
                "Resume with the recipe the run was started with, or choose another output folder.",
            ) from error


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer, ema: EMAModel, generator: torch.Generator) -> None:
    """Load optimizer, average and random state; without that file (weights alone were kept) they start fresh."""
    if not (folder / "optimizer.pt").is_file():
        return
    saved: dict[str, Any] = torch.load(folder / "optimizer.pt", weights_only=True)
    optimizer.load_state_dict(saved["optimizer"])
    ema.load_state_dict(saved["ema"])
    generator.set_state(saved["generator"])


def recover_folder(place: Path) -> None:
    """Undo a :func:`replace_folder` that was killed between its two renames."""
    old = place.with_name(place.name + ".old")
    if old.exists() and not place.exists():
        old.rename(place)


def replace_folder(new: Path, place: Path) -> None:
    """Put ``new`` where ``place`` is; the old folder is removed only after the new one stands."""
    recover_folder(place)
    old = place.with_name(place.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
