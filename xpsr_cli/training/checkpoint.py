"""What a training run leaves on disk: model folders people can use, and the state to go on from.

``OUTPUT/checkpoints/step-000500/model/`` is the averaged (EMA) model as the run exports it; ``.../state/`` holds the
exact trained weights, the average, the optimizer and the position, with SHA-256 sums. ``OUTPUT/model/`` is the newest
model. Each folder is written beside its place, brought to the disk and renamed: a kill or a full disk leaves the
previous ones whole. Learning rate, data and noise follow from the position: no schedule, no random state is kept.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.integrity import SUMS_NAME, hash_file, read_sums, record_sums
from xpsr_cli.models.folders import check_shapes
from xpsr_cli.training.networks import Networks
from xpsr_cli.training.whole_folders import link_tree, recover_folder, remove_folder, written_beside

log = logging.getLogger(__name__)
STAGES = ("autoencoder", "diffusion")
"""Of a run, in their order; models that bring their autoencoder begin with the second."""


_NAMES = {"autoencoder": "autoencoder-", "diffusion": "step-"}


@dataclass
class Position:
    """How far a run has come."""

    stage: str
    step: int = 0  # optimizer steps done in this stage
    seconds: float = 0.0  # spent training, over all sessions

    @property
    def name(self) -> str:
        """Of a checkpoint here, such as ``step-000500``."""
        return f"{_NAMES[self.stage]}{self.step:06d}"


@dataclass
class RunState:
    """Everything that changes while a stage is trained, apart from the position."""

    networks: Networks
    optimizer: Any  # torch's, or accelerate's around it
    optimizer_name: str  # the recipe's word for its kind
    average: EMAModel | None
    scaler: Any  # of fp16, else None


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of a run, the furthest last."""
    found = []
    for stage in STAGES:
        steps = {f: f.name.removeprefix(_NAMES[stage]) for f in (output / "checkpoints").glob(f"{_NAMES[stage]}*")}
        found += sorted((f for f, step in steps.items() if step.isdigit()), key=lambda f: int(steps[f]))
    return found


def latest(output: Path) -> Path | None:
    """The furthest checkpoint of a run, or None; whether it is damaged shows when it is read."""
    return next(reversed(checkpoints(output)), None)


def save_checkpoint(
    output: Path, state: RunState, position: Position, export: Callable[[Path], None], keep: int
) -> Path:
    """Write a checkpoint, make its model the run's newest, and remove all but the last ``keep`` checkpoints.

    Raises:
        WeightsError: it could not be written, for example on a full disk; what was there before is untouched.
    """
    place = output / "checkpoints" / position.name
    with written_beside(place) as temporary:
        export(temporary / "model")
        _write_state(temporary / "state", state, position)
    publish_saved(output, place)
    there = checkpoints(output)
    done = there.index(place) + 1
    for folder in (*there[: max(0, done - keep)], *there[done:]):  # further ones are damaged, see refuse_detour
        remove_folder(folder)
    return place


def publish(output: Path, export: Callable[[Path], None]) -> Path:
    """Make what ``export`` writes the run's newest model, ``OUTPUT/model``; errors as :func:`save_checkpoint`."""
    place = output / "model"
    with written_beside(place) as temporary:
        export(temporary)
    return place


def publish_saved(output: Path, folder: Path) -> None:
    """Make the model of a checkpoint the run's newest, as a kill right after the checkpoint may have failed to do."""
    if (folder / "model").is_dir():
        publish(output, lambda place: link_tree(folder / "model", place))


def find_whole(output: Path) -> Path | None:
    """The furthest checkpoint that is whole, or None; damaged ones after it are named in the log."""
    recover(output)
    for folder in reversed(checkpoints(output)):
        try:
            check_whole(folder)
        except (UsageError, WeightsError) as error:
            log.warning("%s The run goes on from an earlier one.", error.message)
        else:
            return folder
    return None


def check_whole(folder: Path) -> None:
    """Raise :class:`UsageError` for a folder that is no checkpoint, :class:`WeightsError` for a damaged one."""
    if not (folder / "state").is_dir():
        raise UsageError(
            f"{folder} is not a checkpoint.", "Name a folder such as RUN/checkpoints/step-000500, or say latest."
        )
    sums = read_sums(folder / "state")
    broken = [name for name, digest in sums.items() if not _has_digest(folder / "state" / name, digest)]
    if broken or not sums:
        name = broken[0] if broken else SUMS_NAME
        raise WeightsError(
            f"The checkpoint {folder} is damaged: {name} is not what was written.", "Go on from another one."
        )


def refuse_detour(output: Path, folder: Path) -> None:
    """Raise :class:`UsageError` if ``output`` holds a checkpoint further than ``folder``.

    The next ``--resume latest`` would go on from that one, and what was trained in between would be lost.
    """
    furthest = find_whole(output)
    if furthest is not None and _order(read_position(furthest)) > _order(read_position(folder)):
        raise UsageError(
            f"{output} holds a later checkpoint than {folder}: {furthest.name}.",
            "Choose another output folder, or remove the later ones first.",
        )


def read_position(folder: Path) -> Position:
    """Where a run stood at a checkpoint."""
    return Position(**json.loads((folder / "state" / "position.json").read_text(encoding="utf-8")))


def load_weights(folder: Path, networks: Networks) -> None:
    """Put the exact weights of a checkpoint into ``networks``; :class:`WeightsError` if it is of another shape."""
    _copy(_load_fitting(folder / "state" / "weights.safetensors", networks.exact_state()), networks.exact_state())


def load_average(folder: Path, networks: Networks, average: EMAModel) -> None:
    """Put the averaged weights of a checkpoint into ``average``; a run that kept none begins with the exact ones."""
    path, own = (
        folder / "state" / "average.safetensors",
        dict(zip(networks.trained(), average.shadow_params, strict=True)),
    )
    if path.is_file():
        _copy(_load_fitting(path, own), own)
        average.optimization_step = _load_extras(folder)["average_steps"]
    else:
        _copy(dict(networks.trained()), own)


def load_optimizer(folder: Path, state: RunState) -> None:
    """Put the optimizer's moments of a checkpoint, and the loss scale of fp16, into ``state``.

    Raises:
        UsageError: they are of another kind of optimizer.
    """
    saved = _load_extras(folder)
    if saved["name"] != state.optimizer_name:
        raise UsageError(
            f"optimizer.name is {state.optimizer_name!r}, but the checkpoint {folder} is one of {saved['name']!r}.",
            f"Resume with optimizer.name={saved['name']}.",
        )
    state.optimizer.load_state_dict(saved["optimizer"])
    if state.scaler is not None and saved["scaler"]:
        state.scaler.load_state_dict(saved["scaler"])


def recover(output: Path) -> None:
    """Undo renames of a run's folders that were killed half-way, and remove what killed saves left."""
    recover_folder(output / "model")
    for prefix in _NAMES.values():
        for ending in (".old", ".part"):
            for left in (output / "checkpoints").glob(f"{prefix}*{ending}"):
                recover_folder(left.with_name(left.name.removesuffix(ending)))


def _order(position: Position) -> tuple[int, int]:
    return STAGES.index(position.stage), position.step


def _write_state(folder: Path, state: RunState, position: Position) -> None:
    folder.mkdir()
    save_file(_contiguous(state.networks.exact_state()), folder / "weights.safetensors")
    average_steps = 0
    if state.average is not None:
        average_steps = state.average.optimization_step
        averaged = dict(zip(state.networks.trained(), state.average.shadow_params, strict=True))
        save_file(_contiguous(averaged), folder / "average.safetensors")
    extras = {
        "name": state.optimizer_name,
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict() if state.scaler is not None else {},
        "average_steps": average_steps,
    }
    torch.save(extras, folder / "optimizer.pt")
    (folder / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
    record_sums(folder)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _load_fitting(path: Path, own: dict[str, Tensor]) -> dict[str, Tensor]:
    found = load_file(path)
    try:
        check_shapes({n: tuple(t.shape) for n, t in own.items()}, {n: tuple(t.shape) for n, t in found.items()}, path)
    except WeightsError as error:
        raise WeightsError(
            error.message.replace("its config.json", "the recipe"),
            "Resume with the recipe that the run was started with, or choose another output folder.",
        ) from None
    return found


def _load_extras(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "state" / "optimizer.pt", map_location="cpu", weights_only=True)
    return loaded


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    """In place: the layout in memory stays, and with it the order of every sum."""
    for name, value in source.items():
        target[name].copy_(value)


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return hash_file(path) == digest
    except OSError:
        return False
