"""The stages of a run: what each minimises, over which parameters, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from xpsr_cli.errors import UsageError
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.training.checkpoint import STAGES
from xpsr_cli.training.networks import Networks, TrainedNetworks
from xpsr_cli.training.objective import AutoencoderObjective, DiffusionObjective
from xpsr_cli.training.prior_networks import PriorNetworks
from xpsr_cli.training.prior_objective import PriorObjective
from xpsr_cli.training.recipe import OptimizerRecipe, Recipe
from xpsr_cli.training.reference_networks import ReferenceNetworks, ReferenceObjective
from xpsr_cli.training.scorer import ScorerNetworks, ScorerObjective
from xpsr_cli.training.tuner_networks import TunerNetworks, TunerObjective

_APART = 2**30  # numbers of samples from the first of a stage to the first of the next
_FIT = 2**40  # the first sample of those that the transform is fitted to


@dataclass(frozen=True)
class Stage:
    """One of :data:`~xpsr_cli.training.checkpoint.STAGES`."""

    name: str
    steps: int
    objective: AutoencoderObjective | DiffusionObjective | PriorObjective | ScorerObjective
    parameters: list[nn.Parameter]
    optimizer: OptimizerRecipe

    @property
    def first_sample(self) -> int:
        """Its number."""
        return STAGES.index(self.name) * _APART


def make_stage(name: str, recipe: Recipe, networks: Networks, scheduler_config: Mapping[str, Any]) -> Stage:
    """A stage by its name.

    Raises:
        UsageError: an autoencoder stage without an autoencoder of that kind, or a loss that cannot be.
    """
    if name == "diffusion":
        objective: DiffusionObjective | PriorObjective | ScorerObjective
        if isinstance(networks, PriorNetworks):
            objective = PriorObjective(networks, scheduler_config, recipe.seed)
        elif isinstance(networks, ScorerNetworks):
            objective = ScorerObjective(networks)
        elif isinstance(networks, ReferenceNetworks):
            objective = ReferenceObjective(networks, scheduler_config, recipe)
        else:
            assert isinstance(networks, TrainedNetworks)
            kind = TunerObjective if isinstance(networks, TunerNetworks) else DiffusionObjective
            objective = kind(networks, scheduler_config, recipe.loss, recipe.seed)
        return Stage(name, recipe.optimizer.steps, objective, list(networks.trained().values()), recipe.optimizer)
    vae = networks.vae if isinstance(networks, TrainedNetworks) else None
    if recipe.autoencoder is None or not isinstance(vae, ResidualAutoencoder):
        raise UsageError(f"The recipe {recipe.name} has an [autoencoder] section.", "Only new small models have.")
    optimizer = replace(
        recipe.optimizer, learning_rate=recipe.autoencoder.learning_rate, schedule="cosine", warmup_steps=0
    )
    parameters = list(vae.parameters())
    return Stage(name, recipe.autoencoder.steps, AutoencoderObjective(vae, recipe.seed), parameters, optimizer)


def fit_transform(vae: ResidualAutoencoder, pairs: Dataset, crops: int, device: torch.device) -> None:
    """Before the autoencoder stage: the transform is the principal axes of real residuals, of ``crops`` pairs."""
    items: list[Any] = [pairs[_FIT + number] for number in range(crops)]
    photos, enlarged = (torch.stack([item[name] for item in items]) for name in ("target_pm1", "enlarged_pm1"))
    vae.fit(photos.to(device), enlarged.to(device))
