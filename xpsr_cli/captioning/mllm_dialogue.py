"""How a multimodal model is asked: a picture and an instruction to its tokens, and tokens back to one line of text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from xpsr_cli.captioning.captions import one_line
from xpsr_cli.captioning.views import on_square
from xpsr_cli.errors import WeightsError
from xpsr_cli.photos.photo import Pixels

LLAVA_PROMPT = "USER: <image>\n{instruction} ASSISTANT:"
"""How LLaVA-1.5 was trained to be asked, for releases whose processor has no chat template."""
LONGEST_STRIP = 8
"""Sides of a picture in their ratio, at most; processors refuse far longer ones, or blow them up."""
_SENTENCE = re.compile(r".*[.!?][\"')\]]?(?=\s|$)", re.DOTALL)


class Dialogue:
    """Questions on pictures in the words of one model, and its answers.

    ``config`` is the model's own. Raises :class:`WeightsError` if the folder's processor cannot be used.
    """

    def __init__(self, folder: Path, config: Any) -> None:
        self.processor = _load_processor(folder, config)
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"  # every answer begins right behind its question
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._is_llava = config.model_type == "llava"
        if self._is_llava and self.processor.patch_size is None:  # releases without a processor_config.json
            self.processor.patch_size = config.vision_config.patch_size
            self.processor.vision_feature_select_strategy = config.vision_feature_select_strategy
            self.processor.num_additional_image_tokens = 1  # the one of CLIP that stands for the whole image
        if self._template is None and not self._is_llava:
            raise WeightsError(f"{folder} has no chat template.", "Take a model that was trained to be asked.")

    @property
    def _template(self) -> str | None:
        template = self.processor.chat_template or self.tokenizer.chat_template
        return template["default"] if isinstance(template, dict) else template

    def prompt(self, instruction: str) -> str:
        """The instruction on one picture, as the model's template puts it."""
        if self._template is None:
            return LLAVA_PROMPT.format(instruction=instruction)
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        message = {"role": "user", "content": content}
        return str(
            self.processor.apply_chat_template(
                [message], chat_template=self._template, add_generation_prompt=True, tokenize=False
            )
        )

    def inputs(self, pictures: Sequence[Pixels], instructions: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the model takes: one row for each picture and the instruction on it, padded on the left.

        Pictures are (h, w, 3) uint8, of any size.
        """
        prompts = [self.prompt(instruction) for instruction in instructions]
        begun = self.tokenizer.bos_token is not None and prompts[0].startswith(self.tokenizer.bos_token)
        made = self.processor(
            images=[[self._whole_in_sight(picture)] for picture in pictures],
            text=prompts,
            padding=True,
            add_special_tokens=not begun,
            return_tensors="pt",
        )
        return dict(made)

    def text(self, tokens: Sequence[int], ends: Sequence[int]) -> str:
        """One line of the words up to the first of ``ends``; without one, up to the last whole sentence."""
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        words = one_line(self.tokenizer.decode(list(tokens[:stop]), skip_special_tokens=True))
        return whole_sentences(words) if stop is None else words

    def _whole_in_sight(self, picture: Pixels) -> Pixels:
        """The picture; on a square if it is a strip, or if the model looks at the middle square only."""
        images = self.processor.image_processor
        longer, shorter = max(picture.shape[:2]), min(picture.shape[:2])
        if longer <= LONGEST_STRIP * shorter and not getattr(images, "do_center_crop", False):
            return picture
        red, green, blue = (round(255 * value) for value in getattr(images, "image_mean", None) or (0.5, 0.5, 0.5))
        return on_square(picture, (red, green, blue))


def whole_sentences(text: str) -> str:
    """The text up to its last full stop, question or exclamation mark that ends a sentence; all of it without one."""
    whole = _SENTENCE.match(text)
    return whole.group() if whole else text


def _load_processor(folder: Path, config: Any) -> Any:
    try:
        kind = PROCESSOR_MAPPING.get(type(config), AutoProcessor)
        if kind is not AutoProcessor and "video_processor" in kind.get_attributes():
            kind = _without_videos(kind)
        processor = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        reason = one_line(str(error)).partition(". ")[0].rstrip(".")
        raise WeightsError(
            f"The processor in {folder} cannot be loaded: {reason}.", "Fetch the whole model."
        ) from error
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise WeightsError(f"{folder} has no processor for images and text.", "Fetch the whole model.")
    return processor


def _without_videos(kind: Any) -> Any:
    """The processor class less its part for videos, which needs torchvision even where there are none."""

    def take(self: Any, image_processor: Any, tokenizer: Any, **options: Any) -> None:
        kind.__init__(
            self, image_processor=image_processor, tokenizer=tokenizer, **options | {"video_processor": None}
        )

    return type(kind.__name__, (kind,), {"__init__": take})
