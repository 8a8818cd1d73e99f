"""``xpsr upscale``: flags to settings, one call per photo."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpsr_cli.captioning.choosing import AUTO, choose_captioner
from xpsr_cli.cli.caption_options import EndpointOption, QuantizeOption, complete_captioner
from xpsr_cli.cli.console import Console, quiet_third_parties
from xpsr_cli.cli.model_files import ModelFiles, find_files
from xpsr_cli.cli.options import (
    ConfigOption,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    ModelOption,
    PrecisionOption,
    QuietFlag,
)
from xpsr_cli.cli.sampling_options import (
    MODE_HELP,
    OWN,
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
from xpsr_cli.errors import UsageError
from xpsr_cli.photos.inputs import ResultFormat, Shard
from xpsr_cli.settings import (
    MAX_SCALE,
    MIN_SCALE,
    Bits,
    CaptionScope,
    CaptionSource,
    Compression,
    LongPrompts,
    Mode,
    OutputOptions,
    Precision,
    Quantization,
    UpscaleSettings,
)
from xpsr_cli.weights import DEFAULT_MODEL, FULL_MODEL, entry_named, installed_folder, read_preset

if TYPE_CHECKING:
    from xpsr_cli.upscaling.upscaler import Upscaler


def upscale(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUTS...", help="Photos: files, folders or patterns.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file for one photo, a folder for many.", show_default=False)
    ],
    scale: Annotated[float, typer.Option(help=f"Enlargement of each side, {MIN_SCALE:g} to {MAX_SCALE:g}.")] = 4.0,
    mode: Annotated[Mode, typer.Option(help=MODE_HELP)] = Mode.XPSR,
    activate: ActivateOption = None,
    add_on: AddOnOption = None,
    captions: CaptionsOption = CaptionSource.AUTO.value,
    caption_scope: Annotated[
        CaptionScope, typer.Option(help="One high-level text for the image, or one for each region of it.")
    ] = CaptionScope.IMAGE,
    prompt: PromptOption = None,
    low_prompt: LowPromptOption = None,
    negative_prompt: NegativePromptOption = None,
    long_prompts: Annotated[
        LongPrompts, typer.Option(help="What becomes of more than 77 tokens; truncate is the released way.")
    ] = LongPrompts.CHUNK,
    model: ModelOption = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option(help="One seed gives one picture.")] = 0,
    steps: StepsOption = None,
    start: StartOption = None,
    strength: StrengthOption = None,
    guidance_scale: GuidanceScaleOption = None,
    conditioning_scale: ConditioningScaleOption = None,
    scheduler: SchedulerOption = None,
    color_fix: ColorFixOption = None,
    fidelity: FidelityOption = 0.0,
    tile_size: Annotated[int | None, typer.Option(help=f"Window in pixels of the result, times 64. {OWN}")] = None,
    tile_overlap: Annotated[int | None, typer.Option(help=f"Overlap in pixels of the result, times 8. {OWN}")] = None,
    tile_batch: Annotated[
        int | None, typer.Option(help="Windows at once; changes speed only.", show_default="by the memory")
    ] = None,
    result_format: Annotated[
        ResultFormat | None,
        typer.Option("--format", help="Format of results in a folder; same: that of each photo.", show_default="png"),
    ] = None,
    bits: Annotated[Bits, typer.Option(help="Bits per channel of the result; auto: those of the photo.")] = Bits.AUTO,
    quality: Annotated[int | None, typer.Option(help="JPEG or WebP quality, 1 to 100.")] = None,
    compression: Annotated[
        Compression | None, typer.Option(help="Of PNG and TIFF; all are lossless.", show_default="deflate")
    ] = None,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Keep the colour profile only.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Measure whether windows show in the result.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Take folders under a folder too.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist, but those this very command has made.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out photos whose result exists.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="Do one part of the photos only, as in 3/8; slurm: that of the array task.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell sizes, memory and time; write nothing.")] = False,
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for the journal and half-done work.", show_default=".xpsr in the output"),
    ] = None,
    in_memory: Annotated[
        float, typer.Option(help="Megapixels of a result up to which it is worked on in memory, not in files.")
    ] = UpscaleSettings.in_memory_mp,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
    captioner: Annotated[
        str | None,
        typer.Option(
            help="Which captioner: a name as for xpsr caption --model.",
            autocompletion=complete_captioner,
            show_default="what suits the model",
        ),
    ] = None,
    quantize: QuantizeOption = Quantization.NONE,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Enlarge photos."""
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other.", "Give one of them.")
    settings = UpscaleSettings(
        scale=scale,
        mode=mode,
        activate=activate,
        prompt=prompt or "",
        low_prompt=low_prompt or "",
        negative_prompt=negative_prompt,
        long_prompts=long_prompts,
        seed=seed,
        steps=steps,
        start=start,
        strength=strength,
        guidance_scale=guidance_scale,
        conditioning_scale=conditioning_scale,
        scheduler=scheduler,
        color_fix=color_fix,
        fidelity=fidelity,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        tile_batch=tile_batch,
        in_memory_mp=in_memory,
        verify=verify,
    )
    output_options = OutputOptions(bits=bits, quality=quality, compression=compression, metadata=not no_metadata)
    part = None if shard is None else Shard.parse(shard)
    console = Console(quiet=quiet, as_json=as_json)
    found = find_files(model, settings, add_on)
    if note := found.note(settings):
        console.note(note)
    _mention_full_model(model, console)
    if not debug:
        quiet_third_parties()
    from xpsr_cli.cli.photo_prompts import choose_prompts

    choose = partial(choose_captioner, endpoint=endpoint, quantize=quantize, device=device, precision=precision)
    named = AUTO if captioner is None and endpoint is not None else captioner
    preset = read_preset(found.folder)
    prompts = choose_prompts(
        captions, caption_scope, prompt, low_prompt, settings, preset, named, choose, console.note
    )

    from xpsr_cli.cli.batch import Batch, FileOptions

    files = FileOptions(
        recursive=recursive,
        overwrite=overwrite,
        skip_existing=skip_existing,
        shard=part,
        format=result_format,
        work_dir=work_dir,
        dry_run=dry_run,
        output=output_options,
    )
    batch = Batch(settings, files, console, partial(found.facts, precision), prompts, stop_at_errors=debug)
    batch.run(inputs, output, lambda: load_upscaler(found, device, precision))


def load_upscaler(files: ModelFiles, device: str, precision: Precision) -> Upscaler:
    """A model with what it lacks from its base, and its add-on, on a device; this is where torch is imported."""
    from xpsr_cli.device import choose_placement
    from xpsr_cli.models.loading import load_components
    from xpsr_cli.models.reference_loading import load_reference
    from xpsr_cli.upscaling.reference_store import ReferenceStore
    from xpsr_cli.upscaling.upscaler import Upscaler

    placement = choose_placement(device, precision)  # first: it is quick to refuse
    components = load_components(files.folder, stable_diffusion=files.base)
    if files.add_on is not None:
        components = load_reference(components, files.add_on)
    return Upscaler(components, placement, ReferenceStore())


def _mention_full_model(model: str, console: Console) -> None:
    """Say that the full model is here; it is never taken without being asked for."""
    if model == DEFAULT_MODEL and installed_folder(entry_named(FULL_MODEL)) is not None:
        console.note(f"The full model is installed too: --model {FULL_MODEL}")
