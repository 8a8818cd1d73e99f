"""What we lean on in diffusers beyond its promises. If one of these fails, diffusers changed under our networks."""

import inspect

import diffusers
import pytest
import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from torch import nn

CHANGED = "diffusers {} changed {}: check xpsr_cli/models against it before widening the bound in pyproject.toml"
CROSS = {"cross_attention_dim": 6, "num_attention_heads": 2}
GROUPS = {"resnet_groups": 4, "temb_channels": 8}


def told(what: str) -> str:
    return CHANGED.format(diffusers.__version__, what)


class Spy(nn.Module):
    """Stands where a stock attention stood and remembers how it was called."""

    def forward(self, hidden_states, encoder_hidden_states, **options):
        self.seen = encoder_hidden_states, options
        return (hidden_states,)


def test_the_version_is_one_these_networks_were_checked_with() -> None:
    assert diffusers.__version__.startswith("0.42."), told("its version")


@pytest.mark.parametrize(
    "block",
    [
        CrossAttnDownBlock2D(in_channels=8, out_channels=8, num_layers=1, **GROUPS, **CROSS),
        UNetMidBlock2DCrossAttn(in_channels=8, **GROUPS, **CROSS),
        CrossAttnUpBlock2D(in_channels=8, out_channels=8, prev_output_channel=8, num_layers=1, **GROUPS, **CROSS),
    ],
    ids=lambda block: type(block).__name__,
)
def test_blocks_pass_the_context_untouched_to_what_stands_in_for_an_attention(block: nn.Module) -> None:
    assert all(isinstance(attention, Transformer2DModel) for attention in block.attentions), told("block.attentions")
    block.attentions[0] = spy = Spy()
    context, x, temb = object(), torch.randn(1, 8, 4, 4), torch.randn(1, 8)
    skips = ((x,),) if isinstance(block, CrossAttnUpBlock2D) else ()
    block(x, *skips, temb, encoder_hidden_states=context)
    seen, options = spy.seen
    assert seen is context, told("how blocks hand on encoder_hidden_states")
    assert options.pop("return_dict") is False, told("how blocks call their attentions")
    assert all(value is None for value in options.values()), told("what blocks pass to their attentions")


def test_blocks_without_attention_ignore_a_context() -> None:
    x, temb = torch.randn(1, 8, 4, 4), torch.randn(1, 8)
    down = DownBlock2D(in_channels=8, out_channels=8, num_layers=1, **GROUPS)
    up = UpBlock2D(in_channels=8, out_channels=8, prev_output_channel=8, num_layers=1, **GROUPS)
    sample, outputs = down(x, temb, encoder_hidden_states=object())
    assert [output.shape[-1] for output in outputs] == [4, 2], told("the outputs of DownBlock2D")
    assert torch.equal(sample, outputs[-1])
    enlarged = up(x, (x,), temb, encoder_hidden_states=object(), upsample_size=(7, 9))
    assert enlarged.shape[-2:] == (7, 9), told("upsample_size of UpBlock2D")


def test_up_blocks_take_their_skips_from_the_end() -> None:
    block = UpBlock2D(in_channels=4, out_channels=8, prev_output_channel=8, num_layers=2, **GROUPS)
    widths = [resnet.in_channels for resnet in block.resnets]
    assert widths == [8 + 8, 8 + 4], told("the channels of UpBlock2D")  # so the last layer takes the first skip
    block(torch.randn(1, 8, 4, 4), (torch.randn(1, 4, 4, 4), torch.randn(1, 8, 4, 4)), torch.randn(1, 8))


def test_a_transformer_is_built_from_the_arguments_we_name() -> None:
    names = set(inspect.signature(Transformer2DModel.__init__).parameters)
    used = {"num_attention_heads", "attention_head_dim", "in_channels", "num_layers", "cross_attention_dim"}
    used |= {"norm_num_groups", "use_linear_projection", "upcast_attention"}
    assert used <= names, told(f"Transformer2DModel: no {sorted(used - names)}")
    network = Transformer2DModel(2, 4, in_channels=8, cross_attention_dim=6, norm_num_groups=4)
    assert network.norm.eps == 1e-6, told("the norm of Transformer2DModel")
    assert network.transformer_blocks[0].attn2.to_k.weight.shape == (8, 6), told("the keys of Transformer2DModel")
    assert len(network.state_dict()) == 26, told("the weights of Transformer2DModel")
