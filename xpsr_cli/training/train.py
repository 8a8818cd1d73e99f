"""``xpsr train``: from a recipe and a folder of photos to a model folder."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from xpsr_cli.errors import UsageError
from xpsr_cli.models.loading import save_components
from xpsr_cli.settings import ColorFix, SamplingPreset, SchedulerName, Sizing, StartLatent
from xpsr_cli.training.build import SCHEDULER_CONFIG, build_networks, build_tokenizer
from xpsr_cli.training.dataset import TrainingPairs, TrainingPhoto, read_photos, split_photos
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.loop import Trainer
from xpsr_cli.training.objective import Networks
from xpsr_cli.training.recipe import Recipe
from xpsr_cli.training.words import high_prompt, low_prompt, negative_prompt

MINI_PRESET = SamplingPreset(
    steps=1,
    guidance_scale=1.5,
    scheduler=SchedulerName.DDIM,
    start=StartLatent.NOISE,
    start_noise=0.5,
    color_fix=ColorFix.NONE,
    sizing=Sizing.PAD,
)


def run(recipe: Recipe, data: Path, output: Path, *, resume: bool = False, minutes: float | None = None) -> bool:
    """Train ``recipe`` on the photos in ``data``.

    Args:
        recipe: what to train.
        data: folder of large photos, at least the recipe's crop size.
        output: receives ``model/`` (diffusers layout), ``state/`` and ``metrics.jsonl``.
        resume: go on from ``output/state``; without it an output folder that holds a run is refused.
        minutes: save and stop after this long; None trains to the end.

    Returns:
        Whether the recipe was trained to its end.

    Raises:
        UsageError: ``output`` already holds a run, or the photos are too small.
        PhotoError: no photo could be read.
    """
    started = time.monotonic()
    if (output / "state").exists() and not resume:
        raise UsageError(f"{output} already holds a training run.", "Add --resume to go on, or choose another folder.")
    photos = [photo for photo in read_photos(data) if min(photo.pixels.shape[:2]) >= recipe.data.crop_px]
    if not photos:
        raise UsageError(f"No photo in {data} is at least {recipe.data.crop_px} pixels on each side.")
    training, _ = split_photos(photos, recipe)
    if not training:
        raise UsageError(f"{data} has no photo left to train on after the held-out ones.")
    output.mkdir(parents=True, exist_ok=True)

    tokenizer = _tokenizer(output / "state" / "tokenizer", training, resume)
    networks = Networks(*build_networks(recipe.model, tokenizer, recipe.seed))
    pairs = TrainingPairs(
        training, recipe, prompt_suffix=MINI_PRESET.prompt_suffix, negative_low_prompt=MINI_PRESET.negative_low_prompt
    )

    def export(folder: Path) -> None:
        save_components(
            folder,
            name=recipe.name,
            tokenizer=tokenizer,
            text_encoder=networks.text_encoder,
            vae=networks.vae,
            unet=networks.unet,
            controlnet=networks.controlnet,
            scheduler_config=SCHEDULER_CONFIG,
            preset=MINI_PRESET,
        )

    trainer = Trainer(recipe, networks, tokenizer, pairs, output, export)
    if resume:
        trainer.resume()
    if minutes is not None:
        trainer.deadline = started + 60 * minutes
    return trainer.run()


def _tokenizer(folder: Path, photos: list[TrainingPhoto], resume: bool) -> CLIPTokenizer:
    """The run's tokenizer: trained on every prompt the model can be trained with, then kept with the state."""
    if resume and folder.is_dir():
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    rng = np.random.default_rng(0)
    texts = [MINI_PRESET.prompt_suffix, MINI_PRESET.negative_prompt, MINI_PRESET.negative_low_prompt]
    for photo in photos:
        drawn = Degradation(rng.uniform(0, 4), rng.uniform(0, 20), rng.uniform(30, 110))
        texts += [high_prompt(photo.category, photo.name, rng), low_prompt(drawn, rng), negative_prompt(rng)]
    return build_tokenizer(texts)
