"""Semantic-Fusion Attention (SFA): one feature map read in the light of two texts.

# shapes: B batch, C channels, h w latent cells of this level, N = h*w, L text tokens, D text width, R H W features
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F


class Fusion(str, Enum):
    """How the high-level and the low-level branch are joined; ``parallel`` is the published one."""

    PARALLEL = "parallel"  # both read the features; a third transformer fuses them
    SERIAL = "serial"  # the low-level branch reads what the high-level branch wrote
    HIGH = "high"  # only what is in the photo
    LOW = "low"  # only how the photo is degraded


class PromptPair(NamedTuple):
    """The two texts of a call, travelling where a stock block carries its single ``encoder_hidden_states``."""

    high: Tensor  # (B, L, D) what is in the photo
    low: Tensor | None  # (B, L, D) how it is degraded


class FusionContext(NamedTuple):
    """The two texts, and the features of a reference for a fusion that has a third branch."""

    high: Tensor
    low: Tensor | None
    reference: Tensor  # (B or 1, R, H, W)


def pooled(features: Tensor, height: int, width: int) -> Tensor:
    """Features (B, R, H, W) at the size of a level by averaging, (B, R, height, width)."""
    return (
        features if features.shape[-2:] == (height, width) else F.interpolate(features, (height, width), mode="area")
    )


def tokens(features: Tensor) -> Tensor:
    """Feature map (B, C, h, w) as attention context (B, h*w, C), row by row."""
    return features.flatten(2).transpose(1, 2)


class SemanticFusionAttention(nn.Module):
    """Three complete transformers that stand where a stock block has one.

    ``high`` and ``low`` each read the same features with their own text; ``fusion`` takes its queries from the high
    branch and its keys and values from the plain tokens of the low branch. The input survives only inside ``high``.
    Without a low text the result is the high branch, which is an ordinary ControlNet. Nothing here starts at zero.

    With a fourth transformer, ``reference``, the fusion's keys and values are followed by the tokens of that branch,
    which reads the features of a reference (CasSR's idea); without a reference it is not called.
    """

    def __init__(
        self,
        high: Transformer2DModel | None,
        low: Transformer2DModel | None,
        fusion: Transformer2DModel | None,
        kind: Fusion,
        reference: Transformer2DModel | None = None,
    ) -> None:
        """``kind`` decides which branches are called; the others may be ``None``."""
        super().__init__()
        self.high: Transformer2DModel = high
        self.low: Transformer2DModel = low
        self.fusion: Transformer2DModel = fusion
        self.kind = kind
        self.reference = reference

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: PromptPair | FusionContext, **_: Any
    ) -> tuple[Tensor]:
        """(B, C, h, w) to the same shape, in a tuple as stock blocks expect; they also pass masks, always ``None``."""
        high_text, low_text = encoder_hidden_states[:2]
        if self.kind is Fusion.LOW:
            if low_text is None:
                raise ValueError("fusion 'low' has nothing to read without a low-level text.")
            return self.low(hidden_states, low_text, return_dict=False)

        high = self.high(hidden_states, high_text, return_dict=False)[0]
        if self.kind is Fusion.HIGH or low_text is None:
            return (high,)
        if self.kind is Fusion.SERIAL:
            return self.low(high, low_text, return_dict=False)
        low = self.low(hidden_states, low_text, return_dict=False)[0]
        context = tokens(low)
        if self.reference is not None and isinstance(encoder_hidden_states, FusionContext):
            seen = tokens(pooled(encoder_hidden_states.reference, *hidden_states.shape[-2:]))
            plain = hidden_states.contiguous()  # in another layout torch crashes where this branch alone is trained
            read = self.reference(plain, seen.expand(hidden_states.shape[0], -1, -1), return_dict=False)[0]
            context = torch.cat([context, tokens(read)], dim=1)
        return self.fusion(high, context, return_dict=False)

    def copy_from(self, stock: Transformer2DModel) -> None:
        """Start every branch as a copy of a UNet's text attention (the fusion's image keys and values stay fresh)."""
        weights = stock.state_dict()
        for branch in (self.high, self.low):
            if branch is not None:
                branch.load_state_dict(weights)
        if self.fusion is not None:
            own = self.fusion.state_dict()
            fresh = {key: own[key] for key in own if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}
            self.fusion.load_state_dict({**weights, **fresh})
