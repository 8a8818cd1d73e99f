"""unCLIP (Karlo's layout) as a prior: words to a CLIP image embedding, then a decoder and an enlarger in pixels.

The embedding may be mixed with that of the given picture, which steadies layout and colours and leaves the words less
to say. That needs the image encoder of the image-variation folder, given as a second folder.
"""

# shapes: R guidance rows, L text tokens, D text width, E embedding width, H W pixels

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import UnCLIPScheduler
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from xpsr_cli.device import Placement
from xpsr_cli.errors import WeightsError
from xpsr_cli.exploring.operators import Size
from xpsr_cli.exploring.priors import Predict, PriorStage, Request
from xpsr_cli.exploring.published import (
    SCHEDULER,
    PublishedPrior,
    load_network,
    need_parts,
    scheduler_fields,
    weights_files,
)
from xpsr_cli.exploring.stages import GuidedNetwork, PixelStage, cascade_sizes, guidance_texts
from xpsr_cli.integrity import read_json
from xpsr_cli.models.loading import load_tokenizer

PIPELINES = ("UnCLIPPipeline",)
VARIATION_PIPELINES = ("UnCLIPImageVariationPipeline",)
PRIOR_STEPS, DECODER_STEPS, ENLARGER_STEPS = 25, 25, 7
PRIOR_GUIDANCE, DECODER_GUIDANCE = 4.0, 8.0
_NETWORKS = {
    "text_encoder": CLIPTextModelWithProjection,
    "text_proj": UnCLIPTextProjModel,
    "prior": PriorTransformer,
    "decoder": UNet2DConditionModel,
    "super_res_first": UNet2DModel,
    "super_res_last": UNet2DModel,
}
READER = "preprocessor_config.json"
_SCHEDULERS = ("prior_scheduler", "decoder_scheduler", "super_res_scheduler")
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_log = logging.getLogger(__name__)


class UnclipPrior(PublishedPrior):
    """unCLIP from a folder: see :class:`~xpsr_cli.exploring.priors.Prior`.

    Args:
        folder: tokenizer, text_encoder, text_proj, prior, decoder, super_res_first, super_res_last and their
            three schedulers.
        variation: the image-variation folder, with image_encoder and feature_extractor; ``None`` where ``folder``
            has them itself, or ``image_weight`` is not to be used.
    """

    def __init__(self, name: str, folder: Path, variation: Path | None, placement: Placement) -> None:
        need_parts(folder, ("tokenizer", *_NETWORKS, *_SCHEDULERS), "unCLIP")
        classes: dict[Path, Any] = {folder / part: cls for part, cls in _NETWORKS.items()}
        variation = variation or (folder if (folder / "image_encoder").is_dir() else None)
        if variation is not None:
            need_parts(variation, ("image_encoder", "feature_extractor"), "unCLIP's image variation")
            classes[variation / "image_encoder"] = CLIPVisionModelWithProjection
        super().__init__(name, placement, [file for part in classes for file in weights_files(part)])
        networks = {
            part.name: placement.place(load_network(cls, part, placement.dtype)) for part, cls in classes.items()
        }
        self.text_encoder, self.text_proj = networks["text_encoder"], networks["text_proj"]
        self.prior, self.decoder = networks["prior"], networks["decoder"]
        self.enlargers = networks["super_res_first"], networks["super_res_last"]
        self.image_encoder = networks.get("image_encoder")
        self.tokenizer = load_tokenizer(folder / "tokenizer", self.text_encoder)
        self._prior_scheduler = UnCLIPScheduler.from_config(read_json(folder / "prior_scheduler" / SCHEDULER))
        # unCLIP spreads its steps from the noisiest timestep on
        self._decoder_scheduler = scheduler_fields(folder / "decoder_scheduler") | {"timestep_spacing": "trailing"}
        self._enlarger_scheduler, self._visited = respaced(
            scheduler_fields(folder / "super_res_scheduler"), ENLARGER_STEPS
        )
        self._reader = {} if variation is None else read_json(variation / "feature_extractor" / READER)

    def stages(self, small: Size, large: Size) -> list[PriorStage]:
        """One or two: the decoder is left out where ``small`` is as large as its pictures.

        The enlarger takes exactly its own few steps: its scheduler has no more.
        """
        native = [int(self.decoder.config.sample_size), int(self.enlargers[0].config.sample_size)]
        base, enlarged = cascade_sizes(small, large, native, self.name)
        stages: list[PriorStage] = []
        if base is not None:
            stages.append(PixelStage("decoder", base, DECODER_STEPS, self._decoder_scheduler, self._decode))
        if enlarged is not None:
            predictor = partial(self._enlarge, enlarged)
            stages.append(PixelStage("enlarger", enlarged, ENLARGER_STEPS, self._enlarger_scheduler, predictor))
        return stages

    def _decode(self, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        scale = DECODER_GUIDANCE if request.guidance_scale is None else request.guidance_scale
        embedding = self.text_to_image_embedding(request)
        if request.image_weight:
            embedding = mix_embeddings(embedding, self.image_embedding(given_pm1), request.image_weight)
        texts = guidance_texts(request.prompt, request.negative_prompt, scale)
        text_embeds, states, mask = self._read(texts)
        states, added = self.text_proj(
            image_embeddings=self.placement.put(embedding),
            prompt_embeds=text_embeds,
            text_encoder_hidden_states=states,
            do_classifier_free_guidance=len(texts) == 2,
        )
        extra = self.text_proj.config.clip_extra_context_tokens
        return GuidedNetwork(
            self.decoder,
            self.placement,
            scale=scale,
            conditions={
                "encoder_hidden_states": states,
                "class_labels": added,
                "attention_mask": torch.cat([mask.new_ones(len(texts), extra), mask], dim=1),
            },
            rows=len(texts),
        )

    def _enlarge(self, size: Size, request: Request, given_pm1: Tensor, before_pm1: Tensor | None) -> Predict:
        before = given_pm1 if before_pm1 is None else before_pm1
        enlarged = F.interpolate(before.float(), size, mode="bicubic", align_corners=False, antialias=True)
        first, last = (GuidedNetwork(network, self.placement, beside=enlarged) for network in self.enlargers)
        visited = self._visited

        def predict(canvas: Tensor, step: int) -> Tensor:
            return (first if step else last)(canvas, visited[step])

        return predict

    @torch.no_grad()
    def text_to_image_embedding(self, request: Request) -> Tensor:
        """The CLIP image embedding (1, E) float32 in memory that the prior draws for the words, by the seed."""
        text_embeds, states, mask = self._read([request.negative_prompt, request.prompt])
        generator = torch.Generator().manual_seed(request.seed)
        scheduler = self._prior_scheduler
        scheduler.set_timesteps(PRIOR_STEPS)
        timesteps = scheduler.timesteps.tolist()
        embedding = torch.randn(1, self.prior.config.embedding_dim, generator=generator)
        for timestep, following in zip(timesteps, [*timesteps[1:], None], strict=True):
            rows = self.prior(
                self.placement.put(embedding.expand(2, -1)),
                timestep=timestep,
                proj_embedding=text_embeds,
                encoder_hidden_states=states,
                attention_mask=mask,
            ).predicted_image_embedding
            negative, positive = self.placement.fetch(rows).chunk(2)
            guided = negative + PRIOR_GUIDANCE * (positive - negative)
            embedding = scheduler.step(
                guided, timestep, embedding, prev_timestep=following, generator=generator
            ).prev_sample
        return self.placement.fetch(self.prior.post_process_latents(self.placement.put(embedding)))

    @torch.no_grad()
    def image_embedding(self, picture_pm1: Tensor) -> Tensor:
        """The CLIP image embedding (1, E) float32 in memory of a picture (1, 3, h, w) in [-1, 1].

        Raises:
            WeightsError: there is no image encoder.
        """
        if self.image_encoder is None:
            raise WeightsError(
                f"{self.name} has no image encoder, so the picture cannot count beside the words.",
                "Add the image-variation folder (--prior FOLDER,VARIATION), or leave --image-weight at 0.",
            )
        side = int(self.image_encoder.config.image_size)
        mean, deviation = (
            torch.tensor(self._reader.get(key, usual)).view(1, 3, 1, 1)
            for key, usual in (("image_mean", _CLIP_MEAN), ("image_std", _CLIP_STD))
        )
        height, width = picture_pm1.shape[-2:]
        shape = [side * many // min(height, width) for many in (height, width)]
        picture = F.interpolate(picture_pm1.float(), shape, mode="bicubic", antialias=True).clamp(-1, 1) / 2 + 0.5
        top, left = ((many - side) // 2 for many in shape)
        picture = (picture[:, :, top : top + side, left : left + side] - mean) / deviation
        return self.placement.fetch(self.image_encoder(self.placement.put(picture)).image_embeds)

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (R, E), hidden states (R, L, D) and which tokens are words (R, L) bool, on the device."""
        room = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=room, truncation=True, return_tensors="pt"
        )
        if any(len(ids) > room for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]):
            _log.warning("The prompt is longer than %d tokens: its end is cut off.", room)
        device = self.placement.device
        read = self.text_encoder(tokens.input_ids.to(device))
        return read.text_embeds, read.last_hidden_state, tokens.attention_mask.bool().to(device)


def mix_embeddings(words: Tensor, picture: Tensor, weight: float) -> Tensor:
    """The weighted mean of two embeddings (1, E), as long as they are in the mean: 0 is all words, 1 all picture."""
    mixed = torch.lerp(words, picture, weight)
    length = torch.lerp(words.norm(), picture.norm(), weight)
    return mixed * (length / mixed.norm().clamp_min(1e-12))


def respaced(fields: dict[str, Any], steps: int) -> tuple[dict[str, Any], list[int]]:
    """A noise schedule of so many steps in all, and the timestep of the given one that each stands for, ascending.

    A chain that visits few timesteps is a chain of its own (Nichol and Dhariwal 2021, section 4): made explicit, every
    scheduler steps between just these, the last of which is timestep 0.
    """
    full = UnCLIPScheduler.from_config(fields)
    full.set_timesteps(steps)
    visited = sorted(full.timesteps.tolist())
    kept = full.alphas_cumprod.double()[visited]
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    own = {
        "num_train_timesteps": steps,
        "trained_betas": betas.clamp_max(1 - 2**-20).tolist(),
        "timestep_spacing": "trailing",
    }
    return fields | own, visited
