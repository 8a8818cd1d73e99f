"""A pixel cascade and its folder: text encoder, a base that draws small pictures, a refiner that enlarges them.

The form of Imagen and DeepFloyd IF at small size. ``base/`` and ``refiner/`` are diffusers' ``UNet2DConditionModel``;
the refiner takes its noisy picture and the enlarged smaller one as six channels. ``scorer/`` and ``judge/`` are
transformers' ``CLIPModel``: the text encoder is the scorer's, the judge shares nothing with it. ``xpsr.json`` says how
they are used, and which words they know.
"""

# shapes: B batch, L text tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.folders import CONFIG, weights_file, write_json
from xpsr_cli.models.loading import SCHEDULER, TEXT_WEIGHTS, load_pretrained, load_tokenizer, no_progress_bar
from xpsr_cli.weights import MODEL_CARD

KIND = "pixel-cascade"
BASE, REFINER = "base", "refiner"
SCORER, JUDGE = "scorer", "judge"


@dataclass(frozen=True)
class StageCard:
    """How a stage is used."""

    picture_px: int  # side of the pictures that it was trained on
    steps: int
    guidance_scale: float
    noise_level: int = 0  # timestep to which a refiner's enlarged picture is noised


@dataclass
class PixelCascade:
    """A loaded cascade; one in training may lack any stage and any scorer."""

    name: str
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unets: dict[str, UNet2DConditionModel]  # by stage
    cards: dict[str, StageCard]  # by stage
    scheduler_config: dict[str, Any]
    vocabulary: Sequence[str]
    scorers: dict[str, CLIPModel] = field(default_factory=dict)  # scorer and judge
    weights_files: tuple[Path, ...] = field(default=())


def is_cascade(folder: Path) -> bool:
    """Whether the card of a folder says that it is one."""
    return (folder / MODEL_CARD).is_file() and read_json(folder / MODEL_CARD).get("kind") == KIND


def conditions(
    stage: str, text_encoder: CLIPTextModel, tokens: Tensor, levels: Tensor | None = None
) -> dict[str, Tensor]:
    """What the UNet of a stage is told beside its picture, by the names of its arguments.

    Args:
        stage: the base or the refiner.
        tokens: (B, L) of the texts. Those behind the end of a text are not attended to: they would drown its words.
        levels: (B,) timesteps to which a refiner's enlarged pictures were noised.

    Returns:
        The words, and as ``class_labels`` those levels or, for a base, the text as one vector.
    """
    encoded = text_encoder(tokens)
    ends = (tokens == text_encoder.config.eos_token_id).long()
    text = ends.cumsum(1) - ends == 0  # as far as the first end
    told = {
        # a refiner's first attention, which is to words as well, heeds no mask: let it see the end again and again
        "encoder_hidden_states": torch.where(
            text[..., None], encoded.last_hidden_state, encoded.pooler_output[:, None]
        ),
        "encoder_attention_mask": text,
    }
    if stage == BASE:
        return {**told, "class_labels": encoded.pooler_output}
    assert levels is not None
    return {**told, "class_labels": levels}


def load_parts(folder: Path) -> PixelCascade:
    """The cascade in ``folder``, its networks in fp32, in eval mode and without gradients.

    Raises:
        WeightsError: it is none, or something is missing, damaged or of another shape.
    """
    card = read_json(folder / MODEL_CARD)
    if card.get("kind") != KIND:
        raise WeightsError(f"{folder} is no pixel cascade.", f"Its {MODEL_CARD} would say kind {KIND}.")
    try:
        cards = {stage: StageCard(**values) for stage, values in card["stages"].items()}
        vocabulary = [str(word) for word in card["vocabulary"]]
        scorers = [str(name) for name in card.get("scorers", ())]
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder / MODEL_CARD} does not describe a pixel cascade: {error}.", "Fetch the weights again."
        ) from error
    for name, allowed in ((", ".join(cards), (BASE, REFINER)), (", ".join(scorers), (SCORER, JUDGE))):
        if name and not set(name.split(", ")) <= set(allowed):
            raise WeightsError(f"{folder / MODEL_CARD} names {name}.", f"Known are {' and '.join(allowed)}.")
    text_encoder = load_pretrained(CLIPTextModel, folder / "text_encoder")
    unets = {stage: _load_unet(folder / stage, stage) for stage in cards}
    clips = {name: load_pretrained(CLIPModel, folder / name) for name in scorers}
    for network in (text_encoder, *unets.values(), *clips.values()):
        network.eval().requires_grad_(False)
    return PixelCascade(
        name=str(card.get("name", folder.resolve().name)),
        tokenizer=load_tokenizer(folder / "tokenizer", text_encoder),
        text_encoder=text_encoder,
        unets=unets,
        cards=cards,
        scheduler_config=read_json(folder / "scheduler" / SCHEDULER),
        vocabulary=vocabulary,
        scorers=clips,
        weights_files=(
            weights_file(folder / "text_encoder", TEXT_WEIGHTS),
            *(weights_file(folder / stage) for stage in cards),
            *(weights_file(folder / name, TEXT_WEIGHTS) for name in scorers),
        ),
    )


def save_parts(folder: Path, cascade: PixelCascade, networks: Mapping[str, nn.Module] | None = None) -> None:
    """Write a folder that :func:`load_parts` reads; dtypes are kept.

    ``networks`` by folder name stand in for those of ``cascade``.
    """
    parts: dict[str, Any] = {"text_encoder": cascade.text_encoder, **cascade.unets, **cascade.scorers}
    parts |= networks or {}
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    cascade.tokenizer.save_pretrained(folder / "tokenizer")
    with no_progress_bar():
        for name, network in parts.items():
            network.save_pretrained(folder / name)
            config = read_json(folder / name / CONFIG)
            if config.pop("_name_or_path", None) is not None:  # a folder of this machine
                write_json(config, folder / name / CONFIG)
    write_json(cascade.scheduler_config, folder / "scheduler" / SCHEDULER)
    card = {
        "kind": KIND,
        "name": cascade.name,
        "stages": {stage: asdict(card) for stage, card in cascade.cards.items()},
        "scorers": list(cascade.scorers),
        "vocabulary": list(cascade.vocabulary),
    }
    write_json(card, folder / MODEL_CARD)


def _load_unet(folder: Path, stage: str) -> UNet2DConditionModel:
    channels = read_json(folder / CONFIG).get("in_channels")
    wanted = 6 if stage == REFINER else 3
    if channels != wanted:
        raise WeightsError(
            f"{folder / CONFIG} has {channels} input channels instead of {wanted}.",
            "The folder belongs to another model.",
        )
    weights_file(folder)
    return load_pretrained(UNet2DConditionModel, folder, low_cpu_mem_usage=False)
