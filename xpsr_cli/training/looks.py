"""What becomes of held-out photos with an add-on or an activator in training, in short runs without guidance.

The base itself lies in memory already and is used where it is; of a step only its folder is read, so that what is
shown are the weights that people would have.
"""

# shapes: S crop side in pixels, c h w latent channels and cells, L text tokens, D text width

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xpsr_cli.device import memory_errors
from xpsr_cli.models.loading import Components
from xpsr_cli.models.reference_loading import load_reference
from xpsr_cli.models.skip_tuner import SkipTuner
from xpsr_cli.models.tuner_loading import load_tuner
from xpsr_cli.photos.photo import Pixels
from xpsr_cli.sampling.noise import FIRST, window_noise
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.training.activators import short_run
from xpsr_cli.training.batches import to_device
from xpsr_cli.training.degradation import to_u8
from xpsr_cli.training.held_out import HeldOut
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.recipe import ReferenceRecipe, TunerRecipe
from xpsr_cli.training.reference_networks import ReferenceNetworks, make_activators
from xpsr_cli.training.tuner_networks import TunerNetworks
from xpsr_cli.training.validation import OURS, Looks

Autocast = Callable[[], AbstractContextManager[None]]
"""Under which a run in lower precision computes; of one in full precision it does nothing."""
_MEMORY = ("held-out photos beside a training", "Set output.validate_steps=0.")


class ReferenceLook:
    """With the first activator's reference, one of another photo, the original as one, and without: see ``COMPARED``.

    An attention that has learnt something makes more of the photo's own reference than the base makes without, much
    more of the original, and is not led astray by another photo's. What the add-on has no part in is made once.

    Args:
        photos: what is looked at; of one photo alone there is no other's reference.
        model: the base with the reference attention in training, on its device.
        sizes: says who makes references.
        tuner: of an activator that is trained.
    """

    def __init__(
        self,
        photos: Sequence[HeldOut],
        model: Components,
        sizes: ReferenceRecipe,
        tuner: SkipTuner | None = None,
        autocast: Autocast = nullcontext,
    ) -> None:
        self._photos = photos
        self._model = model
        self._sizes = sizes
        self._tuner = tuner
        self._autocast = autocast
        self._references: list[Tensor] = []
        self._plain: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, folder: Path) -> Looks:
        """See :data:`~xpsr_cli.training.validation.Look`; :class:`WeightsError` for a folder that cannot be read."""
        model = self._model
        with memory_errors(*_MEMORY), self._autocast():
            networks = ReferenceNetworks(load_reference(model, folder))
            batches = [_batch(photo, networks, model) for photo in self._photos]
            if not self._references:
                first, *_ = make_activators(networks, model.scheduler_config, self._sizes, self._tuner)
                plain = [_run(networks, model, batch) for batch in batches]
                self._references, self._plain = [first(batch) for batch in batches], plain

            def read(references: Sequence[Tensor]) -> list[Pixels]:
                pairs = zip(batches, references, strict=True)
                return _pictures(_run(networks, model, batch, reference) for batch, reference in pairs)

            others = [*self._references[1:], *self._references[:1]]
            others = [_resized(other, own) for other, own in zip(others, self._references, strict=True)]
            originals = [
                _photo_01(photo.large).to(own) for photo, own in zip(self._photos, self._references, strict=True)
            ]
            return {
                "reference": _pictures(self._references),
                "plain": _pictures(self._plain),
                OURS: read(self._references),
                **({"wrong": read(others)} if len(others) > 1 else {}),
                "oracle": read(originals),
            }


class TunerLook:
    """What the UNet makes steered by the tuner, and what its own model makes.

    Args:
        photos: what is looked at.
        model: the base, on its device; ``networks`` holds it too.
        sizes: says how many steps the tuner's picture takes.
    """

    def __init__(
        self,
        photos: Sequence[HeldOut],
        model: Components,
        networks: TunerNetworks,
        sizes: TunerRecipe,
        autocast: Autocast = nullcontext,
    ) -> None:
        self._photos = photos
        self._model = model
        self._networks = networks
        self._steps = sizes.activator_steps
        self._autocast = autocast
        self._plain: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, folder: Path) -> Looks:
        """As :meth:`ReferenceLook.__call__`."""
        model, networks = self._model, self._networks
        with memory_errors(*_MEMORY), self._autocast():
            tuner = load_tuner(folder, model).tuner
            batches = [_batch(photo, networks, model) for photo in self._photos]
            self._plain = self._plain or [_run(networks, model, batch) for batch in batches]
            config, steps = model.scheduler_config, self._steps
            ours = [short_run(networks, config, steps, batch, tuner=tuner) for batch in batches]
            return {"plain": _pictures(self._plain), OURS: _pictures(ours)}


def _run(
    networks: TrainedNetworks, model: Components, batch: Mapping[str, Tensor], reference: Tensor | None = None
) -> Tensor:
    """In as many steps as the model likes to take."""
    return short_run(networks, model.scheduler_config, model.preset.steps, batch, reference=reference)


def _batch(photo: HeldOut, networks: TrainedNetworks, model: Components) -> dict[str, Tensor]:
    """A photo as :func:`short_run` takes it: with its words, quality asked for, and the noise of seed 0."""
    channels, height, width = networks.latent_shape(*photo.large.shape[:2])
    high = f"{photo.high} {model.preset.prompt_suffix}".strip()
    item: dict[str, Tensor | list[str]] = {
        "enlarged_pm1": _photo_01(photo.enlarged) * 2 - 1,
        "noise": window_noise(Window(0, 0, height, width), channels, seed=0, draw=FIRST),
        "high": [high],
        "low": [photo.low],
    }
    batch = to_device(item, model.tokenizer, model.unet.device)
    states = networks.text_encoder(torch.cat([batch["high"], batch["low"]])).last_hidden_state
    return {**batch, "prompts": torch.stack(states.chunk(2), dim=1)}


def _photo_01(pixels: np.ndarray) -> Tensor:
    """(S, S, 3) uint8 to (1, 3, S, S) in [0, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]


def _pictures(photos_01: Iterable[Tensor]) -> list[Pixels]:
    return [to_u8(photo[0].permute(1, 2, 0).float().cpu().numpy()) for photo in photos_01]


def _resized(photo_01: Tensor, like: Tensor) -> Tensor:
    if photo_01.shape == like.shape:
        return photo_01
    return F.interpolate(photo_01, like.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)
