"""What a model learns to read beside the photo: mostly what an activator makes of it, now and then something else.

With references of one kind only, a model would copy the faults of that one activator (CasSR-style augmentation).
"""

# shapes: B batch, S crop side in pixels

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from xpsr_cli.training.dataset import LeftOut, TrainingPairs, TrainingPhoto
from xpsr_cli.training.degradation import Degrader
from xpsr_cli.training.recipe import ReferenceRecipe
from xpsr_cli.training.recipe_limits import REFERENCES

NOTHING, OTHER, DEGRADED, PLAIN, SECOND, FIRST = range(len(REFERENCES))
"""The kinds by the numbers that batches carry, in the order of :data:`~xpsr_cli.training.recipe_limits.REFERENCES`."""
_APART = 7  # the stream of random numbers that is the references'
_HALVED = 2  # how much smaller a large photo becomes that is degraded lightly

Activate = Callable[[Mapping[str, Tensor]], Tensor]
"""Makes (B, 3, S, S) in [0, 1] of a batch; see :mod:`xpsr_cli.training.activators`."""


class ReferencePairs(Dataset):
    """Training pairs with the kind of their reference, a pure function of (recipe, photos, index) as they are.

    To an item of :class:`TrainingPairs` come ``reference_kind`` () and ``degraded_pm1`` (3, S, S): the large photo,
    lightly degraded and enlarged again where that is the kind, else the enlarged small one.
    """

    def __init__(self, pairs: TrainingPairs, recipe: ReferenceRecipe) -> None:
        self.pairs = pairs
        self._shares = [recipe.references.get(name, 0.0) for name in REFERENCES]
        self._light = Degrader({"light": 1.0}, _HALVED)

    @property
    def photos(self) -> Sequence[TrainingPhoto]:
        """Those that are trained on."""
        return self.pairs.photos

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        item = self.pairs[index]
        rng = np.random.default_rng([self.pairs.recipe.seed, index, _APART])
        kind = int(rng.choice(len(self._shares), p=self._shares))
        degraded = item["enlarged_pm1"]
        if kind == DEGRADED:
            target = item["target_pm1"]
            assert isinstance(target, Tensor)
            draw = self._light.draw([int(rng.integers(2**63))])
            small = self._light((target[None] + 1) / 2, [draw]).small_01
            degraded = _enlarged(small, target.shape[-1])[0] * 2 - 1
        return {**item, "reference_kind": torch.tensor(kind), "degraded_pm1": degraded}

    def unreadable(self) -> list[LeftOut]:
        """See :meth:`TrainingPairs.unreadable`."""
        return self.pairs.unreadable()


def make_references(batch: Mapping[str, Tensor], activators: Sequence[Activate]) -> Tensor:
    """The references (B, 3, S, S) in [0, 1] of a batch of :class:`ReferencePairs`, on its device.

    ``activators`` are the first and, where that kind occurs, the second one. An activator sees only the samples that
    are to have what it makes. ``OTHER`` is the reference of the next sample of the batch: of another picture, so
    that what does not fit the photo is not believed. Of ``NOTHING`` the pixels do not matter.
    """
    kinds = batch["reference_kind"]
    made = (batch["degraded_pm1"] + 1) / 2
    made_by = torch.where(kinds == OTHER, torch.full_like(kinds, FIRST), kinds)
    for kind, activate in zip((FIRST, SECOND)[: len(activators)], activators, strict=True):
        rows = (made_by == kind).nonzero().flatten()
        if len(rows):
            chosen = {name: value[rows] for name, value in batch.items()}
            made[rows] = activate(chosen).to(made.dtype)
    others = kinds == OTHER
    return torch.where(others[:, None, None, None], made.roll(-1, dims=0), made).clamp(0, 1)


def _enlarged(small_01: Tensor, side: int) -> Tensor:
    return F.interpolate(small_01, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
