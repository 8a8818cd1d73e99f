"""Where a run starts: the model at step 0, and the note that lets a run that goes on start from the same one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.folders import write_json
from xpsr_cli.models.loading import Components
from xpsr_cli.models.pixel_cascade import PixelCascade
from xpsr_cli.models.reference_loading import KIND as REFERENCE_KIND
from xpsr_cli.models.tuner_loading import KIND as TUNER_KIND
from xpsr_cli.settings import SamplingPreset
from xpsr_cli.training.bases import (
    check_fusion,
    check_prediction,
    find_stable_diffusion,
    from_stable_diffusion,
    from_xpsr,
)
from xpsr_cli.training.build import MINI_PRESET, build_mini, check_sizes, keep_tokenizer, run_tokenizer
from xpsr_cli.training.checkpoint import latest
from xpsr_cli.training.dataset import TrainingPhoto
from xpsr_cli.training.listeners import METRICS
from xpsr_cli.training.plots import PLOT
from xpsr_cli.training.recipe import (
    ExistingModelRecipe,
    MiniModelRecipe,
    PriorModelRecipe,
    Recipe,
    ReferenceRecipe,
    ScorerRecipe,
    StableDiffusionRecipe,
    TunerRecipe,
)
from xpsr_cli.training.reference_networks import with_reference
from xpsr_cli.weights import MODEL_CARD, find_model, load_registry, read_preset

log = logging.getLogger(__name__)

RUN = "run.json"
_MADE = ("model", "validation", METRICS, PLOT)


@dataclass(frozen=True)
class Start:
    """What a run starts from; ``None`` is what the recipe says."""

    init_from: str | None = None  # an XPSR model: a name of the registry, a folder or a hub id
    base: str | None = None  # the Stable Diffusion that it stands on, named alike


def preset_of(recipe: Recipe, start: Start) -> SamplingPreset:
    """How the model will be used, known before it is loaded: as the one it starts from, if there is one."""
    named = start.init_from
    if isinstance(recipe.model, ExistingModelRecipe | ReferenceRecipe | TunerRecipe):
        named = named or recipe.model.init_from
    if named is not None:
        if named not in load_registry():
            _refuse_add_on(Path(named).expanduser())
        return read_preset(find_model(named))
    return MINI_PRESET if isinstance(recipe.model, MiniModelRecipe) else SamplingPreset()


def _refuse_add_on(folder: Path) -> None:
    """An add-on or an activator has no networks of its own: training starts from its base; :class:`WeightsError`."""
    card = read_json(folder / MODEL_CARD) if (folder / MODEL_CARD).is_file() else {}
    kind, base = card.get("kind"), card.get("base")
    if kind in (REFERENCE_KIND, TUNER_KIND):
        raise WeightsError(
            f"{folder} is of kind {kind!r} and belongs to {base}, and a run starts from a whole model.",
            f"Start from {base}, or go on with the run that made it, with --resume.",
        )


def check_output(output: Path, *, resume: bool) -> None:
    """Refuse a folder where a run would go over what is there; :class:`UsageError`."""
    for place in (output, *output.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, and a run needs a folder.", "Name another output folder.")
    if latest(output) is not None:
        if not resume:
            raise UsageError(
                f"{output} already holds a training run.", "Add --resume to go on, or choose another folder."
            )
    elif not (output / RUN).is_file():
        foreign = next((name for name in _MADE if (output / name).exists()), None)
        if foreign is not None:
            raise UsageError(
                f"{output} holds a {foreign} that is of no training run, and this one would replace it.",
                "Name another output folder.",
            )


def remember(
    output: Path,
    recipe: Recipe,
    start: Start,
    model: Components | PixelCascade,
    photos: Sequence[TrainingPhoto] = (),
) -> None:
    """Write down what was asked, and the tokenizer that a small model of its own must keep.

    Where the folder remembers other ``photos`` than these, the log says so: a run goes on with what it is given.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = {"init_from": _lasting(start.init_from), "base": _lasting(start.base)}
    listed = "\n".join(f"{photo.file} {photo.picture.width} {photo.picture.height}" for photo in photos)
    digest = hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()
    if _read(output).get("photos", digest) != digest and latest(output) is not None:
        log.warning("the photos to train on are not those that the run in %s had before", output)
    write_json({"recipe": asdict(recipe), **names, "photos": digest}, output / RUN)
    if isinstance(recipe.model, MiniModelRecipe) and start.init_from is not None:
        keep_tokenizer(model.tokenizer, output / "tokenizer")


def _lasting(name: str | None) -> str | None:
    """A folder by its whole path, anything else as it was named."""
    is_folder = name is not None and name not in load_registry() and Path(name).is_dir()
    return str(Path(name).resolve()) if name is not None and is_folder else name


def remembered(output: Path, start: Start) -> Start:
    """What a run that goes on began with, unless something else is named."""
    before = _read(output)
    return Start(start.init_from or before.get("init_from"), start.base or before.get("base"))


def _read(output: Path) -> dict[str, Any]:
    return read_json(output / RUN) if (output / RUN).is_file() else {}


def starting_model(
    recipe: Recipe, photos: Sequence[TrainingPhoto], output: Path, start: Start, *, resume: bool
) -> Components:
    """The model at step 0; of one that goes on, only what training does not change matters.

    A new small model gets its vocabulary from the texts of ``photos``.
    """
    if isinstance(recipe.model, MiniModelRecipe):
        return _starting_mini(recipe, recipe.model, photos, output, start, resume=resume)
    if isinstance(recipe.model, StableDiffusionRecipe):
        base = start.base or recipe.model.stable_diffusion
        if start.init_from is None:
            folder = find_stable_diffusion(base)
            model = from_stable_diffusion(folder, recipe.model, recipe.name, recipe.seed)
        else:
            model = from_xpsr(start.init_from, base)
            check_fusion(model, recipe.model, start.init_from)
    else:
        assert isinstance(recipe.model, ExistingModelRecipe | ReferenceRecipe | TunerRecipe)
        model = from_xpsr(start.init_from or recipe.model.init_from, start.base)
    if isinstance(recipe.model, ReferenceRecipe):
        model = with_reference(model, recipe.model, recipe.seed)
    elif not isinstance(recipe.model, TunerRecipe):  # whose result belongs to this model, and names it
        model.name = recipe.name
    check_prediction(model.scheduler_config, recipe.loss.prediction, origin(recipe, start))
    return model


def _starting_mini(
    recipe: Recipe,
    sizes: MiniModelRecipe,
    photos: Sequence[TrainingPhoto],
    output: Path,
    start: Start,
    *,
    resume: bool,
) -> Components:
    """A small model of its own keeps its tokenizer in the output folder."""
    tokenizer = output / "tokenizer"
    if start.init_from is None or (resume and tokenizer.is_dir()):
        words = run_tokenizer(tokenizer, photos, recipe.data.captions)
        model = build_mini(sizes, words, recipe.name, recipe.seed)
        model.preset = preset_of(recipe, start)
        return model
    model = from_xpsr(start.init_from, None)
    check_sizes(model, sizes, start.init_from)
    model.name = recipe.name
    return model


def origin(recipe: Recipe, start: Start) -> str:
    """What the model was made of, without the folders of this machine."""
    if isinstance(recipe.model, MiniModelRecipe | PriorModelRecipe | ScorerRecipe):
        name = start.init_from or "random weights"
    elif isinstance(recipe.model, StableDiffusionRecipe):
        name = start.init_from or start.base or recipe.model.stable_diffusion
    else:
        name = start.init_from or recipe.model.init_from
    return "/".join(part for part in Path(name).parts[-2:] if part != Path(name).anchor)
