"""Published image models of the real classes at their smallest, with random weights, in the folders they come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    ModelMixin,
    PriorTransformer,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import UnCLIPScheduler
from stock_stable_diffusion import save_stable_diffusion
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from xpsr_cli.training.build import build_tokenizer

BASE_PX, REFINED_PX = 16, 32
"""What 64 and 256 are for the published cascades."""
SIDES = (BASE_PX, REFINED_PX)
WIDTH = 12
_IF_UNET: dict[str, Any] = {
    "out_channels": 6,
    "block_out_channels": (8, 8),
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": WIDTH,
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
_UNCLIP_DECODER: dict[str, Any] = _IF_UNET | {"in_channels": 3, "class_embed_type": "identity", "act_fn": "silu"}
_ENLARGER: dict[str, Any] = {
    "in_channels": 6,
    "out_channels": 3,
    "block_out_channels": (8, 8),
    "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
    "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "add_attention": False,
    "resnet_time_scale_shift": "scale_shift",
}


def save_deepfloyd(folder: Path, *, sides: tuple[int, int] = SIDES, seed: int = 0) -> tuple[Path, Path]:
    """Write IF-I and IF-II, with the fields that set their UNets apart from Stable Diffusion's."""
    torch.manual_seed(seed)
    first, second = folder / "IF-I", folder / "IF-II"
    texts = {"encoder_hid_dim": 8, "encoder_hid_dim_type": "text_proj", "addition_embed_type": "text"}
    texts |= {"addition_embed_type_num_heads": 2, "resnet_skip_time_act": True}
    texts |= {"cross_attention_norm": "group_norm", "cross_attention_dim": 32}  # of 32 groups
    _save(UNet2DConditionModel(**(_IF_UNET | texts), in_channels=3, sample_size=sides[0]), first / "unet")
    refiner = {"in_channels": 6, "class_embed_type": "timestep", "sample_size": sides[1]}
    refiner |= {"only_cross_attention": True, "mid_block_only_cross_attention": False}
    _save(UNet2DConditionModel(**(_IF_UNET | texts), **refiner), second / "unet")
    tokenizer = save_t5_tokenizer(first / "tokenizer")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=8,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    T5EncoderModel(config).save_pretrained(first / "text_encoder")
    published = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range", "clip_sample": True}
    threshold = {"thresholding": True, "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5}
    DDPMScheduler(**published, **threshold).save_pretrained(first / "scheduler")
    DDPMScheduler(**published).save_pretrained(second / "scheduler")
    DDPMScheduler(**published).save_pretrained(second / "image_noising_scheduler")
    _index(first, "IFPipeline")
    _index(second, "IFSuperResolutionPipeline")
    return first, second


def save_t5_tokenizer(folder: Path) -> T5TokenizerFast:
    """Letters and a few words, as a fast tokenizer."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyz"] + [("▁cat", -1.0), ("▁dog", -1.0)]
    tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=2)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_unclip(folder: Path, *, sides: tuple[int, int] = SIDES, seed: int = 0) -> tuple[Path, Path]:
    """Write the text-to-image folder, and of the image-variation one what the other has not."""
    torch.manual_seed(seed)
    main, variation = folder / "karlo", folder / "karlo-image-variations"
    tokenizer = build_tokenizer(["a photo of a cat"], vocabulary=256)
    tokenizer.save_pretrained(main / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    CLIPTextModelWithProjection(text).save_pretrained(main / "text_encoder")
    widths = {"clip_embeddings_dim": WIDTH, "time_embed_dim": 32, "cross_attention_dim": WIDTH}
    _save(UnCLIPTextProjModel(clip_extra_context_tokens=2, **widths), main / "text_proj")
    heads = {"num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 1}
    _save(PriorTransformer(**heads, embedding_dim=WIDTH, num_embeddings=77), main / "prior")
    _save(UNet2DConditionModel(**_UNCLIP_DECODER, sample_size=sides[0]), main / "decoder")
    for part in ("super_res_first", "super_res_last"):
        _save(UNet2DModel(**_ENLARGER, sample_size=sides[1]), main / part)
    sampled = {"prediction_type": "sample", "clip_sample_range": 5.0}
    UnCLIPScheduler(**sampled).save_pretrained(main / "prior_scheduler")
    UnCLIPScheduler(variance_type="learned_range").save_pretrained(main / "decoder_scheduler")
    UnCLIPScheduler().save_pretrained(main / "super_res_scheduler")
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=WIDTH,
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(variation / "image_encoder")
    (variation / "feature_extractor").mkdir()
    reader = {"crop_size": 16, "size": 16, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    (variation / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(reader), encoding="utf-8")
    _index(main, "UnCLIPPipeline")
    _index(variation, "UnCLIPImageVariationPipeline")
    return main, variation


def save_prior_folder(folder: Path, **options: Any) -> Path:
    """Write a Stable Diffusion folder as it is published, with its index."""
    save_stable_diffusion(folder, **options)
    _index(folder, "StableDiffusionPipeline")
    return folder


def save_tiny_autoencoder(folder: Path, *, seed: int = 0) -> Path:
    """Write an ``AutoencoderTiny`` for 8 x 8 pixels per cell."""
    torch.manual_seed(seed)
    blocks = {"encoder_block_out_channels": (4,) * 4, "decoder_block_out_channels": (4,) * 4}
    layers = {"num_encoder_blocks": (1,) * 4, "num_decoder_blocks": (1,) * 4}
    AutoencoderTiny(**blocks, **layers).save_pretrained(folder)
    return folder


def _save(network: ModelMixin, folder: Path) -> None:
    """Every weight random, those that start at zero included, and large enough for words to matter."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)


def _index(folder: Path, pipeline: str) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}), encoding="utf-8")
