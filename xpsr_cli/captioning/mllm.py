"""Descriptions of photos by a multimodal model: LLaVA-1.5 unless another is named, many photos at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION, Box, Caption, Captioner
from xpsr_cli.captioning.mllm_dialogue import Dialogue
from xpsr_cli.captioning.mllm_files import MllmFiles, check_mllm_folder, read_config
from xpsr_cli.captioning.mllm_network import LESS_MEMORY, free, greedy, load_config, load_network, quiet_transformers
from xpsr_cli.captioning.quantization import check_quantization, quiet_bitsandbytes
from xpsr_cli.captioning.views import View, take_view
from xpsr_cli.device import Placement, choose_placement, is_out_of_memory
from xpsr_cli.errors import OutOfMemoryError, UsageError
from xpsr_cli.photos.photo import PhotoSource, Pixels
from xpsr_cli.settings import Precision, Quantization

ENCODED_ONCE = ("llava", "llava_next")
"""Kinds of models whose features of an image are put among the words, and serve for both questions."""
USUAL_BATCH = 8
"""Photos at a time on a GPU; on a CPU one, whose cores share its work."""

logger = logging.getLogger(__name__)


def load_mllm(
    files: MllmFiles,
    *,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    quantize: Quantization = Quantization.NONE,
    batch_size: int | None = None,
) -> MllmCaptioner:
    """The captioner of a model that :func:`~xpsr_cli.captioning.mllm_files.find_mllm` found, on the device.

    ``precision`` auto is bfloat16 where the device computes in it, else float16 on a GPU and float32 on a CPU.
    ``batch_size`` is how many photos are described at a time; ``None`` is what suits the device.

    Raises:
        WeightsError: the folder holds no image-text-to-text model, or is damaged.
        UsageError: the device, the precision or the quantisation cannot be had here.
        MissingExtraError: quantisation is asked for and bitsandbytes is not installed.
        OutOfMemoryError: the model does not fit into the memory.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch-size is {batch_size}, and must be at least 1.")
    placement = _placement(device, precision)
    check_mllm_folder(files.folder)
    _check_stored_format(files, quantize)
    check_quantization(quantize, placement.device, placement.dtype)
    with quiet_transformers():
        config = load_config(files)
        dialogue = Dialogue(files.folder, config)
        network = load_network(files, config, placement, quantize)
    size = batch_size or (1 if placement.device.type == "cpu" else USUAL_BATCH)
    return MllmCaptioner(files.name, network, dialogue, placement, size)


class MllmCaptioner(Captioner):
    """See :class:`~xpsr_cli.captioning.captions.Captioner`. Close it to have its memory back."""

    says_content = True

    def __init__(self, name: str, network: Any, dialogue: Dialogue, placement: Placement, batch_size: int) -> None:
        self.name = name
        self.batch_size = batch_size
        self.dialogue = dialogue
        self.network = network
        self._placement = placement
        network.generation_config = greedy(network.generation_config, dialogue.tokenizer)

    def look(self, photo: PhotoSource, box: Box | None = None) -> View:
        """See :class:`~xpsr_cli.captioning.captions.Captioner`."""
        return take_view(photo, box)

    def describe(self, looks: Sequence[View]) -> list[Caption]:
        """See :class:`~xpsr_cli.captioning.captions.Captioner`; both questions are answered in one pass.

        Raises :class:`OutOfMemoryError` if the memory does not suffice for one photo.
        """
        texts = self._answers(looks, (HIGH_INSTRUCTION, LOW_INSTRUCTION))
        return [Caption(high, low, self.name) for high, low in texts]

    def summarize(self, looks: Sequence[View]) -> list[str]:
        """See :class:`~xpsr_cli.captioning.captions.Captioner`."""
        return [high for (high,) in self._answers(looks, (HIGH_INSTRUCTION,))]

    def close(self) -> None:
        """Let go of the model; nothing can be described afterwards."""
        self.network = None
        free(self._placement.device)

    def _answers(self, looks: Sequence[View], instructions: Sequence[str]) -> list[tuple[str, ...]]:
        """For each look an answer to each instruction, as many looks at a time as the memory holds."""
        answers: list[tuple[str, ...]] = []
        while len(answers) < len(looks):
            some = looks[len(answers) : len(answers) + self.batch_size]
            made = self._attempt(some, instructions)
            if made is None:
                self._halve()
            else:
                answers += made
        return answers

    def _attempt(self, looks: Sequence[View], instructions: Sequence[str]) -> list[tuple[str, ...]] | None:
        """The answers, or ``None`` if the memory did not suffice."""
        questions = [
            (look.detail if instruction is LOW_INSTRUCTION else look.whole, instruction)
            for look in looks
            for instruction in instructions
        ]
        try:
            texts = self._ask(questions)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None  # what the error holds on to goes with it
        return list(zip(*[iter(texts)] * len(instructions), strict=True))

    def _halve(self) -> None:
        free(self._placement.device)
        if self.batch_size == 1:
            raise OutOfMemoryError(f"The memory does not suffice for one photo with {self.name}.", LESS_MEMORY)
        self.batch_size //= 2
        logger.warning("The memory does not suffice: %d photos at a time from here on.", self.batch_size)

    @torch.inference_mode()
    def _ask(self, questions: Sequence[tuple[Pixels, str]]) -> list[str]:
        """An answer to each instruction on its picture, all in one pass."""
        pictures = [picture for picture, _ in questions]
        inputs = self.dialogue.inputs(pictures, [instruction for _, instruction in questions])
        inputs = {name: self._put(values) for name, values in inputs.items()}
        with quiet_bitsandbytes(), quiet_transformers():
            if self.network.config.model_type in ENCODED_ONCE:
                tokens = self._generate_encoding_once(pictures, inputs)
            else:
                tokens = self.network.generate(**inputs)
                if not self.network.config.is_encoder_decoder:
                    tokens = tokens[:, inputs["input_ids"].shape[1] :]
        ends = self.network.generation_config.eos_token_id
        return [self.dialogue.text(row, ends) for row in tokens.tolist()]

    def _generate_encoding_once(self, pictures: Sequence[Pixels], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """New tokens (rows, length), the features of a picture computed once however many rows show it."""
        first: dict[int, int] = {}
        for row, picture in enumerate(pictures):
            first.setdefault(id(picture), row)
        shown = list(first.values())  # one row for each picture
        images = {name: inputs[name][shown] for name in ("pixel_values", "image_sizes") if name in inputs}
        features = dict(zip(first, self.network.get_image_features(**images).pooler_output, strict=True))
        words = self.network.get_input_embeddings()(inputs["input_ids"])
        places = inputs["input_ids"] == self.network.config.image_token_id
        seen = torch.cat([features[id(picture)] for picture in pictures]).to(words.dtype)
        merged = words.masked_scatter(places.unsqueeze(-1), seen)
        return self.network.generate(inputs_embeds=merged, attention_mask=inputs["attention_mask"])

    def _put(self, values: torch.Tensor) -> torch.Tensor:
        dtype = self._placement.dtype if values.is_floating_point() else values.dtype
        return values.to(self._placement.device, dtype)


def _placement(device: str, precision: Precision) -> Placement:
    """As for the other networks; but float16, in which such models are published, where a GPU has no bfloat16."""
    chosen = choose_placement(device, precision)
    if precision is Precision.AUTO and chosen.dtype is torch.float32 and chosen.device.type != "cpu":
        return replace(chosen, dtype=torch.float16)
    return chosen


def _check_stored_format(files: MllmFiles, quantize: Quantization) -> None:
    stored = read_config(files.folder).get("quantization_config")
    if stored is not None and quantize is not Quantization.NONE:
        raise UsageError(f"The weights of {files.name} are quantised already.", "Leave out --quantize.")
