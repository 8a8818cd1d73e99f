"""Conditional attention: the UNet's decoder looks at the ControlNet's residuals again, as keys and values.

# shapes: B batch, C channels, h w latent cells of this level, L text tokens, D text width, R H W features
"""

from __future__ import annotations

from typing import Any, NamedTuple

from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from xpsr_cli.models.reference_attention import ReferenceAttention, ReferenceTokens
from xpsr_cli.models.semantic_fusion import tokens


class ControlContext(NamedTuple):
    """What an up block's layers read, travelling where a stock block carries its ``encoder_hidden_states``."""

    high: Tensor  # (B, L, D) what is in the photo
    residuals: tuple[Tensor, ...]  # one (B, C_k, h, w) per layer, in the order the layers run
    reference: Tensor | None = None  # (B or 1, R, H, W) features of the reference, if there is one


class ConditionalAttention(nn.Module):
    """Text attention (where the block has one), then a transformer over the residual added to this layer's skip.

    The published keys call the second one ``pixel_attentions``. It is a complete transformer with its default start,
    so a fresh one perturbs a pretrained UNet until it is trained. Where the model has reference attention, it reads
    the reference behind both, or with the second one; without a reference it is as if it were not there.
    """

    def __init__(
        self,
        text: Transformer2DModel | None,
        conditional: Transformer2DModel | None,
        layer: int,
        reference: ReferenceAttention | ReferenceTokens | None = None,
    ) -> None:
        super().__init__()
        self.text = text
        self.conditional = conditional
        self.layer = layer  # place in the up block, so of the residual in ControlContext.residuals
        self.reference = reference

    def forward(self, hidden_states: Tensor, encoder_hidden_states: ControlContext, **_: Any) -> tuple[Tensor]:
        """(B, C, h, w) to the same shape, in a tuple as stock blocks expect; they also pass masks, always ``None``."""
        high, residuals, reference = encoder_hidden_states
        if self.text is not None:
            hidden_states = self.text(hidden_states, high, return_dict=False)[0]
        if self.conditional is not None:
            residual = residuals[self.layer]
            context = tokens(residual)
            if isinstance(self.reference, ReferenceTokens) and reference is not None:
                context = self.reference(context, reference, *residual.shape[-2:])
            hidden_states = self.conditional(hidden_states, context, return_dict=False)[0]
        if isinstance(self.reference, ReferenceAttention) and reference is not None:
            hidden_states = self.reference(hidden_states, reference)
        return (hidden_states,)
