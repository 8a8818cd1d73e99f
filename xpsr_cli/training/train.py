"""``xpsr train``: from a recipe and a folder of photos to a model folder."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.loading import load_components, save_components
from xpsr_cli.settings import CaptionSource, ColorFix, LongPrompts, SamplingPreset, SchedulerName, Sizing, StartLatent
from xpsr_cli.training.build import SCHEDULER_CONFIG, build_networks, build_tokenizer
from xpsr_cli.training.checkpoint import latest, recover
from xpsr_cli.training.dataset import TrainingPairs, TrainingPhoto, read_photos, split_photos
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.loop import Trainer
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.processes import make_accelerator
from xpsr_cli.training.recipe import MiniModelRecipe, Recipe
from xpsr_cli.training.words import high_prompt, low_prompt, negative_prompt

MINI_PRESET = SamplingPreset(
    steps=1,
    guidance_scale=1.15,
    scheduler=SchedulerName.DDIM,
    start=StartLatent.NOISE,
    start_noise=0.0,
    color_fix=ColorFix.WAVELET,
    sizing=Sizing.PAD,
    long_prompts=LongPrompts.CHUNK,
    captions=CaptionSource.MEASURED,  # the words it knows are measured ones; a multimodal model's are mostly new to it
)


def run(
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    resume: bool = False,
    init_from: Path | None = None,
    minutes: float | None = None,
) -> bool:
    """Train ``recipe`` on the photos in ``data``.

    Args:
        recipe: what to train.
        data: folder of large photos, at least the recipe's crop size.
        output: receives ``model/`` (diffusers layout), ``checkpoints/`` and ``metrics.jsonl``.
        resume: go on from the last checkpoint; without it an output folder that holds a run is refused.
        init_from: a model folder of this recipe's sizes to start from, with its tokenizer; stage one is then skipped.
        minutes: save and stop after this long; None trains to the end.

    Returns:
        Whether the recipe was trained to its end.

    Raises:
        UsageError: ``output`` already holds a run, or the photos are too small.
        PhotoError: no photo could be read.
        WeightsError: ``init_from`` or the saved state is of another architecture.
    """
    started = time.monotonic()
    recover(output)
    if latest(output) is not None and not resume:
        raise UsageError(f"{output} already holds a training run.", "Add --resume to go on, or choose another folder.")
    photos = [photo for photo in read_photos(data) if min(photo.pixels.shape[:2]) >= recipe.data.crop_px]
    if not photos:
        raise UsageError(f"No photo in {data} is at least {recipe.data.crop_px} pixels on each side.")
    training, _ = split_photos(photos, recipe)
    if not training:
        raise UsageError(f"{data} has no photo left to train on after the held-out ones.")
    output.mkdir(parents=True, exist_ok=True)

    if init_from is not None:
        CLIPTokenizer.from_pretrained(init_from / "tokenizer", local_files_only=True).save_pretrained(
            output / "tokenizer"
        )
    tokenizer = _tokenizer(output / "tokenizer", training)
    if not isinstance(recipe.model, MiniModelRecipe):
        raise UsageError(f"The recipe {recipe.name} is not of a small model.", "Train xpsr-mini.")
    networks = TrainedNetworks(*build_networks(recipe.model, tokenizer, recipe.seed))
    pairs = TrainingPairs(
        training, recipe, prompt_suffix=MINI_PRESET.prompt_suffix, negative_low_prompt=MINI_PRESET.negative_low_prompt
    )

    def export(folder: Path) -> None:
        _export(folder, networks, tokenizer, recipe.name)

    if init_from is not None:
        _start_from(init_from, networks)
    trainer = Trainer(
        recipe=recipe,
        networks=networks,
        tokenizer=tokenizer,
        pairs=pairs,
        scheduler_config=SCHEDULER_CONFIG,
        output=output,
        export=export,
        accelerator=make_accelerator(recipe),
        deadline=math.inf if minutes is None else started + 60 * minutes,
    )
    if init_from is not None:
        trainer.skip_autoencoder()
    if resume:
        trainer.resume()
    return trainer.run()


def _start_from(folder: Path, networks: TrainedNetworks) -> None:
    """Copy the weights of a model folder into ``networks``."""
    components = load_components(folder)
    for name, module in networks.parts().items():
        try:
            module.load_state_dict(getattr(components, name).state_dict())
        except RuntimeError as error:
            raise WeightsError(
                f"{folder / name} does not fit the recipe: {str(error).splitlines()[-1].strip()}",
                "Start from a model of the recipe's own sizes.",
            ) from error


def _export(folder: Path, networks: TrainedNetworks, tokenizer: CLIPTokenizer, name: str) -> None:
    """Write a model folder people can use: half precision, but for the small autoencoder, which halves no file."""
    halves = {
        part: torch.nn.Module.to(copy.deepcopy(module), torch.float16)  # diffusers' own warns at every cast
        for part, module in networks.parts().items()
        if part != "vae"
    }
    save_components(
        folder,
        name=name,
        tokenizer=tokenizer,
        vae=networks.vae,
        scheduler_config=SCHEDULER_CONFIG,
        preset=MINI_PRESET,
        **halves,  # type: ignore[arg-type]
    )


def _tokenizer(folder: Path, photos: list[TrainingPhoto]) -> CLIPTokenizer:
    """The run's tokenizer, made once: from every kind of prompt the model will be trained with.

    Merges of equal count are ordered at random by the tokenizer library, so a run must keep the one it began with.
    """
    if folder.is_dir():
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    rng = np.random.default_rng(0)
    texts = [MINI_PRESET.prompt_suffix, MINI_PRESET.negative_prompt, MINI_PRESET.negative_low_prompt]
    for photo in photos:
        drawn = Degradation(rng.uniform(0, 4), rng.uniform(0, 20), rng.uniform(30, 110))
        texts += [high_prompt(photo.category, photo.name, rng), low_prompt(drawn, rng), negative_prompt(rng)]
    tokenizer = build_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    return tokenizer
