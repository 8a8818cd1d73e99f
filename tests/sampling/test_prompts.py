"""Prompts are encoded once, and nothing of a long one is lost unless the released way is asked for."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from xpsr_cli.device import choose_placement
from xpsr_cli.models.loading import load_components
from xpsr_cli.models.semantic_fusion import PromptPair
from xpsr_cli.sampling.prompts import NearestPrompts, PromptEncoder, encode_prompts
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import LongPrompts, Precision, SamplingPreset

SUFFIX = SamplingPreset.prompt_suffix
PLACEMENT = choose_placement("cpu", Precision.FP32)


@pytest.fixture(scope="module")
def components(tiny_model):
    return load_components(tiny_model)


@pytest.fixture
def encoder(components):
    return PromptEncoder(components.tokenizer, components.text_encoder, PLACEMENT)


def framed(encoder, ids):
    """One piece as the text encoder takes it."""
    ids = [encoder.tokenizer.bos_token_id, *ids, encoder.tokenizer.eos_token_id]
    return ids + [encoder.tokenizer.pad_token_id] * (77 - len(ids))


def unframed(encoder, piece):
    """The ids of a piece without its begin, end and padding."""
    return piece[1 : piece.index(encoder.tokenizer.eos_token_id)]


def ids_of(encoder, text):
    return list(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("text", ["", "a photo of a house", "A House, 2 doors.", " it's here\n"])
@pytest.mark.parametrize("suffix", ["", SUFFIX])
@pytest.mark.parametrize("long_prompts", LongPrompts)
def test_tokens_are_those_of_the_joined_text(encoder, text, suffix, long_prompts):
    wanted = encoder.tokenizer(f"{text.strip()} {suffix}".strip(), padding="max_length", max_length=77)["input_ids"]
    assert encoder.token_ids(text, suffix, long_prompts) == [list(wanted)]


@pytest.mark.parametrize("count", [10, 60, 74, 75, 76, 150, 151, 400])
def test_nothing_of_a_long_prompt_is_lost(encoder, count):
    text = " ".join(["a", "photo", "of", "a", "house"] * count)[: 2 * count]
    pieces = encoder.token_ids(text, SUFFIX)
    assert all(len(piece) == 77 for piece in pieces)
    joined = [token for piece in pieces for token in unframed(encoder, piece)]
    assert joined == ids_of(encoder, text) + ids_of(encoder, SUFFIX)
    suffix = ids_of(encoder, SUFFIX)
    assert unframed(encoder, pieces[-1])[-len(suffix) :] == suffix  # whole, in one piece


def test_pieces_end_where_a_clause_does_or_else_a_word(encoder):
    clause = "a photo of a house, "
    length = len(ids_of(encoder, clause))
    pieces = encoder.token_ids(clause * (3 * 75 // length))
    for piece in pieces[:-1]:
        assert unframed(encoder, piece)[-1] == ids_of(encoder, ",")[0]
        assert len(unframed(encoder, piece)) > 75 - length
    word = "houses"
    pieces = encoder.token_ids(f"{word} " * 100)
    assert len(ids_of(encoder, word)) > 1
    for piece in pieces:
        assert len(unframed(encoder, piece)) % len(ids_of(encoder, word)) == 0


def test_one_endless_word_is_cut_where_it_must_be(encoder):
    pieces = encoder.token_ids("z" * 400)
    assert [token for piece in pieces for token in unframed(encoder, piece)] == ids_of(encoder, "z" * 400)


def test_truncation_is_the_released_one_and_says_so(encoder, caplog):
    text = "house " * 100
    wanted = encoder.tokenizer(f"{text.strip()} {SUFFIX}", max_length=77, truncation=True)["input_ids"]
    with caplog.at_level(logging.WARNING):
        assert encoder.token_ids(text, SUFFIX, LongPrompts.TRUNCATE) == [list(wanted)]
    lost = len(ids_of(encoder, text)) + len(ids_of(encoder, SUFFIX)) - 75
    assert f"{lost} of its" in caplog.text
    assert f"{len(ids_of(encoder, SUFFIX))} of them of the quality words" in caplog.text


def test_the_quality_words_of_a_long_prompt_reach_the_networks(encoder):
    text = "house " * 100
    with_words, without = (encoder.encode(text, suffix) for suffix in (SUFFIX, ""))
    assert with_words.shape[1] >= without.shape[1]
    assert not torch.equal(with_words[:, -77:], without[:, -77:])
    cut = [encoder.encode(text, suffix, LongPrompts.TRUNCATE) for suffix in (SUFFIX, "")]
    assert torch.equal(*cut)  # the released script never hears them


def test_rows_of_different_lengths_get_empty_pieces(encoder):
    preset = replace(SamplingPreset(), long_prompts=LongPrompts.CHUNK)
    negative, positive = encode_prompts(encoder, "house " * 200, "blurred", preset)
    assert negative.high.shape == positive.high.shape
    assert torch.equal(negative.high[:, :77], encoder.encode(preset.negative_prompt))
    assert torch.equal(negative.high[:, -77:], encoder.encode(""))
    assert negative.low.shape == positive.low.shape == (1, 77, negative.low.shape[2])


def test_windows_take_the_prompts_of_the_nearest_region():
    rows = [PromptPair(torch.full((1, 1, 1), float(n)), None) for n in range(4)]
    nearest = NearestPrompts(rows, [(10, 10), (10, 40), (40, 10), (40, 40)])
    for y in range(0, 40, 8):
        for x in range(0, 40, 8):
            wanted = 2 * (y + 4 > 25) + (x + 4 > 25)
            assert nearest(Window(y, x, 8, 8)) is rows[wanted]


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
    ids = torch.tensor(encoder.token_ids("a photo of a house", SUFFIX))
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
