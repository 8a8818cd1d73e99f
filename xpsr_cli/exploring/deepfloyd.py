"""The DeepFloyd IF cascade as a prior: 64 pixels from words, then 256 from words and the first picture.

It is published as one folder per stage. The first has the text encoder, which both stages use; without the second,
pictures end at 64 pixels. The weights are under a licence that is to be accepted on their page.
"""

# shapes: R guidance rows, L text tokens (77), D text width, H W pixels of a stage

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import T5EncoderModel, T5TokenizerFast

from xpsr_cli.device import Placement
from xpsr_cli.errors import MissingExtraError, UsageError, WeightsError
from xpsr_cli.exploring.operators import Size
from xpsr_cli.exploring.priors import Predict, PriorStage, Request
from xpsr_cli.exploring.published import PublishedPrior, load_network, need_parts, scheduler_fields, weights_files
from xpsr_cli.exploring.stages import GuidedNetwork, PixelStage, cascade_sizes, guidance_texts, words_only
from xpsr_cli.sampling.noise import window_noise
from xpsr_cli.sampling.tiles import Window

FIRST_PIPELINES = ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")
SECOND_PIPELINES = ("IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline")
STEPS = (100, 50)
GUIDANCE = (7.0, 4.0)
NOISE_LEVEL = 250
"""Timestep to which the second stage sees the first picture noised: the published pipeline's default."""
TOKENS = 77
"""T5 reads more, but the models were trained with this many."""
CONDITION_DRAW = 2**31
"""Number of the draw that noises the first picture, far from those of the sampler's steps."""
KEPT_TEXTS = 64

_log = logging.getLogger(__name__)


class DeepFloydPrior(PublishedPrior):
    """DeepFloyd IF from its folders: see :class:`~xpsr_cli.exploring.priors.Prior`.

    The text encoder is larger than both UNets. It stays in memory and visits the device only to encode.

    Args:
        first: IF-I: tokenizer, text_encoder, unet and scheduler.
        second: IF-II: unet, scheduler and image_noising_scheduler; ``None`` for pictures of 64 pixels only.
    """

    def __init__(self, name: str, first: Path, second: Path | None, placement: Placement) -> None:
        need_parts(first, ("tokenizer", "text_encoder", "unet", "scheduler"), "stage I of DeepFloyd IF")
        networks = [first / "text_encoder", first / "unet"]
        if second is not None:
            need_parts(second, ("unet", "scheduler", "image_noising_scheduler"), "stage II of DeepFloyd IF")
            networks.append(second / "unet")
        super().__init__(name, placement, [file for folder in networks for file in weights_files(folder)])
        self.text_encoder = load_network(T5EncoderModel, first / "text_encoder", placement.dtype)
        self.tokenizer = load_t5_tokenizer(first / "tokenizer", self.text_encoder.config.vocab_size)
        folders = [first] if second is None else [first, second]
        self.unets = [_load_unet(folder / "unet", placement, stage) for stage, folder in enumerate(folders)]
        self.schedulers = [scheduler_fields(folder / "scheduler") for folder in folders]
        if second is not None:
            noising = DDPMScheduler.from_config(scheduler_fields(second / "image_noising_scheduler"))
            self._kept_signal = float(noising.alphas_cumprod[NOISE_LEVEL])
        self.encode_text = lru_cache(KEPT_TEXTS)(self._encode_text)

    def stages(self, small: Size, large: Size) -> list[PriorStage]:
        """One or two: the first is left out where ``small`` is as large as its pictures, or ``large`` no larger."""
        native = [int(unet.config.sample_size) for unet in self.unets]
        if len(native) == 1 and max(large) > native[0]:
            raise UsageError(
                f"{self.name} is stage I of DeepFloyd IF, which makes pictures of up to {native[0]} pixels on a side.",
                "Give both stages: --prior STAGE_I,STAGE_II.",
            )
        names, made = ("base", "refiner"), (self._first, self._second)
        return [
            PixelStage(names[k], size, STEPS[k], self.schedulers[k], partial(made[k], size))
            for k, size in enumerate(cascade_sizes(small, large, native, self.name))
            if size is not None
        ]

    def _first(self, size: Size, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        words_only(request, self.name)
        scale = GUIDANCE[0] if request.guidance_scale is None else request.guidance_scale
        texts = guidance_texts(request.prompt, request.negative_prompt, scale)
        return GuidedNetwork(
            self.unets[0],
            self.placement,
            scale=scale,
            conditions={"encoder_hidden_states": self._texts(texts)},
            rows=len(texts),
        )

    def _second(self, size: Size, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        words_only(request, self.name)
        texts = guidance_texts(request.prompt, request.negative_prompt, GUIDANCE[1])
        before = given_pm1 if before_pm1 is None else before_pm1
        enlarged = F.interpolate(before.float(), size, mode="bilinear", align_corners=True)
        noise = window_noise(Window(0, 0, *size), enlarged.shape[1], seed=request.seed, draw=CONDITION_DRAW)
        levels = torch.full((len(texts),), NOISE_LEVEL, device=self.placement.device)
        return GuidedNetwork(
            self.unets[1],
            self.placement,
            scale=GUIDANCE[1],
            conditions={"encoder_hidden_states": self._texts(texts), "class_labels": levels},
            beside=self._kept_signal**0.5 * enlarged + (1 - self._kept_signal) ** 0.5 * noise,
            rows=len(texts),
        )

    def _texts(self, texts: Sequence[str]) -> Tensor:
        """(R, L, D) on the device."""
        return self.placement.put(torch.cat([self.encode_text(text) for text in texts]))

    @torch.no_grad()
    def _encode_text(self, text: str) -> Tensor:
        """(1, L, D) float32 in memory."""
        tokens = self.tokenizer(
            text.lower().strip(), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        )
        if len(self.tokenizer(text.lower().strip(), verbose=False)["input_ids"]) > TOKENS:
            _log.warning("The prompt is longer than %d tokens: its end is cut off.", TOKENS)
        device = self.placement.device
        self.text_encoder.to(device)
        states = self.text_encoder(tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device))
        self.text_encoder.to("cpu")
        return self.placement.fetch(states.last_hidden_state)


def load_t5_tokenizer(folder: Path, known: int) -> Any:
    """The tokenizer of a T5 text encoder that knows so many tokens.

    Raises:
        MissingExtraError: it is a SentencePiece file, and the packages that read one are not installed.
        WeightsError: there is none, or it is another model's.
    """
    fast, pieces = (folder / "tokenizer.json").is_file(), folder / "spiece.model"
    if not fast and not pieces.is_file():
        raise WeightsError(
            f"{folder} holds no T5 tokenizer (tokenizer.json or spiece.model).",
            "Fetch the model again, with all its parts.",
        )
    if not fast and not (find_spec("sentencepiece") and _has_protobuf()):
        raise MissingExtraError(
            f"{pieces} is a SentencePiece file, which needs two packages that are not installed.",
            "Run: pip install sentencepiece protobuf",
        )
    try:
        tokenizer = T5TokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise WeightsError(f"{folder} holds no T5 tokenizer: {str(error).splitlines()[0]}") from error
    if len(tokenizer) > known:
        raise WeightsError(
            f"{folder} has a tokenizer of {len(tokenizer)} tokens; the text encoder knows {known}.",
            "The folder is incomplete or belongs to another model.",
        )
    return tokenizer


def _has_protobuf() -> bool:
    return find_spec("google") is not None and find_spec("google.protobuf") is not None


def _load_unet(folder: Path, placement: Placement, stage: int) -> Any:
    """The UNet of a stage; :class:`WeightsError` where it is that of the other one."""
    unet = placement.place(load_network(UNet2DConditionModel, folder, placement.dtype))
    expected = (3, 6)[stage]
    if unet.config.in_channels != expected:
        raise WeightsError(
            f"The UNet in {folder} takes {unet.config.in_channels} channels, that of stage {stage + 1} {expected}.",
            "Give the folders in order: --prior STAGE_I,STAGE_II.",
        )
    return unet
