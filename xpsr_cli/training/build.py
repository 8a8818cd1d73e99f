"""Fresh components of a small XPSR model, as a recipe describes it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.training.recipe import MiniModelRecipe

MAX_TOKENS = 77
SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,  # the last timestep is pure noise, so one step from it is a plain estimate
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
}


def build_tokenizer(texts: Iterable[str], vocabulary: int = 2048) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-pair merges with ``</w>``) trained on the prompts the model will know."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    alphabet = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # every letter twice on its own, so that "x</w>" is a token and no word can be unknown
    tokenizer.train_from_iterator([*texts, *alphabet, *alphabet], trainer)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.model.save(folder)
        vocab = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
        lines = (Path(folder) / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def build_networks(
    recipe: MiniModelRecipe, tokenizer: CLIPTokenizer, seed: int
) -> tuple[CLIPTextModel, ResidualAutoencoder, XpsrUNet, XpsrControlNet]:
    """Text encoder, autoencoder, UNet and ControlNet with random weights from ``seed``."""
    torch.manual_seed(seed)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=recipe.attention_head_dim,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    autoencoder = ResidualAutoencoder(
        latent_channels=recipe.latent_channels,
        block_size=recipe.block_size,
        refiner_channels=recipe.refiner_channels,
        refiner_blocks=recipe.refiner_blocks,
    )
    levels = len(recipe.block_out_channels)
    deepest = levels - 1  # attention only where an image is a few hundred tokens
    unet = XpsrUNet(
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=tuple(recipe.block_out_channels),
        down_block_types=tuple("CrossAttnDownBlock2D" if i == deepest else "DownBlock2D" for i in range(levels)),
        up_block_types=tuple("CrossAttnUpBlock2D" if i == 0 else "UpBlock2D" for i in range(levels)),
        conditional_attention=[i == 0 for i in range(levels)],
        layers_per_block=recipe.layers_per_block,
        attention_head_dim=recipe.attention_head_dim,
        norm_num_groups=recipe.norm_num_groups,
        cross_attention_dim=recipe.text_width,
        addition_embed_type="text",
        addition_embed_type_num_heads=recipe.attention_head_dim,
        sample_size=64,
    )
    controlnet = XpsrControlNet.from_unet(unet, conditioning_embedding_out_channels=tuple(recipe.pyramid_channels))
    _open(controlnet)
    return text_encoder, autoencoder, unet, controlnet


def _open(controlnet: XpsrControlNet) -> None:
    """Let the photo through from the first step.

    A ControlNet over a trained UNet starts closed, so as not to disturb it. Here nothing is trained yet: the
    pyramid keeps the variance of the photo (PyTorch's default would shrink it ten-thousandfold), and the zero
    convolutions become identities.
    """
    convolutions = [module for module in controlnet.pyramid.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        convolution.bias.data.zero_()  # type: ignore[union-attr]
    first = controlnet.pyramid.conv_in
    first.bias.data = -0.5 * first.weight.data.sum(dim=(1, 2, 3))  # type: ignore[union-attr]  # mid-grey becomes zero
    for projection in (*controlnet.down_projections, controlnet.mid_projection):
        nn.init.dirac_(projection.weight)
