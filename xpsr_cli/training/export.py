"""The model folder that a training run leaves: whole, in half precision, ready for ``--model``, with its card."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from xpsr_cli.models.loading import Components, save_components
from xpsr_cli.training.networks import TrainedNetworks


def export_model(folder: Path, networks: TrainedNetworks, model: Components) -> None:
    """Write ``networks`` as they are now, with the tokenizer, schedule, preset and name of ``model``.

    Half precision, but for a small model's autoencoder, where that would save nothing and cost accuracy.
    """
    parts = {
        name: copied(part, None if name == "vae" and networks.small else torch.float16)
        for name, part in networks.parts().items()
    }
    save_components(
        folder,
        name=model.name,
        tokenizer=model.tokenizer,
        scheduler_config=model.scheduler_config,
        preset=model.preset,
        **parts,  # type: ignore[arg-type]
    )


def copied(network: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy in the computer's memory, in ``dtype`` (``None`` keeps each); the device needs no room for it."""

    def copy_of(values: Tensor) -> Tensor:
        wanted = dtype if values.is_floating_point() else None
        return values.detach().to("cpu", wanted, copy=True).contiguous()

    memo: dict[int, object] = {id(p): nn.Parameter(copy_of(p), requires_grad=False) for p in network.parameters()}
    memo |= {id(buffer): copy_of(buffer) for buffer in network.buffers()}
    return copy.deepcopy(network, memo)
