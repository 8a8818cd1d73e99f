"""Prompts to embeddings: encoded once per text, and never at the expense of the quality words at their end."""

# shapes: L tokens of a piece (77), N pieces, D text width, R guidance rows

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from xpsr_cli.device import Placement
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import LongPrompts, SamplingPreset

log = logging.getLogger(__name__)

KEPT_PROMPTS = 256
_CLAUSE_ENDS = (",</w>", ".</w>", ";</w>", ":</w>", "!</w>", "?</w>")
_WORD_END = "</w>"


class PromptEncoder:
    """A CLIP tokenizer and text encoder with a memory, for as many photos as share them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text_encoder: CLIPTextModel, placement: Placement) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.placement = placement
        self.encode = lru_cache(KEPT_PROMPTS)(self._encode)

    def _encode(self, text: str, suffix: str = "", long_prompts: LongPrompts = LongPrompts.CHUNK) -> Tensor:
        """Embedding (1, N * L, D) float32, in memory, of ``text`` followed by ``suffix``.

        It is the last hidden state after the final normalisation; padding is attended to, as in training (spec A1).
        Each piece of a long text is encoded on its own, and attention then sees all of them side by side.
        """
        pieces = self.token_ids(text, suffix, long_prompts)
        with torch.no_grad():
            states = [
                self.text_encoder(torch.tensor([ids], device=self.placement.device)).last_hidden_state
                for ids in pieces
            ]
        return self.placement.fetch(torch.cat(states, dim=1))

    def token_ids(self, text: str, suffix: str = "", long_prompts: LongPrompts = LongPrompts.CHUNK) -> list[list[int]]:
        """Token ids of the pieces, each begun, ended and padded to L; one piece where everything fits.

        ``CHUNK`` begins a new piece after a clause, or else a word, and keeps the suffix in one piece. ``TRUNCATE``
        cuts the end off, the suffix first, as the released script does (spec C1), and says so in the log.
        """
        room = self.tokenizer.model_max_length - 2
        words, closing = self._ids(text), self._ids(suffix)
        if long_prompts is LongPrompts.TRUNCATE:
            pieces = [(words + closing)[:room]]
            self._warn_of_loss(len(words), len(closing), room)
        else:
            pieces = self._split(words, room)
            if len(pieces[-1]) + len(closing) <= room:
                pieces[-1] = pieces[-1] + closing
            else:
                pieces += self._split(closing, room)
        return [self._framed(piece) for piece in pieces]

    def _split(self, ids: list[int], room: int) -> list[list[int]]:
        """``ids`` in pieces of at most ``room``, at least one; a clause in the second half of a piece ends it best."""
        pieces = []
        while len(ids) > room:
            tokens = self.tokenizer.convert_ids_to_tokens(ids[:room])
            ends = [place for place, token in enumerate(tokens, 1) if token in _CLAUSE_ENDS and place > room // 2]
            ends = ends or [place for place, token in enumerate(tokens, 1) if token.endswith(_WORD_END)]
            cut = ends[-1] if ends else room
            pieces.append(ids[:cut])
            ids = ids[cut:]
        return [*pieces, ids]

    def _framed(self, ids: list[int]) -> list[int]:
        framed = [self.tokenizer.bos_token_id, *ids, self.tokenizer.eos_token_id]
        return framed + [self.tokenizer.pad_token_id] * (self.tokenizer.model_max_length - len(framed))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text.strip(), add_special_tokens=False, verbose=False)["input_ids"])

    def _warn_of_loss(self, words: int, closing: int, room: int) -> None:
        lost = words + closing - room
        if lost > 0:
            quality = f", {min(lost, closing)} of them of the quality words at its end" if closing else ""
            log.warning("The prompt is too long: %d of its %d tokens are cut off%s.", lost, words + closing, quality)


def encode_prompts(
    encoder: PromptEncoder, prompt: str, low_prompt: str, preset: SamplingPreset
) -> tuple[PromptPair, PromptPair]:
    """The negative and the positive pair of embeddings for a photo's two prompts (spec C1).

    Where one of two texts has fewer pieces than the other it gets empty ones, so that both fit into one batch.
    """
    long_prompts = preset.long_prompts
    high = _alike(
        encoder,
        encoder.encode(preset.negative_prompt, "", long_prompts),
        encoder.encode(prompt, preset.prompt_suffix, long_prompts),
    )
    low = _alike(
        encoder,
        encoder.encode(preset.negative_low_prompt, "", long_prompts),
        encoder.encode(low_prompt, "", long_prompts),
    )
    negative, positive = map(PromptPair, high, low)
    return negative, positive


def guidance_rows(scale: float, negative: PromptPair, positive: PromptPair) -> PromptPair:
    """The rows of prompts that guidance of ``scale`` needs, (R, N * L, D) each.

    Only scale 1 is without the negative row. Below 1, where the released script silently ignores the scale, the
    formula is followed: 0 is the negative prompt alone.
    """
    if scale == 1.0:
        return positive
    low = None if negative.low is None or positive.low is None else torch.cat([negative.low, positive.low])
    return PromptPair(torch.cat([negative.high, positive.high]), low)


class NearestPrompts:
    """Prompts by place: each window takes those of the region whose centre is nearest to its own.

    Args:
        rows: text embeddings of each region.
        centres: (y, x) of each region, in latent cells of the canvas.
    """

    def __init__(self, rows: Sequence[PromptPair], centres: Sequence[tuple[float, float]]) -> None:
        self.rows = rows
        self.centres = centres

    def __call__(self, window: Window) -> PromptPair:
        centre = window.y + window.h / 2, window.x + window.w / 2
        nearest = min(range(len(self.centres)), key=lambda region: math.dist(self.centres[region], centre))
        return self.rows[nearest]


def _alike(encoder: PromptEncoder, *embeddings: Tensor) -> Sequence[Tensor]:
    """The embeddings (1, N * L, D) at the largest of their lengths."""
    longest = max(embedding.shape[1] for embedding in embeddings)
    if all(embedding.shape[1] == longest for embedding in embeddings):
        return embeddings
    empty = encoder.encode("")
    return [
        torch.cat([embedding] + [empty] * ((longest - embedding.shape[1]) // empty.shape[1]), dim=1)
        for embedding in embeddings
    ]
