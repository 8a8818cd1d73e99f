"""A training recipe: a TOML file whose every key is checked, and ``--set section.key=value`` over it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from xpsr_cli.errors import UsageError

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class DataRecipe:
    """Which crops are drawn and how they are degraded."""

    crop_px: int
    batch_size: int
    held_out_photos: int
    held_out_ids: list[str]
    second_order_probability: float


@dataclass(frozen=True)
class ModelRecipe:
    """Sizes of the networks, in the words of their ``config.json``."""

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
class AutoencoderRecipe:
    """Stage one."""

    fit_crops: int
    steps: int
    learning_rate: float


@dataclass(frozen=True)
class DiffusionRecipe:
    """Stage two; each key is explained in ``recipes/xpsr-mini.toml``."""

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    ema_decay: float
    last_timestep_probability: float
    high_dropout: float
    low_dropout: float
    negative_probability: float
    negative_blur_px: float
    pixel_weight: float
    latent_weight: float
    degradation_weight: float
    save_minutes: float


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    name: str
    seed: int
    data: DataRecipe
    model: ModelRecipe
    autoencoder: AutoencoderRecipe
    diffusion: DiffusionRecipe


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
    return _build(Recipe, values, "")


def _set(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UsageError(f"--set {override!r} has no '='.", "Write it as section.key=value.")
    *sections, leaf = key.strip().split(".")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
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
    missing = [name for name in names if name not in values]
    if missing:
        raise UsageError(f"Recipe key {where + missing[0]!r} is missing.")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], values[name], where + name) for name in names})


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _build(kind, value, where + ".")  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (list[int], list[str]):
        (item_kind,) = get_args(kind)
        if isinstance(value, list) and all(type(item) is item_kind for item in value):
            return value
        raise UsageError(f"Recipe key {where!r} is {value!r}, it must be a list of {item_kind.__name__}.")
    if type(value) is not kind:
        raise UsageError(f"Recipe key {where!r} is {value!r}, it must be of type {kind.__name__}.")
    return value
