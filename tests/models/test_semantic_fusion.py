import pytest
import torch
from diffusers import Transformer2DModel

from xpsr_cli.models.semantic_fusion import Fusion, PromptPair, SemanticFusionAttention, tokens

WIDTH, TEXT = 8, 12


def branch(context: int = TEXT) -> Transformer2DModel:
    return Transformer2DModel(2, WIDTH // 2, in_channels=WIDTH, cross_attention_dim=context, norm_num_groups=4)


@pytest.fixture
def call() -> tuple[torch.Tensor, PromptPair]:
    return torch.randn(2, WIDTH, 3, 5), PromptPair(torch.randn(2, 4, TEXT), torch.randn(2, 6, TEXT))


def test_tokens_run_row_by_row() -> None:
    features = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert tokens(features).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert tokens(torch.zeros(2, 7, 2, 3)).shape == (2, 6, 7)


@pytest.mark.parametrize("kind", list(Fusion))
def test_each_kind_joins_the_branches_its_own_way(kind: Fusion, call: tuple[torch.Tensor, PromptPair]) -> None:
    x, texts = call
    high, low, join = branch(), branch(), branch(WIDTH)
    result = SemanticFusionAttention(high, low, join, kind)(x, texts)[0]
    read_high = high(x, texts.high).sample
    expected = {
        Fusion.PARALLEL: lambda: join(read_high, tokens(low(x, texts.low).sample)).sample,
        Fusion.SERIAL: lambda: low(read_high, texts.low).sample,
        Fusion.HIGH: lambda: read_high,
        Fusion.LOW: lambda: low(x, texts.low).sample,
    }
    answers = {name: compute() for name, compute in expected.items()}
    torch.testing.assert_close(result, answers[kind])
    for other in set(Fusion) - {kind}:
        assert (result - answers[other]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [Fusion.PARALLEL, Fusion.SERIAL, Fusion.HIGH])
def test_without_a_low_text_only_the_high_branch_remains(kind: Fusion, call: tuple[torch.Tensor, PromptPair]) -> None:
    x, texts = call
    high = branch()
    result = SemanticFusionAttention(high, branch(), branch(WIDTH), kind)(x, PromptPair(texts.high, None))[0]
    torch.testing.assert_close(result, high(x, texts.high).sample)


def test_low_only_needs_a_low_text(call: tuple[torch.Tensor, PromptPair]) -> None:
    x, texts = call
    with pytest.raises(ValueError, match="low-level text"):
        SemanticFusionAttention(None, branch(), None, Fusion.LOW)(x, PromptPair(texts.high, None))


def test_a_fresh_one_copies_the_text_attention_but_for_the_image_keys_and_values() -> None:
    fusion, stock = SemanticFusionAttention(branch(), branch(), branch(WIDTH), Fusion.PARALLEL), branch()
    before = {key: value.clone() for key, value in fusion.fusion.state_dict().items()}
    fusion.copy_from(stock)
    for key, value in stock.state_dict().items():
        assert torch.equal(fusion.high.state_dict()[key], value)
        assert torch.equal(fusion.low.state_dict()[key], value)
        fresh = "attn2.to_k" in key or "attn2.to_v" in key
        assert torch.equal(fusion.fusion.state_dict()[key], before[key] if fresh else value), key
