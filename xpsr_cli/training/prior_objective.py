"""What a stage of a pixel cascade minimises: the error of the predicted velocity (Salimans and Ho 2022)."""

# shapes: B batch, S side in pixels, L text tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn

from xpsr_cli.models.pixel_cascade import REFINER, conditions
from xpsr_cli.training.prior_networks import PriorNetworks

MOST_NOISE = 400
"""The smaller picture that a refiner sees is noised to a timestep below this, so that it need not be a clean one."""
_GOLDEN = (5**0.5 - 1) / 2


class PriorObjective(nn.Module):
    """The loss of a batch. A module that holds all networks, so that one wrapper synchronises all gradients."""

    def __init__(self, networks: PriorNetworks, scheduler_config: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.networks = networks
        self.scheduler = DDIMScheduler.from_config(dict(scheduler_config))
        self.seed = seed

    def draw(self, samples: Sequence[int], height: int, width: int) -> dict[str, Tensor]:
        """What is random about samples with these numbers: ``timesteps`` (B,) and ``noise`` (B, 3, S, S).

        A refiner's also have ``levels`` (B,) and ``level_noise`` (B, 3, S, S) of the smaller picture. The timesteps
        of samples in a row are spread evenly (a golden-ratio sequence): losses scatter less than with random ones.
        """
        count = self.scheduler.config.num_train_timesteps
        sources = [np.random.default_rng([self.seed, sample, 1]) for sample in samples]
        shape = (3, height, width)
        drawn = {
            "timesteps": torch.tensor([int(sample * _GOLDEN % 1 * count) for sample in samples]),
            "noise": _stacked(rng.standard_normal(shape, dtype=np.float32) for rng in sources),
        }
        if self.networks.stage == REFINER:
            drawn["levels"] = torch.tensor([int(rng.integers(MOST_NOISE)) for rng in sources])
            drawn["level_noise"] = _stacked(rng.standard_normal(shape, dtype=np.float32) for rng in sources)
        return drawn

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``total`` and, without gradient, ``noise``, the same.

        Args:
            batch: ``target_pm1`` and, for a refiner, ``enlarged_pm1`` (B, 3, S, S) in [-1, 1]; ``high`` (B, L) token
                ids; what :meth:`draw` returned for it.
        """
        clean, noise, timesteps = batch["target_pm1"], batch["noise"], batch["timesteps"]
        told = conditions(self.networks.stage, self.networks.text_encoder, batch["high"], batch.get("levels"))
        seen = self.scheduler.add_noise(clean, noise, timesteps)
        if self.networks.stage == REFINER:
            smaller = self.scheduler.add_noise(batch["enlarged_pm1"], batch["level_noise"], batch["levels"])
            seen = torch.cat([seen, smaller], dim=1)
        prediction = self.networks.unet(seen, timesteps, **told).sample.float()
        loss = F.mse_loss(prediction, self.scheduler.get_velocity(clean, noise, timesteps))
        return {"total": loss, "noise": loss.detach()}


def _stacked(arrays: Any) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays)))
