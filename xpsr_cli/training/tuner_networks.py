"""The controllable skip tuner in training: the UNet without a ControlNet, frozen, and a picture that steers it."""

# shapes: B batch, S crop side in pixels

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xpsr_cli.errors import UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.models.tuner_loading import save_tuner, tuner_for
from xpsr_cli.training.export import copied
from xpsr_cli.training.networks import PARTS, TrainedNetworks
from xpsr_cli.training.objective import DiffusionObjective
from xpsr_cli.training.recipe import Recipe, TunerRecipe


class TunerNetworks(TrainedNetworks):
    """The networks of a model with a skip tuner, which alone is trained."""

    part_names = (*PARTS, "tuner")

    def __init__(self, model: Components, tuner: SkipTuner) -> None:
        super().__init__(model.text_encoder, model.vae, model.unet, model.controlnet)
        self.requires_grad_(False)
        self.tuner = tuner.requires_grad_(True)


class TunerObjective(DiffusionObjective):
    """The loss of a UNet that a tuner steers; the low-level text has nobody to read it."""

    def control(self, *call: Any) -> Any:
        """The tuner, with the hints of the photo; see :meth:`DiffusionObjective.control`."""
        assert isinstance(self.networks, TunerNetworks)
        image: Tensor = call[4]
        return self.networks.tuner.steering(image)


class TunerExport:
    """Writes the activator as it is now, in half precision."""

    def __init__(self, recipe: Recipe, sizes: TunerRecipe, model: Components, networks: TunerNetworks) -> None:
        self._networks = networks
        self._card: Mapping[str, Any] = {
            "name": recipe.name,
            "base": model.name,
            "base_weights": model.fingerprint if model.weights_files else None,
            "steps": sizes.activator_steps,
        }

    def __call__(self, folder: Path) -> None:
        """Write ``folder`` as the networks now are."""
        tuner = copied(self._networks.tuner, torch.float16)
        assert isinstance(tuner, SkipTuner)
        save_tuner(folder, tuner, **self._card)


def starting_tuner(model: Components, sizes: TunerRecipe, seed: int) -> SkipTuner:
    """The tuner at step 0, its weights from ``seed``.

    With a small model it begins open: what sees the photo is a copy of the ControlNet's where the sizes agree, and
    the hints carry it from the first step on. Twelve convolutions in a row that start at zero take long to open.

    Raises:
        UsageError: it would see the photo in other cells than the model.
    """
    halvings, wanted = len(sizes.hint_channels) - 1, len(model.controlnet.pyramid.blocks) // 2
    if halvings != wanted:
        raise UsageError(
            f"Recipe key 'model.hint_channels' has {halvings + 1} entries, and {model.name} halves photos {wanted}"
            " times.",
            f"Give {wanted + 1} entries.",
        )
    torch.manual_seed(seed)
    tuner = tuner_for(model, sizes.hint_channels)
    if sizes.open:
        _open(tuner, model)
    return tuner


def _open(tuner: SkipTuner, model: Components) -> None:
    pyramid = model.controlnet.pyramid
    for ours, theirs in zip((tuner.conv_in, *tuner.blocks), (pyramid.conv_in, *pyramid.blocks), strict=True):
        if ours.weight.shape == theirs.weight.shape:
            ours.load_state_dict(theirs.state_dict())
    for conv in tuner.cascade:
        assert isinstance(conv, nn.Conv2d)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
