"""Prompts to embeddings: encoded once per text, and never at the expense of the quality words at their end."""

# shapes: L tokens (77), D text width

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from xpsr_cli.device import Placement
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.settings import SamplingPreset

log = logging.getLogger(__name__)

KEPT_PROMPTS = 256


class PromptEncoder:
    """A CLIP tokenizer and text encoder with a memory, for as many photos as share them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text_encoder: CLIPTextModel, placement: Placement) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.placement = placement
        self.encode = lru_cache(KEPT_PROMPTS)(self._encode)

    def _encode(self, text: str, suffix: str = "") -> Tensor:
        """Embedding (1, L, D) float32, in memory, of ``text`` followed by ``suffix``.

        It is the last hidden state after the final normalisation; padding is attended to, as in training (spec A1).
        """
        ids = torch.tensor([self.token_ids(text, suffix)], device=self.placement.device)
        with torch.no_grad():
            return self.placement.fetch(self.text_encoder(ids).last_hidden_state)

    def token_ids(self, text: str, suffix: str = "") -> list[int]:
        """Token ids, padded to L. A text that is too long loses its end, never the suffix."""
        length = self.tokenizer.model_max_length
        words = self._ids(text)
        closing = self._ids(suffix)[: length - 2]
        room = length - 2 - len(closing)
        if len(words) > room:
            log.warning("The prompt is too long: %d of its %d tokens are dropped.", len(words) - room, len(words))
        ids = [self.tokenizer.bos_token_id, *words[:room], *closing, self.tokenizer.eos_token_id]
        return ids + [self.tokenizer.pad_token_id] * (length - len(ids))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text.strip(), add_special_tokens=False, verbose=False)["input_ids"])


def encode_prompts(
    encoder: PromptEncoder, prompt: str, low_prompt: str, preset: SamplingPreset
) -> tuple[PromptPair, PromptPair]:
    """The negative and the positive pair of embeddings for a photo's two prompts (spec C1)."""
    positive = PromptPair(encoder.encode(prompt, preset.prompt_suffix), encoder.encode(low_prompt))
    negative = PromptPair(encoder.encode(preset.negative_prompt), encoder.encode(preset.negative_low_prompt))
    return negative, positive
