"""Fresh components of a small XPSR model, as a recipe describes it."""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.folders import check_shapes
from xpsr_cli.models.loading import Components
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.settings import CaptionSource, ColorFix, LongPrompts, SamplingPreset, SchedulerName, Sizing, StartLatent
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.export import tokenizer_errors
from xpsr_cli.training.recipe import MiniModelRecipe, ScorerRecipe
from xpsr_cli.training.texts import high_text
from xpsr_cli.training.whole_folders import written_beside
from xpsr_cli.training.words import low_prompt, negative_prompt

if TYPE_CHECKING:
    from xpsr_cli.training.dataset import TrainingPhoto

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
MINI_PRESET = SamplingPreset(
    steps=1,
    guidance_scale=1.0,  # none, which is twice as quick
    scheduler=SchedulerName.DDIM,
    start=StartLatent.NOISE,
    start_noise=0.0,
    color_fix=ColorFix.WAVELET_CHROMA,
    sizing=Sizing.PAD,
    long_prompts=LongPrompts.CHUNK,
    captions=CaptionSource.MEASURED,  # the words it knows are measured ones; a multimodal model's are mostly new to it
)


def build_mini(recipe: MiniModelRecipe, tokenizer: CLIPTokenizer, name: str, seed: int) -> Components:
    """A small model with random weights from ``seed``."""
    text_encoder, autoencoder, unet, controlnet = build_networks(recipe, tokenizer, seed)
    return Components(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=autoencoder,
        unet=unet,
        controlnet=controlnet,
        scheduler_config=SCHEDULER_CONFIG,
        preset=MINI_PRESET,
        name=name,
    )


def check_sizes(model: Components, recipe: MiniModelRecipe, source: str) -> None:
    """Refuse a model from ``source`` that is not of the recipe's sizes; :class:`WeightsError`."""
    with torch.device("meta"):
        parts = build_networks(recipe, model.tokenizer, seed=0)
    for part, wanted in zip(("text_encoder", "vae", "unet", "controlnet"), parts, strict=True):
        shapes, found = (
            {key: tuple(value.shape) for key, value in network.state_dict().items()}
            for network in (wanted, getattr(model, part))
        )
        try:
            check_shapes(shapes, found, Path(source) / part)
        except WeightsError as error:
            raise WeightsError(
                error.message.replace("its config.json", "the recipe"),
                "Start from a model of the recipe's own sizes, or use the recipe finetune, which takes any.",
            ) from None


def run_tokenizer(
    folder: Path, photos: Iterable[TrainingPhoto], captions: str, more: Iterable[str] = ()
) -> CLIPTokenizer:
    """The tokenizer that a run keeps in ``folder``, made once: from every kind of prompt that it trains with.

    Merges of equal count are ordered at random by the tokenizer library, so a run must keep the one it began with.

    Args:
        folder: where it lies, or will lie.
        photos: what is trained on, with their texts.
        captions: the recipe's ``data.captions``.
        more: what else is said, in training or later.
    """
    if not folder.is_dir():
        keep_tokenizer(build_tokenizer([*_prompts(photos, captions), *more]), folder)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _prompts(photos: Iterable[TrainingPhoto], captions: str) -> Iterator[str]:
    """Those of the preset, and of every photo each kind that it may be trained with."""
    yield from (MINI_PRESET.prompt_suffix, MINI_PRESET.negative_prompt, MINI_PRESET.negative_low_prompt)
    rng = np.random.default_rng(0)
    for photo in photos:
        drawn = Degradation(rng.uniform(0, 4), rng.uniform(0, 20), rng.uniform(30, 110))
        yield high_text(photo, captions, rng)
        yield photo.low
        yield low_prompt(drawn, rng) if photo.small is None else photo.small.low
        yield negative_prompt(rng)


def keep_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write ``folder``, whole or not at all, in place of what is there; :class:`WeightsError` if that cannot be."""
    with written_beside(folder) as part, tokenizer_errors():
        tokenizer.save_pretrained(part)


def build_tokenizer(texts: Iterable[str], vocabulary: int = 2048) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-pair merges with ``</w>``) trained on the prompts the model will know.

    Every byte is a token of its own, inside and at the end of a word, so that no word of any language is unknown.
    """
    alphabet = [letter for letter in pre_tokenizers.ByteLevel.alphabet() if letter not in string.ascii_uppercase]
    letters = sorted(token for letter in alphabet for token in (letter, f"{letter}</w>"))
    reader = CLIPTokenizer().backend_tokenizer  # which trains on what it will see
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = reader.normalizer, reader.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(alphabet),
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.model.save(folder)
        vocab = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
        lines = (Path(folder) / "merges.txt").read_text(encoding="utf-8").splitlines()
    for token in letters:
        vocab.setdefault(token, len(vocab))
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def build_text_encoder(recipe: MiniModelRecipe | ScorerRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text encoder with random weights, for the words of ``tokenizer``."""
    return CLIPTextModel(
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


def build_networks(
    recipe: MiniModelRecipe, tokenizer: CLIPTokenizer, seed: int
) -> tuple[CLIPTextModel, ResidualAutoencoder, XpsrUNet, XpsrControlNet]:
    """Text encoder, autoencoder, UNet and ControlNet with random weights from ``seed``."""
    torch.manual_seed(seed)
    text_encoder = build_text_encoder(recipe, tokenizer)
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
