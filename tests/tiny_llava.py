"""Multimodal models of the real classes at their smallest: random weights, own tokenizer, processor and template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging as transformers_logging

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION

IMAGE_PX, PATCH_PX = 56, 14
TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<|image_pad|>", "<|video_pad|>")
SPECIAL += ("<|vision_start|>", "<|vision_end|>")
SENTENCES = (
    HIGH_INSTRUCTION,
    LOW_INSTRUCTION,
    "USER: ASSISTANT:",
    "The image shows a small house beside a quiet lake, with a red boat and two dogs on the grass in front of it.",
    "Its quality is poor. The picture is blurred, the colors are pale, there is noise in the dark parts of the sky.",
    "A woman with a hat rides a bicycle along a street where people sit at tables, eat bread and drink coffee.",
)


def build_tiny_llava(folder: Path, *, template: bool = True, seed: int = 0) -> Path:
    """Write a LLaVA to ``folder``, laid out as published ones are; its texts are gibberish that differs by photo.

    Without ``template`` neither the processor's config nor a chat template is written, as in the oldest releases.
    """
    tokenizer = build_tokenizer("<image>")
    config = LlavaConfig(
        vision_config=_vision(),
        text_config=_text(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    _save(LlavaForConditionalGeneration, config, tokenizer, folder, seed)
    images = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_PX}, crop_size=_square(IMAGE_PX))
    if template:
        _llava_processor(LlavaProcessor, images, tokenizer).save_pretrained(folder)
    else:
        tokenizer.init_kwargs["processor_class"] = "LlavaProcessor"
        tokenizer.save_pretrained(folder)
        images.save_pretrained(folder)
    return folder


def build_tiny_llava_next(folder: Path) -> Path:
    """Write a LLaVA-NeXT, which looks at large pictures in several parts."""
    tokenizer = build_tokenizer("<image>")
    grids = [[IMAGE_PX, 2 * IMAGE_PX], [2 * IMAGE_PX, IMAGE_PX], [2 * IMAGE_PX, 2 * IMAGE_PX]]
    config = LlavaNextConfig(
        vision_config=_vision(),
        text_config=_text(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
    )
    _save(LlavaNextForConditionalGeneration, config, tokenizer, folder, seed=1)
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": IMAGE_PX}, crop_size=_square(IMAGE_PX), image_grid_pinpoints=grids
    )
    _llava_processor(LlavaNextProcessor, images, tokenizer).save_pretrained(folder)
    return folder


def build_tiny_qwen(folder: Path) -> Path:
    """Write a Qwen2.5-VL, which sees pictures in their own proportions, and whose processor has a part for videos."""
    tokenizer = build_tokenizer("<|image_pad|>")
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 64}
    config = Qwen2_5_VLConfig(
        vision_config=vision | {"patch_size": PATCH_PX, "window_size": 56, "fullatt_block_indexes": [1]},
        text_config=_text(tokenizer).to_dict()
        | {"model_type": "qwen2_5_vl_text", "num_key_value_heads": 2}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}},
        **{key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()},
    )
    _save(Qwen2_5_VLForConditionalGeneration, config, tokenizer, folder)
    tokenizer.chat_template = TEMPLATE.replace("<image>\n", QWEN_IMAGE)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=PATCH_PX, min_pixels=56 * 56, max_pixels=112 * 112).save_pretrained(folder)
    return folder


def build_tokenizer(image_token: str) -> PreTrainedTokenizerFast:
    """Some hundred pieces of words, with the special tokens of the models here."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": image_token},
    )


def _vision() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_PX,
        patch_size=PATCH_PX,
    )


def _text(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        **_ends(tokenizer),
    )


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _llava_processor(kind: Any, images: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
    return kind(
        images,
        tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def _save(kind: Any, config: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int = 0) -> None:
    """Random weights, large enough for what is in an image to decide over the words."""
    torch.manual_seed(seed)
    network = kind(config)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3 if "lm_head" in name or "embed_tokens" in name else 0.15)
    network.generation_config = GenerationConfig(**_ends(tokenizer))
    transformers_logging.disable_progress_bar()
    network.save_pretrained(folder)
