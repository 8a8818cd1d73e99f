"""The networks of a stage of a pixel cascade in training, fresh or from a model that is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.folders import check_shapes
from xpsr_cli.models.pixel_cascade import BASE, REFINER, PixelCascade, StageCard, load_parts, save_parts
from xpsr_cli.training.build import build_text_encoder, run_tokenizer
from xpsr_cli.training.export import copied, tokenizer_errors
from xpsr_cli.training.networks import Networks
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe
from xpsr_cli.training.words import CATEGORIES

if TYPE_CHECKING:
    from xpsr_cli.training.dataset import TrainingPhoto

SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",  # that of Nichol and Dhariwal 2021, which IF has too
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,  # the last timestep is pure noise, as sampling starts
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
}
_STEPS, _GUIDANCE = {BASE: 40, REFINER: 12}, {BASE: 3.0, REFINER: 1.0}
_NOISE_LEVEL = 100


class PriorNetworks(Networks):
    """Text encoder and UNet of one stage. A base trains both; a refiner leaves the text encoder as its base has it."""

    part_names = ("text_encoder", "unet")
    recomputed = ("unet",)

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, stage: str) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.stage = stage
        self.unet.requires_grad_(True)
        self.text_encoder.requires_grad_(stage == BASE)


class PriorExport:
    """Writes a cascade with the networks in training in their place, in half precision.

    Made before training moves them to a device and coarser numbers: of what it does not change it keeps a copy.
    """

    def __init__(self, model: PixelCascade, networks: PriorNetworks) -> None:
        self._model = model
        self._networks = networks
        frozen: dict[str, nn.Module] = {stage: unet for stage, unet in model.unets.items() if stage != networks.stage}
        if networks.stage != BASE:
            frozen["text_encoder"] = model.text_encoder
        self._frozen = {name: copied(network, torch.float16) for name, network in frozen.items()}

    def __call__(self, folder: Path) -> None:
        """Write ``folder`` as the networks now are."""
        parts = {**self._frozen, self._networks.stage: copied(self._networks.unet, torch.float16)}
        if self._networks.stage == BASE:
            parts["text_encoder"] = copied(self._networks.text_encoder, torch.float16)
        with tokenizer_errors():
            save_parts(folder, self._model, parts)


def starting_prior(
    recipe: Recipe, sizes: PriorModelRecipe, photos: Sequence[TrainingPhoto], output: Path, init_from: str | None
) -> PixelCascade:
    """The cascade at step 0.

    A base begins with random weights and the words of ``photos``, unless ``init_from`` is a cascade to go on from. A
    refiner needs one: with its base it becomes a whole cascade.

    Raises:
        UsageError: a refiner without a base.
        WeightsError: the cascade cannot be read, or has other sizes.
    """
    card = StageCard(
        sizes.picture_px, _STEPS[sizes.stage], _GUIDANCE[sizes.stage], _NOISE_LEVEL if sizes.stage == REFINER else 0
    )
    if init_from is None:
        if sizes.stage == REFINER:
            raise UsageError(
                "A refiner needs the words of a base.", "Name a trained one with --init-from BASE_RUN/model."
            )
        tokenizer = run_tokenizer(output / "tokenizer", photos, recipe.data.captions)
        text_encoder, unet = build_prior(sizes, tokenizer, recipe.seed)
        words = vocabulary(photos) if recipe.data.captions == "words" else []
        return PixelCascade(
            recipe.name, tokenizer, text_encoder, {BASE: unet}, {BASE: card}, dict(SCHEDULER_CONFIG), words
        )
    model = load_parts(Path(init_from))
    model.name = recipe.name
    torch.manual_seed(recipe.seed)
    fresh = build_unet(sizes, model.text_encoder.config.hidden_size)
    if sizes.stage in model.unets:
        _check_same(fresh, model.unets[sizes.stage], init_from)
    else:
        model.unets[sizes.stage] = fresh
        model.cards[sizes.stage] = card
    return model


def vocabulary(photos: Iterable[TrainingPhoto]) -> list[str]:
    """The words that photos are trained with: their categories, then those of file names that two photographs share.

    What stands in a single name is as often a number or somebody's name, and nothing is learnt from it.
    """
    photos = list(photos)
    categories = [category for category in CATEGORIES if any(photo.category == category for photo in photos)]
    names = {(word, photo.photo_id) for photo in photos for word in photo.name.split()}
    counts = Counter(word for word, _ in names)
    known = [*categories, *(["photo"] if categories else [])]  # as in "a photo of water"
    return [*known, *sorted(word for word, count in counts.items() if count > 1 and word not in known)]


def build_prior(
    sizes: PriorModelRecipe, tokenizer: CLIPTokenizer, seed: int
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Text encoder and UNet with random weights from ``seed``."""
    torch.manual_seed(seed)
    return build_text_encoder(sizes, tokenizer), build_unet(sizes, sizes.text_width)


def build_unet(sizes: PriorModelRecipe, text_width: int) -> UNet2DConditionModel:
    """A UNet with random weights. A refiner attends to words alone, so that it may see a picture in parts."""
    levels = len(sizes.block_out_channels)
    attends = [level >= levels - sizes.attention_levels for level in range(levels)]
    refines = sizes.stage == REFINER
    return UNet2DConditionModel(
        in_channels=6 if refines else 3,
        out_channels=3,
        sample_size=sizes.picture_px,
        block_out_channels=tuple(sizes.block_out_channels),
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        layers_per_block=sizes.layers_per_block,
        attention_head_dim=sizes.attention_head_dim,  # number of heads, as in Stable Diffusion 1.5
        norm_num_groups=sizes.norm_num_groups,
        cross_attention_dim=text_width,
        only_cross_attention=refines,
        class_embed_type="timestep" if refines else "projection",
        projection_class_embeddings_input_dim=None if refines else text_width,
    )


def _check_same(wanted: nn.Module, found: nn.Module, source: str) -> None:
    shapes, there = ({key: tuple(value.shape) for key, value in unet.state_dict().items()} for unet in (wanted, found))
    try:
        check_shapes(shapes, there, Path(source))
    except WeightsError as error:
        raise WeightsError(
            error.message.replace("its config.json", "the recipe"), "Start from a model of the recipe's own sizes."
        ) from None
