"""``xpsr train``: from a recipe and photos to a model folder, with everything a run leaves on its way.

An output folder holds ``model/`` (for ``--model``), ``checkpoints/``, ``metrics.jsonl``, ``losses.png``, a sheet of
pictures per validation in ``validation/``, ``tensorboard/``, ``run.json`` (what was asked) and, of a new small model,
``tokenizer/``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from xpsr_cli.errors import UsageError
from xpsr_cli.models.loading import Components
from xpsr_cli.models.pixel_cascade import PixelCascade
from xpsr_cli.training.checkpoint import recover
from xpsr_cli.training.dataset import LeftOut, TrainingPairs, TrainingPhoto, read_source, split_photos
from xpsr_cli.training.export import export_model, frozen_parts
from xpsr_cli.training.held_out import HeldOut, hold_out
from xpsr_cli.training.listeners import Row
from xpsr_cli.training.looks import ReferenceLook, TunerLook
from xpsr_cli.training.loop import Listener, Trainer
from xpsr_cli.training.networks import Networks, TrainedNetworks
from xpsr_cli.training.preview import check_picture, draw_pairs, save_picture
from xpsr_cli.training.prior_networks import PriorExport, networks_of, starting_prior
from xpsr_cli.training.prior_pictures import PriorPictures
from xpsr_cli.training.processes import make_accelerator
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe, ReferenceRecipe, ScorerRecipe, TunerRecipe
from xpsr_cli.training.records import Records, named_left_out, tell_left_out
from xpsr_cli.training.reference_networks import ReferenceExport, ReferenceNetworks, trained_activator
from xpsr_cli.training.references import ReferencePairs
from xpsr_cli.training.splits import without_copies
from xpsr_cli.training.starts import Start, check_output, origin, preset_of, remember, remembered, starting_model
from xpsr_cli.training.tuner_networks import TunerExport, TunerNetworks, starting_tuner
from xpsr_cli.training.validation import Look, look_at_model

log = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    data: Path | Sequence[Path],
    output: Path,
    *,
    resume: bool | Path = False,
    init_from: str | Path | None = None,
    base: str | Path | None = None,
    minutes: float | None = None,
    device: str = "auto",
    captions: Mapping[str, str] | None = None,
    listener: Listener | None = None,
    tell: Callable[[Row], None] | None = None,
) -> bool:
    """Train ``recipe`` on the photos in ``data``. Each process of a launcher calls this; only the main one writes.

    Args:
        recipe: what to train.
        data: large photos, at least the recipe's crop size: one source or several.
        output: receives everything.
        resume: go on from the last checkpoint, or from the one in this folder; without it an output folder that holds
            a run is refused. A run without a checkpoint begins.
        init_from: an XPSR model to start from; of the recipe's sizes, if the recipe says any.
        base: the Stable Diffusion to stand on instead of the recipe's.
        minutes: save and stop after this long; None trains to the end.
        device: what to train on; ``auto`` is the best one there is, of a launcher's process its own.
        captions: what is in a photo by the SHA-256 of its file, for recipes with ``data.captions = "store"``.
        listener: hears of the run instead of the log.
        tell: hears every object of ``metrics.jsonl``.

    Returns:
        Whether the recipe was trained to its end.

    Raises:
        UsageError: ``output`` already holds a run or something else, or there are no photos that are large enough.
        PhotoError: no photo could be read.
        WeightsError: a model that is not there, is damaged or does not fit.
    """
    started = time.monotonic()
    accelerator = make_accelerator(recipe, device)
    with accelerator.main_process_first():  # what the main one repairs or writes, the others find
        recover(output)
    check_output(output, resume=bool(resume))
    start = Start(_given(init_from), _given(base))
    start = remembered(output, start) if resume else start
    photos = _photos(data, recipe, output)
    pairs = _pairs(photos.training, recipe, start, captions)
    with accelerator.main_process_first():
        model, networks, export = _model(recipe, pairs.photos, output, start, resume=bool(resume))
    trainer = Trainer(
        recipe=recipe,
        networks=networks,
        tokenizer=model.tokenizer,
        pairs=pairs,
        scheduler_config=model.scheduler_config,
        output=output,
        export=export,
        accelerator=accelerator,
        deadline=math.inf if minutes is None else started + 60 * minutes,
    )
    if start.init_from is not None and recipe.autoencoder is not None:
        trainer.skip_autoencoder()
    if resume and trainer.resume(None if resume is True else resume) is None:
        log.info("%s holds no checkpoint yet: the run begins", output)
    if not accelerator.is_main_process:
        return trainer.run()
    remember(output, recipe, start, model, photos.training)
    shown = hold_out(photos.held_out, recipe, captions) if recipe.output.validate_steps else []
    records = Records(trainer, shown, _look(trainer, model, shown), listener, tell)
    try:
        finished = trainer.run()
    finally:
        records.plot()
        left_out = [*photos.left_out, *pairs.unreadable()]
        tell_left_out(left_out)
    counts = f"{len(photos.training)} to train on, {len(photos.held_out)} held out"
    facts = {"photos": counts, "left out": named_left_out(left_out), "starts from": origin(recipe, start)}
    records.finish(finished, {about: fact for about, fact in facts.items() if fact})
    return finished


def preview(
    recipe: Recipe,
    data: Path | Sequence[Path],
    count: int,
    picture: Path,
    *,
    output: Path | None = None,
    init_from: str | Path | None = None,
    captions: Mapping[str, str] | None = None,
) -> None:
    """Draw the first ``count`` training pairs as they will be trained on into ``picture``; errors as :func:`run`."""
    check_picture(picture)
    pairs = _pairs(_photos(data, recipe, output).training, recipe, Start(_given(init_from)), captions)
    save_picture(draw_pairs(pairs[index] for index in range(count)), picture)


def _given(name: str | Path | None) -> str | None:
    return None if name is None else str(name)


class _Photos(NamedTuple):
    """What a run is given."""

    training: list[TrainingPhoto]
    held_out: list[TrainingPhoto]
    left_out: list[LeftOut]


def _photos(data: Path | Sequence[Path], recipe: Recipe, output: Path | None) -> _Photos:
    """The photos in ``data``; what lies in the ``output`` folder is none to train on."""
    sources = [data] if isinstance(data, Path) else list(data)
    found = read_source(sources, recipe, leave_out=output)
    training, held_out = split_photos(found.photos, recipe)
    training, copies = without_copies(training, held_out)
    if not training:
        raise UsageError(
            f"{', '.join(map(str, sources))} has no photo left to train on after the {len(held_out)} held-out ones.",
            "Add photos, or hold out fewer (--set data.held_out_photos=0); those of one name count as one photograph.",
        )
    return _Photos(training, held_out, [*found.left_out, *copies])


class _Model(NamedTuple):
    """What is trained, at step 0."""

    model: Components | PixelCascade
    networks: Networks
    export: Callable[[Path], None]


def _model(recipe: Recipe, photos: Sequence[TrainingPhoto], output: Path, start: Start, *, resume: bool) -> _Model:
    if isinstance(recipe.model, PriorModelRecipe | ScorerRecipe):
        cascade = starting_prior(recipe, recipe.model, photos, output, start.init_from)
        prior = networks_of(cascade, recipe.model.stage)
        return _Model(cascade, prior, PriorExport(cascade, prior))
    model = starting_model(recipe, photos, output, start, resume=resume)
    if isinstance(recipe.model, ReferenceRecipe):
        activator = trained_activator(model, recipe.model)
        reading = ReferenceNetworks(model, activator)
        return _Model(model, reading, ReferenceExport(recipe, recipe.model, model, reading, activator))
    if isinstance(recipe.model, TunerRecipe):
        tuned = TunerNetworks(model, starting_tuner(model, recipe.model, recipe.seed))
        return _Model(model, tuned, TunerExport(recipe, recipe.model, model, tuned))
    networks = TrainedNetworks(model.text_encoder, model.vae, model.unet, model.controlnet)
    return _Model(
        model, networks, partial(export_model, networks=networks, model=model, frozen=frozen_parts(networks))
    )


def _look(trainer: Trainer, model: Components | PixelCascade, photos: Sequence[HeldOut]) -> Look:
    """What ``photos`` are shown with on the way."""
    sizes, networks, autocast = trainer.recipe.model, trainer.networks, trainer.accelerator.autocast
    if isinstance(model, Components) and isinstance(sizes, ReferenceRecipe):
        assert isinstance(networks, ReferenceNetworks)
        return ReferenceLook(photos, model, sizes, networks.tuner, autocast)
    if isinstance(model, Components) and isinstance(sizes, TunerRecipe):
        assert isinstance(networks, TunerNetworks)
        return TunerLook(photos, model, networks, sizes, autocast)
    return look_at_model(photos, str(trainer.accelerator.device))


def _pairs(
    photos: list[TrainingPhoto], recipe: Recipe, start: Start, captions: Mapping[str, str] | None
) -> TrainingPairs | ReferencePairs | PriorPictures:
    """What is trained on, in the words of the preset that the model will be used with."""
    if isinstance(recipe.model, PriorModelRecipe | ScorerRecipe):
        return PriorPictures(photos, recipe, captions)
    preset = preset_of(recipe, start)
    pairs = TrainingPairs(
        photos,
        recipe,
        prompt_suffix=preset.prompt_suffix,
        negative_low_prompt=preset.negative_low_prompt,
        captions=captions,
    )
    return ReferencePairs(pairs, recipe.model) if isinstance(recipe.model, ReferenceRecipe) else pairs
