"""A small CLIP in training: pictures and their words come to lie near each other (Radford et al. 2021)."""

# shapes: B batch, S side in pixels, L text tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig

from xpsr_cli.training.build import build_text_encoder
from xpsr_cli.training.networks import Networks
from xpsr_cli.training.recipe import ScorerRecipe


def build_scorer(sizes: ScorerRecipe, tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """A CLIP with random weights from ``seed``, for the words of ``tokenizer``."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=sizes.width,
        intermediate_size=4 * sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.attention_head_dim,
        image_size=sizes.picture_px,
        patch_size=sizes.patch_px,
        projection_dim=sizes.text_width,
    )
    text = build_text_encoder(sizes, tokenizer).config
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=sizes.text_width)
    )


class ScorerNetworks(Networks):
    """The one network; ``stage`` is what the cascade calls it."""

    part_names = ("scorer",)
    recomputed = ()

    def __init__(self, scorer: CLIPModel, stage: str) -> None:
        super().__init__()
        self.scorer = scorer.requires_grad_(True)
        self.stage = stage


class ScorerObjective(nn.Module):
    """The loss of a batch: each picture is to find its words among those of the batch, and each text its pictures."""

    def __init__(self, networks: ScorerNetworks) -> None:
        super().__init__()
        self.networks = networks

    def draw(self, samples: Sequence[int], height: int, width: int) -> dict[str, Tensor]:
        """Nothing is random about the loss."""
        return {}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``total`` and, without gradient, ``accuracy``: how often the likeliest text is the picture's own.

        Pictures of the batch with the very same words share them: each of these texts is as right (as in UniCL, Yang
        et al. 2022).

        Args:
            batch: ``target_pm1`` (B, 3, S, S) in [-1, 1] and ``high`` (B, L) token ids.
        """
        tokens = batch["high"]
        output = self.networks.scorer(input_ids=tokens, pixel_values=batch["target_pm1"])
        logits = output.logits_per_image.float()
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        wanted = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2
        right = same[torch.arange(len(same)), logits.detach().argmax(1)].mean()
        return {"total": loss, "accuracy": right}
