"""What UNet and ControlNet share: the time embedding, and the text that may be added to it."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_networks import TINY_UNET

from xpsr_cli.models.loading import load_controlnet, load_unet, save_controlnet, save_unet
from xpsr_cli.models.unet import XpsrUNet

POOLED = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2}


@torch.no_grad()
def test_pooled_text_is_stock_diffusers() -> None:
    torch.manual_seed(0)
    stock = UNet2DConditionModel(**TINY_UNET, **POOLED).eval()
    unet = XpsrUNet(**TINY_UNET, **POOLED).eval()
    for name in ("time_embedding", "add_embedding"):
        getattr(unet, name).load_state_dict(getattr(stock, name).state_dict())
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, TINY_UNET["cross_attention_dim"])
    emb = stock.time_embedding(stock.get_time_embed(latents, 7)) + stock.get_aug_embed(None, text, {})
    torch.testing.assert_close(unet.embed_time(7, latents, text), emb)


@torch.no_grad()
def test_without_it_text_does_not_reach_the_time_embedding(make_unet) -> None:
    unet, latents = make_unet(), torch.randn(1, 4, 8, 8)
    one, other = torch.randn(2, 1, 5, TINY_UNET["cross_attention_dim"])
    assert torch.equal(unet.embed_time(7, latents, one), unet.embed_time(7, latents, other))


@torch.no_grad()
def test_the_controlnet_hears_the_low_text_and_without_one_the_high(make_controlnet, inputs) -> None:
    controlnet, call = make_controlnet(**POOLED), inputs()
    low = call.pop("low")
    heard = []
    controlnet.add_embedding.register_forward_pre_hook(lambda module, arguments: heard.append(arguments[0]))
    controlnet(**call, low=low)
    controlnet(**call, low=None)
    assert torch.equal(heard[0], low)
    assert torch.equal(heard[1], call["high"])


@pytest.mark.parametrize("network", ["unet", "controlnet"])
def test_it_survives_saving(network: str, make_unet, make_controlnet, tmp_path) -> None:
    make, save, load = {
        "unet": (make_unet, save_unet, load_unet),
        "controlnet": (make_controlnet, save_controlnet, load_controlnet),
    }[network]
    model = make(**POOLED)
    save(model, tmp_path)
    again = load(tmp_path)
    assert again.config.addition_embed_type == "text"
    assert torch.equal(again.add_embedding.proj.weight, model.add_embedding.proj.weight)
