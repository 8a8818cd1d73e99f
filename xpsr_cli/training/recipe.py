"""A training recipe: a TOML file whose every key is checked, and ``--set section.key=value`` over it."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from xpsr_cli.errors import UsageError
from xpsr_cli.training.recipe_limits import (
    CHOICES,
    CROP_MULTIPLE_PX,
    RANGES,
    check_prior,
    check_reference,
    check_scorer,
    check_sizes,
    check_tuner,
)

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class DataRecipe:
    """Which crops are drawn, how they are degraded, and what is said of them."""

    crop_px: int
    batch_size: int  # of one process and one accumulation step
    held_out_photos: int  # whole photos, never crops of one photo on both sides
    held_out_ids: list[str]
    degradations: dict[str, float]  # share of each preset: light, xpsr, bicubic
    sharpen_target: bool  # unsharp masking of the target (specs D1)
    clean_condition: float  # probability that the condition is the target itself, with its words (specs D3)
    captions: str  # of the content: words (category and file name), store (of xpsr caption) or none
    high_dropout: float  # empty prompts, for guidance
    low_dropout: float
    negative_probability: float  # blurred targets under the negative prompt
    negative_blur_px: float
    low_phrase_dropout: float = 0.0  # each of blur, noise and compression unsaid, for captions that are not sure
    crops_per_reading: int = 1  # taken of a photo each time it is read; more for archives that memory does not hold


@dataclass(frozen=True)
class MiniModelRecipe:
    """A small model of its own on residual latents: sizes in the words of the networks' ``config.json``."""

    latent_channels: int
    block_size: int
    block_out_channels: list[int]
    layers_per_block: int
    attention_head_dim: int
    norm_num_groups: int
    text_width: int
    text_layers: int
    pyramid_channels: list[int]
    refiner_channels: int
    refiner_blocks: int


@dataclass(frozen=True)
class StableDiffusionRecipe:
    """XPSR on a frozen Stable Diffusion: ControlNet and conditional attention are trained (paper section 4.1)."""

    stable_diffusion: str  # a name of the registry, a folder, or a hub id
    fusion: str  # parallel, serial, high or low
    pyramid_channels: list[int]


@dataclass(frozen=True)
class ExistingModelRecipe:
    """Whatever XPSR model ``--init-from`` names, small or published, trained further."""

    init_from: str  # a name of the registry or a folder; --init-from wins


@dataclass(frozen=True)
class ReferenceRecipe:
    """An add-on that lets a frozen XPSR read a reference (CasSR's idea): the new attention alone is trained."""

    init_from: str  # a name of the registry or a folder; --init-from wins
    form: str  # separate, tokens or fusion
    levels: list[int]  # that read it, 0 being the finest, where a token is a latent cell
    window: int  # cells on a side of a local window; 0 is the whole map
    activators: list[str]  # the first and the second: xpsr, dfc, bicubic or scedit:FOLDER
    activator_steps: int  # of xpsr
    references: dict[str, float]  # share of each kind: first, second, bicubic, degraded, other, none


@dataclass(frozen=True)
class TunerRecipe:
    """A skip tuner that makes references with the frozen UNet of an XPSR (SCEdit): the tuner alone is trained."""

    init_from: str  # a name of the registry or a folder; --init-from wins
    hint_channels: list[int]  # of the convolutions that see the photo, each but the first halves it
    open: bool  # whether the photo is heard from the first step; published tuners begin closed
    activator_steps: int  # that it takes to make a reference


@dataclass(frozen=True)
class PriorModelRecipe:
    """A stage of the pixel cascade that ``xpsr explore`` draws from: sizes in the words of ``config.json``."""

    stage: str  # base: whole pictures; refiner: pictures four times as large, crop by crop
    picture_px: int  # side of the whole picture
    attention_levels: int  # the coarsest ones, where a picture is few tokens
    block_out_channels: list[int]
    layers_per_block: int
    attention_head_dim: int
    norm_num_groups: int


@dataclass(frozen=True)
class ScorerRecipe:
    """The CLIP of that cascade: its text encoder gives both stages their words, all of it scores answers."""

    stage: str  # scorer: the first of a cascade, whose words are used; judge: one that shares nothing with it
    picture_px: int  # side of the pictures it sees
    patch_px: int
    width: int  # of the picture encoder
    layers: int
    attention_head_dim: int
    text_width: int
    text_layers: int


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Stage one of a small model; absent from the recipes of others."""

    fit_crops: int
    steps: int
    learning_rate: float


@dataclass(frozen=True)
class LossRecipe:
    """What is minimised (paper eq. 9); a weight of 0 switches a term off."""

    prediction: str  # v or epsilon
    last_timestep_probability: float  # a few-step sampler lives on its first step
    latent_weight: float  # share of the noise loss in whitened latents; the rest by pixel energy (small models)
    pixel_weight: float  # L1 of the decoded estimate (small models)
    degradation_pixel_weight: float  # lambda of the pixel terms of L_DFC
    degradation_latent_weight: float  # lambda of its latent terms


@dataclass(frozen=True)
class OptimizerRecipe:
    """How it is minimised."""

    steps: int  # optimizer steps
    name: str  # adamw or adamw8bit
    learning_rate: float
    schedule: str  # cosine or constant, after the warm-up
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    accumulation: int  # batches of one optimizer step
    ema_decay: float  # 0 is without
    mixed_precision: str  # no, bf16 or fp16
    gradient_checkpointing: bool


@dataclass(frozen=True)
class OutputRecipe:
    """What a run leaves on its way, counted in optimizer steps; 0 is never."""

    log_steps: int
    validate_steps: int
    save_steps: int
    save_minutes: float
    keep: int  # checkpoints


ModelRecipe = (
    MiniModelRecipe
    | StableDiffusionRecipe
    | ExistingModelRecipe
    | ReferenceRecipe
    | TunerRecipe
    | PriorModelRecipe
    | ScorerRecipe
)


@dataclass(frozen=True)
class Recipe:
    """A whole training run. ``model`` is one of several kinds, told apart by its keys."""

    name: str
    seed: int
    data: DataRecipe
    model: ModelRecipe
    loss: LossRecipe
    optimizer: OptimizerRecipe
    output: OutputRecipe
    autoencoder: AutoencoderRecipe | None = None

    @property
    def photo_px(self) -> int:
        """The smallest side of a photo that can be trained on."""
        if isinstance(self.model, PriorModelRecipe | ScorerRecipe):
            return self.model.picture_px
        return self.data.crop_px


def load_recipe(name_or_file: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by the name of a shipped one or by file, with ``section.key=value`` strings put over it.

    Raises:
        UsageError: no such recipe, broken TOML, a key that is unknown or missing, a value of the wrong type.
    """
    path = Path(name_or_file)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_file}.toml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise UsageError(f"There is no recipe {name_or_file!r}.", f"Name a .toml file or one that ships: {shipped}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"Recipe {path} is not valid TOML: {error}.") from error
    for override in overrides or []:
        _set(values, override)
    recipe = _build(Recipe, values, "")
    _check(recipe)
    return recipe


def _set(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UsageError(f"--set {override!r} has no '='.", "Write it as section.key=value.")
    *sections, leaf = key.strip().split(".")
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        read = {}
    value = read["value"] if read.keys() == {"value"} else text.strip()  # else of several lines, or no TOML
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"--set {override!r}: {section!r} is not a section.")
    values[leaf] = value


def _build(kind: type, values: Any, where: str) -> Any:
    """Fill a dataclass from TOML values; every difference is an error that names the key."""
    if not isinstance(values, dict):
        raise UsageError(f"Recipe key {where.rstrip('.')!r} must be a section, not {values!r}.")
    names = [f.name for f in fields(kind)]
    for key in values:
        if key not in names:
            raise UsageError(
                f"Unknown recipe key {where + key!r}.", f"Allowed: {', '.join(where + n for n in names)}."
            )
    missing = [f.name for f in fields(kind) if f.name not in values and f.default is MISSING]
    if missing:
        raise UsageError(f"Recipe key {where + missing[0]!r} is missing.")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], values[name], where + name) for name in names if name in values})


def _value(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, UnionType):
        kind = _closest([member for member in get_args(kind) if is_dataclass(member)], value)
    if is_dataclass(kind):
        return _build(kind, value, where + ".")  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind in (list[int], list[str]):
        (item_kind,) = get_args(kind)
        if isinstance(value, list) and all(type(item) is item_kind for item in value):
            if item_kind is int and not value:
                raise UsageError(f"Recipe key {where!r} is empty.", "Give one number at least.")
            for item in value:
                _check_range(item, where)
            return value
        raise UsageError(f"Recipe key {where!r} is {value!r}, it must be a list of {item_kind.__name__}.")
    if kind == dict[str, float]:
        return _shares(value, where)
    if type(value) is not kind:
        raise UsageError(f"Recipe key {where!r} is {value!r}, it must be of type {kind.__name__}.")
    if value not in CHOICES.get(where, (value,)):
        raise UsageError(f"Recipe key {where!r} is {value!r}.", f"Allowed: {', '.join(CHOICES[where])}.")
    _check_range(value, where)
    return value


def _check_range(value: Any, where: str) -> None:
    if where in RANGES and not RANGES[where][0] <= value <= RANGES[where][1]:  # which NaN is not, either
        low, high = RANGES[where]
        raise UsageError(f"Recipe key {where!r} is {value!r}.", f"Allowed: {low:.12g} to {high:.12g}.")


def _check(recipe: Recipe) -> None:
    """What no key shows on its own."""
    if not recipe.name.strip() or not recipe.name.isprintable():
        raise UsageError(f"Recipe key 'name' is {recipe.name!r}.", "Give the model a name of one line.")
    crop_px = recipe.data.crop_px
    if crop_px % CROP_MULTIPLE_PX:
        raise UsageError(f"Recipe key 'data.crop_px' is {crop_px}.", f"Give a multiple of {CROP_MULTIPLE_PX}.")
    if isinstance(recipe.model, MiniModelRecipe):
        check_sizes(recipe.model)
    if isinstance(recipe.model, TunerRecipe):
        check_tuner(recipe)
    if isinstance(recipe.model, ReferenceRecipe):
        check_reference(recipe, recipe.model)
    if isinstance(recipe.model, PriorModelRecipe):
        check_prior(recipe, recipe.model)
    if isinstance(recipe.model, ScorerRecipe):
        check_scorer(recipe, recipe.model)
    has_stage_one, wants_it = recipe.autoencoder is not None, isinstance(recipe.model, MiniModelRecipe)
    if has_stage_one != wants_it:
        raise UsageError(
            f"Recipe {recipe.name!r} has {'an' if has_stage_one else 'no'} [autoencoder] section.",
            "A small model of its own needs one, others have none.",
        )


def _closest(kinds: list[Any], value: Any) -> Any:
    """Of several kinds of section the one that shares most keys with ``value``, so that its mistakes are named."""
    keys = set(value) if isinstance(value, dict) else set()
    return max(kinds, key=lambda kind: len(keys & {field.name for field in fields(kind)}))


def _shares(value: Any, where: str) -> dict[str, float]:
    """Shares of a whole by name."""
    numbers = isinstance(value, dict) and all(type(s) in (int, float) and s >= 0 for s in value.values())
    if not numbers or abs(sum(value.values()) - 1) > 1e-6:
        raise UsageError(
            f"Recipe key {where!r} is {value!r}, it must be shares that add up to 1, as in {{xpsr = 1.0}}."
        )
    return {name: float(share) for name, share in value.items()}
