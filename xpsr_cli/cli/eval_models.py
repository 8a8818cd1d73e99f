"""Models as methods of an evaluation: their pictures are made by the very code of ``xpsr upscale``, and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.captioning.choosing import choose_captioner
from xpsr_cli.cli.batch import Batch, FileOptions
from xpsr_cli.cli.console import Console
from xpsr_cli.cli.photo_prompts import CaptionedPrompts, choose_prompts
from xpsr_cli.cli.upscale import facts_of_model, load_upscaler
from xpsr_cli.errors import PartialFailureError, PhotoError, UsageError
from xpsr_cli.evaluation.methods import Method, pictures_folder
from xpsr_cli.evaluation.scores import EvaluationSet, Failure
from xpsr_cli.photos.inputs import find_photos, output_paths
from xpsr_cli.settings import CaptionScope, Precision, UpscaleSettings
from xpsr_cli.weights import find_base, find_model, load_registry, read_preset

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
    folder: Path
    base: Path | None
    settings: UpscaleSettings
    prompts: CaptionedPrompts
    placing: Placing

    def facts(self) -> dict[str, str]:
        """What of it decides the bytes of a result."""
        return facts_of_model(self.folder, self.base, self.placing.precision)

    def load(self) -> Upscaler:
        """Its networks, on the device."""
        return load_upscaler(self.folder, self.base, self.placing.device, self.placing.precision)


def find_named_model(words: str) -> tuple[str, Path]:
    """``NAME=MODEL`` or ``MODEL`` to what it is called in tables and its folder; see :func:`find_model`."""
    name, equals, model = words.partition("=")
    if not equals or Path(words).exists():
        name, model = "", words
    folder = find_model(model)
    return name or (model if model in load_registry() else Path(model).expanduser().resolve().name), folder


def prepare_model(
    words: str,
    settings: UpscaleSettings,
    captions: str,
    placing: Placing,
    console: Console,
    prompts: tuple[str | None, ...],
) -> Model:
    """The model that ``--model`` names, to be run with ``settings``. ``prompts`` is what was given of the two."""
    name, folder = find_named_model(words)
    choose = partial(choose_captioner, device=placing.device, precision=placing.precision)
    prompt, low_prompt = prompts
    preset = read_preset(folder)
    described = choose_prompts(
        captions, CaptionScope.IMAGE, prompt, low_prompt, settings, preset, None, choose, console.note
    )
    return Model(name, folder, find_base(folder), settings, described, placing)


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
    about = {"kind": "model", "folder": str(model.folder), **model.facts(), "settings": chosen}
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
