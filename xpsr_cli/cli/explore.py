"""``xpsr explore``: many large pictures that are all reduced to one small one, steered by words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpsr_cli.cli.console import Console, quiet_third_parties
from xpsr_cli.cli.options import (
    ConfigOption,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    PrecisionOption,
    QuietFlag,
    complete_prior,
)
from xpsr_cli.cli.sampling_options import OWN, StepsOption
from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.options import MAX_SCALE, MIN_SCALE, ExploreOptions, Method, ResizeFilter, Travel
from xpsr_cli.exploring.vocabulary import in_words
from xpsr_cli.settings import Precision, SchedulerName
from xpsr_cli.weights import read_vocabulary

DEFAULT_PRIOR = "xpsr-explore"
DEFAULT_SCALE = 16.0
DEFAULT_STRENGTH = 0.5
DRAWN_PER_KEPT = 4
"""How many answers ``--diverse`` draws for each that it keeps."""
_MAX_SEED = 2**63 - 1


def explore(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="One small picture.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="What is to be seen in it; may be repeated: a row each. The prior that ships knows: "
            f"{in_words(read_vocabulary(DEFAULT_PRIOR))}.",
            show_default="no words",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More prompts, one per line.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers to each prompt, with the same seeds for all.")] = 4,
    scale: Annotated[
        float | None,
        typer.Option(
            help=f"Enlargement of each side, {MIN_SCALE:g} to {MAX_SCALE:g}.",
            show_default=f"{DEFAULT_SCALE:g}, or to the size of --refine",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the answers.", show_default="xpsr-explore/PICTURE")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="How answers are kept to the picture; pigdm and dps take three times as long.")
    ] = Method.DDNM,
    operator: Annotated[
        ResizeFilter, typer.Option(help="How the picture was made of a large one.")
    ] = ResizeFilter.BICUBIC,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the noise in the picture, where 1 is white; it is left out.")
    ] = 0.0,
    negative_prompt: Annotated[str, typer.Option(help="What to steer away from.", show_default="nothing")] = "",
    guidance_scale: Annotated[float | None, typer.Option(help=f"How much the prompt counts; 1 is off. {OWN}")] = None,
    text_guidance: Annotated[
        float, typer.Option(help="How far a text-image score of the prior's own pulls towards the prompt; 0 is off.")
    ] = 0.0,
    image_weight: Annotated[
        float, typer.Option(help="How much the picture counts beside the words, 0 to 1, for unCLIP priors.")
    ] = 0.0,
    prior: Annotated[
        str,
        typer.Option(
            help="The image model: a name, a folder, or a hub id in the local cache; two parts with a comma.",
            autocompletion=complete_prior,
        ),
    ] = DEFAULT_PRIOR,
    seed: Annotated[int, typer.Option(help="Seed of the first answer; the next ones count on.")] = 0,
    steps: StepsOption = None,
    scheduler: Annotated[
        SchedulerName, typer.Option(help="Sampling method; ddpm varies the most.")
    ] = SchedulerName.DDPM,
    travel: Annotated[
        str, typer.Option(metavar="LENGTHxREPEAT", help="Make every so many steps so often, as in 10x3; 1x1 is off.")
    ] = "1x1",
    diverse: Annotated[
        bool,
        typer.Option("--diverse", help=f"Draw {DRAWN_PER_KEPT} times as many, and keep those that differ the most."),
    ] = False,
    refine: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Walk on from this answer, in place of noise.", show_default=False),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="How much of --refine is drawn anew, 0 to 1.", show_default=f"{DEFAULT_STRENGTH} with --refine"
        ),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Make a page to look through the answers too.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist, but those this very command has made.")
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Draw many large pictures that are all reduced to one small one, steered by words.

    Words decide what the small picture leaves open, which is the more the larger the scale is; nothing that it shows
    is changed. The folder gets a PNG for each answer, a contact sheet and explore.json with all figures. The same
    command goes on where it was stopped. Answers have 8 bits per channel; transparency is enlarged apart from them.
    """
    _require("scale", scale, MIN_SCALE, MAX_SCALE, "A smaller enlargement leaves nothing open: use xpsr upscale.")
    _require("samples", samples, 1, 10_000)
    _require("guidance-scale", guidance_scale, 0, 50)
    _require("image-weight", image_weight, 0, 1)
    _require("text-guidance", text_guidance, 0, 100)
    _require("steps", steps, 1, 1000)
    drawn = samples * DRAWN_PER_KEPT if diverse else samples
    _require("seed", seed, 0, _MAX_SEED - drawn)
    if strength is not None and refine is None:
        raise UsageError(f"strength is {strength}, but there is no --refine.", "Name a picture to walk on from.")
    options = ExploreOptions(
        method=method,
        operator=operator,
        noise=noise,
        steps=steps,
        scheduler=scheduler,
        travel=Travel.parse(travel),
        energy_weight=text_guidance,
        strength=1.0 if refine is None else DEFAULT_STRENGTH if strength is None else strength,
    )
    texts = _all_prompts(prompt or [], prompts)
    if text_guidance > 0 and not any(texts):
        raise UsageError("text-guidance pulls towards words, and there are none.", "Say some with --prompt.")
    _require_text("negative-prompt", negative_prompt)
    console = Console(quiet=quiet, as_json=as_json)
    if not debug:
        quiet_third_parties()
    from xpsr_cli.photos.source import open_photo

    for path in (picture, refine):
        if path is not None:
            open_photo(path, least_side_px=1).close()  # what is no photo is refused before torch is imported

    from xpsr_cli.cli.explore_run import Exploration, run

    asked = Exploration(
        picture=picture,
        output=output or Path("xpsr-explore") / picture.stem,
        prompts=tuple(texts),
        negative_prompt=negative_prompt,
        guidance_scale=guidance_scale,
        image_weight=image_weight,
        options=options,
        seeds=range(seed, seed + drawn),
        kept=samples,
        scale=DEFAULT_SCALE if scale is None and refine is None else scale,
        refine=refine,
        prior=prior,
        device=device,
        precision=precision,
        html=html,
        overwrite=overwrite,
    )
    run(asked, console)


def _all_prompts(given: list[str], file: Path | None) -> list[str]:
    """The prompts of the flags and then of the file, each once; one without words where there are none."""
    texts = [*given, *([] if file is None else _lines_of(file))]
    for text in texts:
        _require_text("prompt", text)
    return list(dict.fromkeys(" ".join(text.split()) for text in texts)) or [""]


def _lines_of(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"The prompts in {file} cannot be read: {error.strerror}.", "Check the name.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text in UTF-8.", "Write one prompt per line, as plain text.") from None
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise UsageError(f"There is no prompt in {file}.", "Write one prompt per line.")
    return prompts


def _require(name: str, value: float | None, low: float, high: float, hint: str = "") -> None:
    """:class:`UsageError` unless ``low <= value <= high``; ``None`` passes."""
    if value is not None and not low <= value <= high:
        shown = [str(number) if isinstance(number, int) else f"{number:g}" for number in (value, low, high)]
        raise UsageError(f"{name} is {shown[0]}, allowed is {shown[1]} to {shown[2]}.", hint if value < low else "")


def _require_text(name: str, text: str) -> None:
    """:class:`UsageError` for bytes of the command line that are no UTF-8: they come as halves of characters."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{name} is {text!r}, which is no text in UTF-8.", "Type it anew.")
