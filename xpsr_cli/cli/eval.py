"""``xpsr eval``: models, anybody's pictures and plain resampling, scored on one set and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpsr_cli.cli.console import Console, quiet_third_parties
from xpsr_cli.cli.options import DebugFlag, DeviceOption, JsonFlag, PrecisionOption, QuietFlag, complete_model
from xpsr_cli.cli.sampling_options import (
    MODE_HELP,
    ActivateOption,
    AddOnOption,
    CaptionsOption,
    ColorFixOption,
    ConditioningScaleOption,
    FidelityOption,
    GuidanceScaleOption,
    LowPromptOption,
    NegativePromptOption,
    PromptOption,
    SchedulerOption,
    StartOption,
    StepsOption,
    StrengthOption,
)
from xpsr_cli.evaluation.baseline import Baseline
from xpsr_cli.evaluation.known_sets import KNOWN_SETS
from xpsr_cli.evaluation.protocols import PROTOCOLS
from xpsr_cli.settings import CaptionSource, Mode, Precision
from xpsr_cli.weights import DEFAULT_MODEL


def complete_dataset(incomplete: str) -> list[str]:
    """The named sets, for shell completion."""
    return [name for name in KNOWN_SETS if name.startswith(incomplete)]


def complete_protocol(incomplete: str) -> list[str]:
    """The protocols, for shell completion."""
    return [name for name in PROTOCOLS if name.startswith(incomplete)]


def evaluate(
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"A known set: {', '.join(KNOWN_SETS)}.", show_default=False, autocompletion=complete_dataset
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Where known sets lie; may be repeated.", show_default="those of XPSR_DATASETS"
        ),
    ] = None,
    lr: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Small photos of your own.", show_default=False)
    ] = None,
    hr: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Their large originals.", show_default=False)
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(help="Make the small photos of the large ones: xpsr, light or bicubic.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --degrade: one seed makes one set of small photos.")] = 0,
    every: Annotated[int, typer.Option(metavar="N", help="Take every N-th picture only.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Take at most so many pictures.", show_default="all")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="A name of `xpsr weights list`, or a model folder; may be repeated.",
            show_default=f"{DEFAULT_MODEL}, if nothing else is compared or a mode is given",
            autocompletion=complete_model,
        ),
    ] = None,
    mode: Annotated[
        list[Mode] | None,
        typer.Option(
            metavar="|".join(mode.value for mode in Mode),
            help=f"{MODE_HELP} May be repeated.",
            show_default=Mode.XPSR.value,
        ),
    ] = None,
    activate: ActivateOption = None,
    add_on: AddOnOption = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="Pictures made by anything, named as the set's; may be repeated.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        list[Baseline] | None,
        typer.Option(
            metavar="|".join(baseline.value for baseline in Baseline),
            help="Plain resampling; may be repeated.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the others are compared with.", show_default="what is named first"),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="K", help="Runs of each model, with seeds 0 to K-1.")] = 1,
    scale: Annotated[
        float | None, typer.Option(help="Enlargement of each side.", show_default="what the pairs say, else 4")
    ] = None,
    captions: CaptionsOption = CaptionSource.AUTO.value,
    prompt: PromptOption = None,
    low_prompt: LowPromptOption = None,
    negative_prompt: NegativePromptOption = None,
    steps: StepsOption = None,
    start: StartOption = None,
    strength: StrengthOption = None,
    guidance_scale: GuidanceScaleOption = None,
    conditioning_scale: ConditioningScaleOption = None,
    scheduler: SchedulerOption = None,
    color_fix: ColorFixOption = None,
    fidelity: FidelityOption = 0.0,
    metrics: Annotated[
        str, typer.Option(metavar="LIST", help="default, all, or names as in psnr,ssim,niqe.")
    ] = "default",
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"How PSNR and SSIM are taken: {', '.join(PROTOCOLS)}; may be repeated.",
            show_default="what suits the set",
            autocompletion=complete_protocol,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the report and the pictures.", show_default="xpsr-eval/SET"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace pictures there that were made in another way.")
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Score models, folders of pictures and plain resampling on one set, and compare them picture by picture.

    The same command goes on where it was stopped. Pictures are scored as their files show them, in 8 bits.
    """
    console = Console(quiet=quiet, as_json=as_json)
    if not debug:
        quiet_third_parties()
    from xpsr_cli.cli.eval_models import Placing
    from xpsr_cli.cli.eval_modes import settings_of_modes
    from xpsr_cli.cli.eval_run import Contest, Subject, run
    from xpsr_cli.evaluation.datasets import Selection
    from xpsr_cli.settings import UpscaleSettings

    modes = tuple(dict.fromkeys(mode or (Mode.XPSR,)))
    shared = UpscaleSettings(
        prompt=prompt or "",
        low_prompt=low_prompt or "",
        negative_prompt=negative_prompt,
        steps=steps,
        guidance_scale=guidance_scale,
        conditioning_scale=conditioning_scale,
        scheduler=scheduler,
        color_fix=color_fix,
        fidelity=fidelity,
    )
    subject = Subject(dataset, tuple(root or ()), lr, hr, degrade, seed, Selection(every, limit), scale)
    contest = Contest(
        models=tuple(model or ()) if model or ((predictions or baseline) and not mode) else (DEFAULT_MODEL,),
        predictions=tuple(predictions or ()),
        baselines=tuple(dict.fromkeys(baseline or ())),
        reference=reference,
        seeds=seeds,
        modes=settings_of_modes(shared, modes, activate, start, strength),
        add_on=add_on,
        captions=captions,
        prompts=(prompt, low_prompt),
        placing=Placing(device, precision),
    )
    names = [name.strip() for name in metrics.split(",")]
    run(subject, contest, names, tuple(protocol or ()), output, console, overwrite=overwrite, debug=debug)
