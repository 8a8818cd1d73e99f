"""The networks of a pixel cascade in training, fresh or from a model that is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPTextModel

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.folders import check_shapes
from xpsr_cli.models.pixel_cascade import BASE, REFINER, SCORER, PixelCascade, StageCard, load_parts, save_parts
from xpsr_cli.training.build import run_tokenizer
from xpsr_cli.training.detail_words import DETAIL_WORDS
from xpsr_cli.training.export import copied, tokenizer_errors
from xpsr_cli.training.networks import Networks
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe, ScorerRecipe
from xpsr_cli.training.scorer import ScorerNetworks, build_scorer
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
    """Text encoder and UNet of one stage. The UNet alone is trained: the words are those of the cascade's scorer."""

    part_names = ("text_encoder", "unet")
    recomputed = ("unet",)

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, stage: str) -> None:
        super().__init__()
        self.text_encoder = text_encoder.requires_grad_(False)
        self.unet = unet.requires_grad_(True)
        self.stage = stage


class PriorExport:
    """Writes a cascade with the network in training in its place, in half precision.

    Made before training moves them to a device and coarser numbers: of what it does not change it keeps a copy.
    """

    def __init__(self, model: PixelCascade, networks: PriorNetworks | ScorerNetworks) -> None:
        self._model = model
        self._networks = networks
        parts: dict[str, nn.Module] = {"text_encoder": model.text_encoder, **model.unets, **model.scorers}
        changed = {networks.stage, *(["text_encoder"] if networks.stage == SCORER else [])}
        self._frozen = {name: copied(part, torch.float16) for name, part in parts.items() if name not in changed}

    def __call__(self, folder: Path) -> None:
        """Write ``folder`` as the networks now are."""
        trained: nn.Module
        if isinstance(self._networks, PriorNetworks):
            trained = copied(self._networks.unet, torch.float16)
        else:
            trained = copied(self._networks.scorer, torch.float16)
        parts = {**self._frozen, self._networks.stage: trained}
        if self._networks.stage == SCORER:
            parts["text_encoder"] = text_encoder_of(trained)
        with tokenizer_errors():
            save_parts(folder, self._model, parts)


def networks_of(model: PixelCascade, stage: str) -> PriorNetworks | ScorerNetworks:
    """What is trained at a stage."""
    if stage in model.scorers:
        return ScorerNetworks(model.scorers[stage], stage)
    return PriorNetworks(model.text_encoder, model.unets[stage], stage)


def text_encoder_of(scorer: CLIPModel) -> CLIPTextModel:
    """A scorer's text encoder on its own, in its precision."""
    encoder = CLIPTextModel(scorer.config.text_config).to(scorer.dtype)
    encoder.load_state_dict(scorer.text_model.state_dict())
    return encoder


def starting_prior(
    recipe: Recipe,
    sizes: PriorModelRecipe | ScorerRecipe,
    photos: Sequence[TrainingPhoto],
    output: Path,
    init_from: str | None,
) -> PixelCascade:
    """The cascade at step 0.

    A scorer begins with random weights and the words of ``photos``. All else needs ``init_from``, a cascade that has
    one, and joins it; what is there already is trained further.

    Raises:
        UsageError: another stage without a scorer.
        WeightsError: the cascade cannot be read, or has other sizes.
    """
    if init_from is None:
        if not isinstance(sizes, ScorerRecipe) or sizes.stage != SCORER:
            raise UsageError(
                f"A {sizes.stage} needs the words of a scorer.",
                "Name a model that has one with --init-from SCORER_RUN/model.",
            )
        return _new_cascade(recipe, sizes, photos, output)
    model = load_parts(Path(init_from))
    model.name = recipe.name
    stage, fresh = sizes.stage, _fresh(recipe, sizes, model)
    there: Mapping[str, nn.Module] = model.scorers if isinstance(sizes, ScorerRecipe) else model.unets
    if stage in there:
        _check_same(fresh, there[stage], init_from)
    elif isinstance(fresh, CLIPModel):
        model.scorers[stage] = fresh
    else:
        model.unets[stage] = fresh
        level = _NOISE_LEVEL if stage == REFINER else 0
        model.cards[stage] = StageCard(sizes.picture_px, _STEPS[stage], _GUIDANCE[stage], level)
    return model


def _new_cascade(recipe: Recipe, sizes: ScorerRecipe, photos: Sequence[TrainingPhoto], output: Path) -> PixelCascade:
    tokenizer = run_tokenizer(output / "tokenizer", photos, recipe.data.captions, [*CATEGORIES, *DETAIL_WORDS])
    scorer = build_scorer(sizes, tokenizer, recipe.seed)
    words = vocabulary(photos) if recipe.data.captions == "words" else []
    schedule = dict(SCHEDULER_CONFIG)
    return PixelCascade(recipe.name, tokenizer, text_encoder_of(scorer), {}, {}, schedule, words, {SCORER: scorer})


def _fresh(
    recipe: Recipe, sizes: PriorModelRecipe | ScorerRecipe, model: PixelCascade
) -> CLIPModel | UNet2DConditionModel:
    if isinstance(sizes, ScorerRecipe):
        return build_scorer(sizes, model.tokenizer, recipe.seed)
    torch.manual_seed(recipe.seed)
    return build_unet(sizes, model.text_encoder.config.hidden_size)


def vocabulary(photos: Iterable[TrainingPhoto]) -> list[str]:
    """The words that photos are trained with: their categories, then those for detail."""
    there = {photo.category for photo in photos}
    categories = [category for category in CATEGORIES if category in there]
    return [*categories, *(["photo"] if categories else []), *DETAIL_WORDS]  # as in "a photo of water"


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
