"""Prompts are encoded once, and what is cut off a long one is never the quality words."""

from __future__ import annotations

import logging

import pytest
import torch

from xpsr_cli.device import choose_placement
from xpsr_cli.models.loading import load_components
from xpsr_cli.sampling.prompts import PromptEncoder, encode_prompts
from xpsr_cli.settings import Precision, SamplingPreset

SUFFIX = SamplingPreset.prompt_suffix
PLACEMENT = choose_placement("cpu", Precision.FP32)


@pytest.fixture(scope="module")
def components(tiny_model):
    return load_components(tiny_model)


@pytest.fixture
def encoder(components):
    return PromptEncoder(components.tokenizer, components.text_encoder, PLACEMENT)


@pytest.mark.parametrize("text", ["", "a photo of a house", "A House, 2 doors.", " it's here\n"])
@pytest.mark.parametrize("suffix", ["", SUFFIX])
def test_tokens_are_those_of_the_joined_text(encoder, text, suffix):
    wanted = encoder.tokenizer(f"{text.strip()} {suffix}".strip(), padding="max_length", max_length=77)["input_ids"]
    assert encoder.token_ids(text, suffix) == list(wanted)


def test_a_long_prompt_loses_its_end_and_says_so(encoder, caplog):
    closing = encoder.token_ids("", SUFFIX)
    closing = closing[1 : closing.index(encoder.tokenizer.eos_token_id)]
    with caplog.at_level(logging.WARNING):
        ids = encoder.token_ids("house " * 100, SUFFIX)
    assert len(ids) == 77
    assert ids[-len(closing) - 1 : -1] == closing
    assert ids[-1] == encoder.tokenizer.eos_token_id
    assert ids[: 76 - len(closing)] == encoder.token_ids("house " * 100)[: 76 - len(closing)]
    assert "too long" in caplog.text


def test_a_suffix_longer_than_everything_is_cut(encoder):
    ids = encoder.token_ids("a house", "photo " * 100)
    assert len(ids) == 77
    assert ids[-1] == encoder.tokenizer.eos_token_id


def test_every_text_is_encoded_once(encoder, components):
    calls = []
    handle = components.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    preset = SamplingPreset()
    first = encode_prompts(encoder, "a photo of a house", "blurred", preset)
    second = encode_prompts(encoder, "a photo of a house", "noisy", preset)
    handle.remove()
    assert len(calls) == 5  # the house, two negatives, two low prompts
    assert second[0].high is first[0].high
    assert second[1].high is first[1].high
    assert not torch.equal(second[1].low, first[1].low)


def test_embeddings_are_the_last_hidden_state(encoder, components):
    ids = torch.tensor([encoder.token_ids("a photo of a house", SUFFIX)])
    with torch.no_grad():
        wanted = components.text_encoder(ids).last_hidden_state
    embedding = encoder.encode("a photo of a house", SUFFIX)
    assert embedding.shape == (1, 77, components.text_encoder.config.hidden_size)
    torch.testing.assert_close(embedding, wanted)


def test_pairs_are_negative_then_positive(encoder):
    preset = SamplingPreset()
    negative, positive = encode_prompts(encoder, "a house", "blurred", preset)
    assert torch.equal(positive.high, encoder.encode("a house", preset.prompt_suffix))
    assert torch.equal(positive.low, encoder.encode("blurred"))
    assert torch.equal(negative.high, encoder.encode(preset.negative_prompt))
    assert torch.equal(negative.low, encoder.encode(preset.negative_low_prompt))
