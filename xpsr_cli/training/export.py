"""The model folder that a training run leaves: whole, in half precision, ready for ``--model``, with its card."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from xpsr_cli.models.loading import Components, save_components
from xpsr_cli.training.networks import TrainedNetworks


def export_model(
    folder: Path, networks: TrainedNetworks, model: Components, frozen: Mapping[str, nn.Module] | None = None
) -> None:
    """Write ``networks`` as they are now, with the tokenizer, schedule, preset and name of ``model``.

    Half precision, but for a small model's autoencoder, where that would save nothing and cost accuracy. Parts in
    ``frozen`` are written as they stand there.
    """
    parts = frozen_parts(networks) if frozen is None else dict(frozen)
    parts |= {name: _exported(name, networks) for name in networks.parts() if name not in parts}
    with tokenizer_errors():
        save_components(
            folder,
            name=model.name,
            tokenizer=model.tokenizer,
            scheduler_config=model.scheduler_config,
            preset=model.preset,
            **parts,  # type: ignore[arg-type]
        )


@contextmanager
def tokenizer_errors() -> Iterator[None]:
    """What the tokenizer library says of a full disk as an :class:`OSError`; it has no type of its own for that."""
    try:
        yield
    except Exception as error:
        if type(error) is Exception:
            raise OSError(str(error)) from error
        raise


def frozen_parts(networks: TrainedNetworks) -> dict[str, nn.Module]:
    """Copies of what training does not change, to be taken before it moves them to a device and coarser numbers."""
    parts = networks.parts().items()
    return {
        name: _exported(name, networks) for name, part in parts if not any(p.requires_grad for p in part.parameters())
    }


def _exported(name: str, networks: TrainedNetworks) -> nn.Module:
    return copied(networks.parts()[name], None if name == "vae" and networks.small else torch.float16)


def copied(network: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy in the computer's memory, in ``dtype`` (``None`` keeps each); the device needs no room for it."""

    def copy_of(values: Tensor) -> Tensor:
        wanted = dtype if values.is_floating_point() else None
        return values.detach().to("cpu", wanted, copy=True).contiguous()

    memo: dict[int, object] = {id(p): nn.Parameter(copy_of(p), requires_grad=False) for p in network.parameters()}
    memo |= {id(buffer): copy_of(buffer) for buffer in network.buffers()}
    return copy.deepcopy(network, memo)
