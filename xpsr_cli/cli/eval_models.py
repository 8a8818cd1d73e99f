"""Models as methods of an evaluation: their pictures are made by the very code of ``xpsr upscale``, and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.captioning.choosing import choose_captioner
from xpsr_cli.cli.batch import Batch, FileOptions
from xpsr_cli.cli.console import Console
from xpsr_cli.cli.model_files import ModelFiles, find_files
from xpsr_cli.cli.photo_prompts import CaptionedPrompts, choose_prompts
from xpsr_cli.cli.upscale import load_upscaler
from xpsr_cli.errors import PartialFailureError, PhotoError, UsageError
from xpsr_cli.evaluation.methods import Method, pictures_folder
from xpsr_cli.evaluation.scores import EvaluationSet, Failure
from xpsr_cli.photos.inputs import find_photos, output_paths
from xpsr_cli.settings import CaptionScope, Mode, Precision, UpscaleSettings
from xpsr_cli.weights import load_registry, read_preset

if TYPE_CHECKING:
    from xpsr_cli.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Placing:
    """Where networks run and in which number format."""

    device: str
    precision: Precision


@dataclass(frozen=True)
class Model:
    """A model that is evaluated, all that was asked of it checked, and nothing of it loaded."""

    name: str
    files: ModelFiles
    settings: UpscaleSettings
    prompts: CaptionedPrompts
    placing: Placing

    def facts(self) -> dict[str, str]:
        """What of it decides the bytes of a result."""
        return self.files.facts(self.placing.precision)

    def load(self) -> Upscaler:
        """Its networks, on the device."""
        return load_upscaler(self.files, self.placing.device, self.placing.precision)


def name_of(words: str) -> tuple[str, str]:
    """``NAME=MODEL`` or ``MODEL`` to what it is called in tables, and the model."""
    name, equals, model = words.partition("=")
    if not equals or Path(words).exists():
        name, model = "", words
    return name or (model if model in load_registry() else Path(model).expanduser().resolve().name), model


def prepare_models(
    words: str,
    modes: Sequence[UpscaleSettings],
    add_on: str | None,
    captions: str,
    placing: Placing,
    console: Console,
    prompts: tuple[str | None, ...],
) -> list[Model]:
    """The model that ``--model`` names, once for each of the settings, which are of different modes.

    ``add_on`` is what ``--add-on`` names, ``prompts`` is what was given of the two.
    """
    name, model = name_of(words)
    reading = [settings.mode for settings in modes if settings.mode is not Mode.XPSR]
    files = [
        find_files(model, settings, None if reading and settings.mode is Mode.XPSR else add_on) for settings in modes
    ]
    for found, settings in zip(files, modes, strict=True):
        if note := found.note(settings):
            console.note(note)
    choose = partial(choose_captioner, device=placing.device, precision=placing.precision)
    prompt, low_prompt = prompts
    preset = read_preset(files[0].folder)
    described = choose_prompts(
        captions, CaptionScope.IMAGE, prompt, low_prompt, modes[0], preset, None, choose, console.note
    )
    return [
        Model(_name_in(settings.mode, name), found, settings, described, placing)
        for found, settings in zip(files, modes, strict=True)
    ]


def _name_in(mode: Mode, name: str) -> str:
    """What a model is called in a mode."""
    return name if mode is Mode.XPSR else f"{name}+{mode.value}"


def upscaled(
    model: Model, pictures: EvaluationSet, output: Path, seeds: int, console: Console, *, overwrite: bool, debug: bool
) -> Method:
    """The small photos enlarged by a model, with seeds from 0 on; it is loaded once, and only if there is work."""
    small = {os.path.realpath(pair.lr): pair.name for pair in pictures.pairs if pair.lr is not None}
    if len(small) < len(pictures.pairs):
        raise UsageError(f"{model.name} needs small photos, and there are none.", "Give --lr or --degrade.")
    photos = find_photos(sorted(small))
    load = cache(model.load)
    results: dict[tuple[int, str], Path] = {}
    failures: list[Failure] = []
    for seed in range(seeds):
        folder, told = pictures_folder(output, model.name, seed), _Told(quiet=console.quiet)
        count = f"{len(photos)} photo{'s' if len(photos) > 1 else ''}"
        console.note(f"{model.name}, seed {seed}: {count} to enlarge into {folder}")
        settings = replace(model.settings, seed=seed)
        batch = Batch(
            settings, FileOptions(overwrite=overwrite), told, model.facts, model.prompts, stop_at_errors=debug
        )
        try:
            batch.run(photos, folder, load)
        except PartialFailureError:
            pass  # told of one by one
        except PhotoError:
            if len(photos) > 1 or debug:
                raise
        except UsageError as error:
            if "--skip-existing" not in error.hint:
                raise
            raise UsageError(error.message, "Name another output folder, or add --overwrite.") from error
        for photo, target in output_paths(photos, folder).items():
            picture = small[os.path.realpath(photo)]
            if str(photo) in told.failed:
                failures.append(Failure(model.name, seed, picture, told.failed[str(photo)]))
            else:
                results[seed, picture] = target
    chosen = {
        key: value for key, value in asdict(model.settings).items() if value not in (None, "", ()) and key != "seed"
    }
    about = {"kind": "model", "folder": str(model.files.folder), **model.facts(), "settings": chosen}
    return Method(model.name, results, tuple(range(seeds)), about, tuple(failures))


class _Told(Console):
    """What a run over photos says goes to stderr here, as results of an evaluation are numbers; failures are kept."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.failed: dict[str, str] = {}

    def result(self, record: Mapping[str, Any], line: str = "") -> None:
        """Note a photo that failed, with the reason."""
        if record.get("status") == "failed":
            self.failed[str(record["input"])] = str(record["error"])
