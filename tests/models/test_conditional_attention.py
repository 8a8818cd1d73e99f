import pytest
import torch
from tiny_networks import TEXT_WIDTH
from torch import nn

from xpsr_cli.models.conditional_attention import ConditionalAttention, ControlContext
from xpsr_cli.models.semantic_fusion import tokens


@pytest.fixture
def unet(make_unet):
    return make_unet(conditional_attention=[True, True, False])


def attentions(unet, block: int) -> list[nn.Module]:
    return list(unet.up_blocks[block].attentions)


def test_it_reads_its_own_layers_residual_after_the_text(unet) -> None:
    attention = attentions(unet, 1)[1]
    width = attention.conditional.config.in_channels
    x, high = torch.randn(2, width, 3, 4), torch.randn(2, 5, TEXT_WIDTH)
    contexts = [layer.conditional.config.cross_attention_dim for layer in attentions(unet, 1)]
    residuals = tuple(torch.randn(2, channels, 3, 4) for channels in contexts)
    expected = attention.conditional(attention.text(x, high).sample, tokens(residuals[1])).sample
    torch.testing.assert_close(attention(x, ControlContext(high, residuals))[0], expected)


def test_a_block_without_text_attention_gets_none(unet) -> None:
    for layer in attentions(unet, 0):
        assert isinstance(layer, ConditionalAttention)
        assert layer.text is None
    assert all(layer.text is not None for layer in attentions(unet, 1))


def test_a_block_that_is_switched_off_is_a_stock_block(unet) -> None:
    assert not any(isinstance(layer, ConditionalAttention) for layer in attentions(unet, 2))


@pytest.mark.parametrize(
    ("layers", "widths"), [(1, [[16, 16], [16, 8], [8, 8]]), (2, [[16, 16, 16], [16, 16, 8], [8, 8, 8]])]
)
def test_each_layer_expects_the_width_of_the_skip_it_takes(make_unet, layers: int, widths: list[list[int]]) -> None:
    unet = make_unet(layers_per_block=layers, block_out_channels=(8, 16, 16))
    found = [[layer.conditional.config.cross_attention_dim for layer in attentions(unet, i)] for i in range(3)]
    assert found == widths
