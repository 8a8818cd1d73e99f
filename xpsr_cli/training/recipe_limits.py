"""What the keys of a recipe take: words, numbers, and for small models sizes that fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpsr_cli.errors import UsageError

if TYPE_CHECKING:
    from xpsr_cli.training.recipe import MiniModelRecipe, PriorModelRecipe, Recipe, ReferenceRecipe, ScorerRecipe

CHOICES = {
    "data.captions": ("words", "store", "none"),
    "loss.prediction": ("v", "epsilon"),
    "model.stage": ("base", "refiner", "scorer", "judge"),
    "model.form": ("separate", "tokens", "fusion"),
    "model.fusion": ("parallel", "serial", "high", "low"),
    "optimizer.name": ("adamw", "adamw8bit"),
    "optimizer.schedule": ("cosine", "constant"),
    "optimizer.mixed_precision": ("no", "bf16", "fp16"),
}
"""The words that a key takes."""
ACTIVATORS = ("xpsr", "dfc", "bicubic")
"""What makes references, beside the skip tuner of a folder (``scedit:FOLDER``)."""
TUNER_PREFIX = "scedit:"
REFERENCES = ("none", "other", "degraded", "bicubic", "second", "first")
"""What a reference may be in training: none at all, that of another picture, the large photo lightly degraded, the
enlarged small one, or what one of the two activators makes."""

_MANY = 10**9
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "data.crop_px": (16, 4096),
    "data.batch_size": (1, 4096),
    "data.held_out_photos": (0, _MANY),
    "data.clean_condition": (0, 1),
    "data.high_dropout": (0, 1),
    "data.low_dropout": (0, 1),
    "data.low_phrase_dropout": (0, 1),
    "data.negative_probability": (0, 1),
    "data.negative_blur_px": (0.1, 10),
    "data.crops_per_reading": (1, 1024),
    "model.levels": (0, 15),
    "model.window": (0, 64),
    "model.hint_channels": (1, 8192),
    "model.activator_steps": (1, 1000),
    "model.picture_px": (16, 1024),
    "model.attention_levels": (1, 8),
    "model.patch_px": (1, 1024),
    "model.width": (1, 8192),
    "model.layers": (1, 128),
    "model.latent_channels": (1, 4096),
    "model.block_size": (1, 64),
    "model.block_out_channels": (1, 8192),
    "model.layers_per_block": (1, 64),
    "model.attention_head_dim": (1, 1024),
    "model.norm_num_groups": (1, 8192),
    "model.text_width": (1, 8192),
    "model.text_layers": (1, 128),
    "model.pyramid_channels": (1, 8192),
    "model.refiner_channels": (1, 8192),
    "model.refiner_blocks": (0, 1024),
    "autoencoder.fit_crops": (1, _MANY),
    "autoencoder.steps": (1, _MANY),
    "autoencoder.learning_rate": (0, 1),
    "loss.last_timestep_probability": (0, 1),
    "loss.latent_weight": (0, 1),
    "loss.pixel_weight": (0, _MANY),
    "loss.degradation_pixel_weight": (0, _MANY),
    "loss.degradation_latent_weight": (0, _MANY),
    "optimizer.steps": (1, _MANY),
    "optimizer.learning_rate": (0, 1),
    "optimizer.warmup_steps": (0, _MANY),
    "optimizer.weight_decay": (0, 1),
    "optimizer.max_grad_norm": (1e-6, _MANY),
    "optimizer.accumulation": (1, 4096),
    "optimizer.ema_decay": (0, 0.999999),
    "output.log_steps": (0, _MANY),
    "output.validate_steps": (0, _MANY),
    "output.save_steps": (0, _MANY),
    "output.save_minutes": (0, _MANY),
    "output.keep": (1, _MANY),
}
"""The lowest and highest number that a key takes, or every number in its list."""
CROP_MULTIPLE_PX = 8
"""Crops are whole latent cells, of the largest there are."""


def check_sizes(model: MiniModelRecipe) -> None:
    """Refuse sizes of a small model of which no networks can be built; :class:`UsageError`."""
    _check_widths(model)
    _check_heads("model.text_width", model.text_width, model.attention_head_dim)
    most = 3 * model.block_size**2
    if model.latent_channels > most:
        raise UsageError(
            f"Recipe key 'model.latent_channels' is {model.latent_channels}, but a block of {model.block_size} x"
            f" {model.block_size} pixels has {most} values.",
            f"Give {most} or fewer.",
        )
    halvings = len(model.pyramid_channels) - 1
    if 2**halvings != model.block_size:
        raise UsageError(
            f"Recipe key 'model.pyramid_channels' has {halvings + 1} entries, which make photos {2**halvings} times"
            f" smaller, but model.block_size is {model.block_size}.",
            "Each entry after the first one halves them.",
        )


_UNUSED: dict[str, Any] = {
    "data.degradations": {"bicubic": 1.0},
    "data.sharpen_target": False,
    "data.clean_condition": 0,
    "data.low_dropout": 0,
    "data.low_phrase_dropout": 0,
    "data.negative_probability": 0,
    "data.crops_per_reading": 1,
    "loss.last_timestep_probability": 0,
    "loss.latent_weight": 1,
    "loss.pixel_weight": 0,
    "loss.degradation_pixel_weight": 0,
    "loss.degradation_latent_weight": 0,
    "loss.prediction": "v",
    "output.validate_steps": 0,
}
"""What a prior has no choice of, and what its recipe therefore says."""
_UNUSED_BY_REFERENCES: dict[str, Any] = {
    "loss.degradation_pixel_weight": 0,
    "loss.degradation_latent_weight": 0,
}
"""What an add-on has no choice of: the heads are frozen."""


def check_prior(recipe: Recipe, model: PriorModelRecipe) -> None:
    """Refuse what a stage of a cascade cannot be, and settings that it would not heed; :class:`UsageError`."""
    _check_stage(model.stage, ("base", "refiner"))
    _check_unused(recipe)
    _check_widths(model)
    levels, side, crop = len(model.block_out_channels), model.picture_px, recipe.data.crop_px
    if model.attention_levels > levels:
        raise UsageError(
            f"Recipe key 'model.attention_levels' is {model.attention_levels}, but there are {levels} levels.",
            f"Give {levels} or fewer.",
        )
    if side % 2 ** (levels - 1) or crop % 2 ** (levels - 1):
        raise UsageError(
            f"Pictures of {side} pixels and crops of {crop} cannot be halved {levels - 1} times.",
            f"Give multiples of {2 ** (levels - 1)}.",
        )
    if crop > side or (model.stage == "base" and crop < side):
        raise UsageError(
            f"Recipe key 'data.crop_px' is {crop}, and model.picture_px is {side}.",
            "A base stage trains on whole pictures, a refiner on crops of them.",
        )


def check_reference(recipe: Recipe, model: ReferenceRecipe) -> None:
    """Refuse references that cannot be made, and settings that would not be heeded; :class:`UsageError`."""
    named = [name for name in model.activators if name == TUNER_PREFIX or not name.startswith(TUNER_PREFIX)]
    for key, given, words in (("activators", named, ACTIVATORS), ("references", model.references, REFERENCES)):
        for word in given:
            if word not in words:
                more = f", {TUNER_PREFIX}FOLDER" if words is ACTIVATORS else ""
                raise UsageError(f"Recipe key 'model.{key}' names {word!r}.", f"Allowed: {', '.join(words)}{more}.")
    if sum(name.startswith(TUNER_PREFIX) for name in model.activators) > 1:
        raise UsageError("Recipe key 'model.activators' names two skip tuners.", "Name one, and another activator.")
    wanted = 2 if model.references.get("second", 0) > 0 else 1
    if not wanted <= len(model.activators) <= 2:
        raise UsageError(
            f"Recipe key 'model.activators' has {len(model.activators)} entries, and model.references wants {wanted}.",
            "Name the first activator, and a second one if it has a share.",
        )
    if model.window and model.form != "separate":
        raise UsageError(
            f"Recipe key 'model.window' is {model.window}, which the form {model.form} does not heed.",
            "Set model.window=0, or model.form=separate.",
        )
    if model.references.get("other", 0) > 0 and recipe.data.batch_size == 1:
        raise UsageError("A batch of one has no reference of another picture.", "Give data.batch_size 2 or more.")
    _check_only(recipe, _UNUSED_BY_REFERENCES, "an add-on that reads references")


def check_tuner(recipe: Recipe) -> None:
    """Refuse settings that a skip tuner would not heed; :class:`UsageError`."""
    _check_only(recipe, _UNUSED_BY_REFERENCES, "a skip tuner")


def check_scorer(recipe: Recipe, model: ScorerRecipe) -> None:
    """Refuse what a scorer cannot be, and settings that it would not heed; :class:`UsageError`."""
    _check_stage(model.stage, ("scorer", "judge"))
    _check_unused(recipe)
    if recipe.data.crop_px != model.picture_px or model.picture_px % model.patch_px:
        raise UsageError(
            f"A scorer sees whole pictures: data.crop_px is {recipe.data.crop_px}, model.picture_px {model.picture_px}"
            f" and model.patch_px {model.patch_px}.",
            "Give the first two the same value, a multiple of the third.",
        )
    for key in ("width", "text_width"):
        _check_heads(f"model.{key}", getattr(model, key), model.attention_head_dim)


def _check_stage(stage: str, stages: tuple[str, str]) -> None:
    """A word that another kind of model takes is none for this one."""
    if stage not in stages:
        raise UsageError(f"Recipe key 'model.stage' is {stage!r}.", f"With these sizes it is {' or '.join(stages)}.")


def _check_unused(recipe: Recipe) -> None:
    _check_only(recipe, _UNUSED, "a model for xpsr explore")


def _check_only(recipe: Recipe, only_values: dict[str, Any], what: str) -> None:
    for key, only in only_values.items():
        section, name = key.split(".")
        value = getattr(getattr(recipe, section), name)
        if value != only:
            raise UsageError(
                f"Recipe key {key!r} is {value!r}, which {what} does not heed.",
                f"Set it to {only!r}.",
            )


def _check_heads(key: str, width: int, heads: int) -> None:
    if width % heads:
        raise UsageError(
            f"Recipe key {key!r} is {width}, which model.attention_head_dim = {heads} does not divide.",
            f"Give a multiple of {heads}.",
        )


def _check_widths(model: MiniModelRecipe | PriorModelRecipe) -> None:
    heads, groups = model.attention_head_dim, model.norm_num_groups
    for width in model.block_out_channels:
        if width % groups or width % heads:
            key, parts = ("norm_num_groups", groups) if width % groups else ("attention_head_dim", heads)
            raise UsageError(
                f"Recipe key 'model.block_out_channels' has {width}, which model.{key} = {parts} does not divide.",
                f"Give multiples of {parts}.",
            )
