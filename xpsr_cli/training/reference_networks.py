"""Reference attention in training: everything else is frozen, and what comes out is an add-on, not a model."""

# shapes: B batch, S crop side in pixels, L text tokens, D text width, C_0 h w features of a reference

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.models.reference_attention import ReferenceForm
from xpsr_cli.models.reference_loading import (
    ACTIVATOR,
    ReferenceShape,
    add_reference,
    is_new,
    new_weights,
    save_reference,
)
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.models.tuner_loading import TunerActivator, load_tuner, save_tuner
from xpsr_cli.training.activators import make_activator
from xpsr_cli.training.export import copied
from xpsr_cli.training.networks import PARTS, TrainedNetworks
from xpsr_cli.training.objective import DiffusionObjective
from xpsr_cli.training.recipe import Recipe, ReferenceRecipe
from xpsr_cli.training.recipe_limits import TUNER_PREFIX
from xpsr_cli.training.references import NOTHING, Activate, make_references


class ReferenceNetworks(TrainedNetworks):
    """The networks of a model with reference attention, which alone is trained."""

    def __init__(self, model: Components, activator: TunerActivator | None = None) -> None:
        """``activator`` is the trained one that makes references, if there is one."""
        super().__init__(model.text_encoder, model.vae, model.unet, model.controlnet)
        if activator is not None:
            self.part_names = (*PARTS, "tuner")
        self.tuner = None if activator is None else activator.tuner
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(is_new(name))


class ReferenceObjective(DiffusionObjective):
    """The loss of a model that reads references, which are made for every batch on the way."""

    def __init__(self, networks: ReferenceNetworks, scheduler_config: Mapping[str, Any], recipe: Recipe) -> None:
        """:class:`UsageError` for a loss or an activator that this model cannot have."""
        super().__init__(networks, scheduler_config, recipe.loss, recipe.seed)
        assert isinstance(recipe.model, ReferenceRecipe)
        self.activators = make_activators(networks, scheduler_config, recipe.model, networks.tuner)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As :meth:`DiffusionObjective.forward`, of a batch of :class:`ReferencePairs`."""
        networks = self.networks
        clean = networks.encode(batch["target_pm1"], batch["enlarged_pm1"], batch.get("posterior_noise"))
        with torch.no_grad():
            prompts = networks.text_encoder(torch.cat([batch["high"], batch["low"]])).last_hidden_state
            high, low = prompts.chunk(2)
            told = {**batch, "prompts": torch.stack([high, low], dim=1)}
            photo = (batch["enlarged_pm1"] + 1) / 2
            references = make_references(told, self.activators)
            features = networks.controlnet.encode_reference(
                references, photo, networks.controlnet.encode_image(photo.to(networks.controlnet.dtype))
            )
            there = (batch["reference_kind"] != NOTHING)[:, None, None, None]
        return self.losses(clean, high, low, batch, features * there)  # zeros stand for no reference


def make_activators(
    networks: ReferenceNetworks,
    scheduler_config: Mapping[str, Any],
    sizes: ReferenceRecipe,
    tuner: SkipTuner | None,
) -> list[Activate]:
    """The activators that a recipe names, the first one first; ``tuner`` is the trained one among them."""
    names, steps = map(_kind, sizes.activators), sizes.activator_steps
    return [make_activator(name, networks, scheduler_config, steps, tuner) for name in names]


class ReferenceExport:
    """Writes the add-on as it is now, in half precision, with the trained activator it was trained with."""

    def __init__(
        self,
        recipe: Recipe,
        sizes: ReferenceRecipe,
        model: Components,
        networks: ReferenceNetworks,
        activator: TunerActivator | None = None,
    ) -> None:
        self._networks = networks
        self._shape = _shape(sizes, len(model.unet.config.block_out_channels))
        self._base: dict[str, Any] = {
            "base": model.name,
            "base_weights": model.fingerprint if model.weights_files else None,
        }
        self._name, self._steps = recipe.name, sizes.activator_steps
        self._made_by = _kind(sizes.activators[0])
        self._activator = activator if activator is None else replace(activator, tuner=_half(activator.tuner))

    def __call__(self, folder: Path) -> None:
        """Write ``folder`` as the networks now are."""
        weights = {**new_weights(self._networks.unet), **new_weights(self._networks.controlnet)}
        half = {name: value.detach().to("cpu", torch.float16) for name, value in weights.items()}
        told = {"activator": self._made_by, "steps": self._steps}
        save_reference(folder, half, self._shape, name=self._name, reference=told, **self._base)
        if self._activator is not None:
            tuner, name = self._activator.tuner, self._activator.name
            save_tuner(folder / ACTIVATOR, tuner, name=name, steps=self._steps, **self._base)


def _half(tuner: SkipTuner) -> SkipTuner:
    made = copied(tuner, torch.float16)
    assert isinstance(made, SkipTuner)
    return made


def with_reference(model: Components, sizes: ReferenceRecipe, seed: int) -> Components:
    """The model at step 0, with untrained reference attention from ``seed``.

    Raises:
        UsageError: levels that the model does not have.
        WeightsError: a form that it cannot have.
    """
    count = len(model.unet.config.block_out_channels)
    if max(sizes.levels) >= count:
        raise UsageError(
            f"Recipe key 'model.levels' names {max(sizes.levels)}, and {model.name} has the levels 0 to {count - 1}.",
            "0 is the finest.",
        )
    torch.manual_seed(seed)
    return add_reference(model, _shape(sizes, count))


def trained_activator(model: Components, sizes: ReferenceRecipe) -> TunerActivator | None:
    """The skip tuner that a recipe names, loaded; :class:`WeightsError` if it is not there or another base's."""
    folders = [name.removeprefix(TUNER_PREFIX) for name in sizes.activators if name.startswith(TUNER_PREFIX)]
    return load_tuner(Path(folders[0]).expanduser(), model) if folders else None


def _kind(activator: str) -> str:
    """The name of an activator without its folder."""
    return activator.partition(":")[0]


def _shape(sizes: ReferenceRecipe, count: int) -> ReferenceShape:
    blocks = tuple(level in sizes.levels for level in reversed(range(count)))
    return ReferenceShape(ReferenceForm(sizes.form), blocks, sizes.window or None)
