"""Flags on how a model enlarges photos, for every command that has a model do that."""

from __future__ import annotations

from typing import Annotated

import typer

from xpsr_cli.settings import ColorFix, SchedulerName

OWN = "[default: the model's own]"
"""What is said of a flag whose value the model's preset gives."""

CaptionsOption = Annotated[
    str,
    typer.Option(
        "--captions", help="Who describes the photos: auto, none, measured, mllm, sidecar, or a file of captions."
    ),
]
PromptOption = Annotated[
    str | None,
    typer.Option("--prompt", help="What is in the photo, whatever its caption says.", show_default="its caption"),
]
LowPromptOption = Annotated[
    str | None,
    typer.Option("--low-prompt", help="How it is degraded, whatever its caption says.", show_default="its caption"),
]
NegativePromptOption = Annotated[str | None, typer.Option("--negative-prompt", help=f"What to steer away from. {OWN}")]
StepsOption = Annotated[int | None, typer.Option("--steps", help=f"Denoising steps. {OWN}")]
GuidanceScaleOption = Annotated[
    float | None, typer.Option("--guidance-scale", help=f"How much the prompts count; 1 is off. {OWN}")
]
ConditioningScaleOption = Annotated[
    float | None, typer.Option("--conditioning-scale", help=f"How much the photo counts. {OWN}")
]
SchedulerOption = Annotated[SchedulerName | None, typer.Option("--scheduler", help=f"Sampling method. {OWN}")]
ColorFixOption = Annotated[
    ColorFix | None, typer.Option("--color-fix", help=f"How colours are tied to the input. {OWN}")
]
FidelityOption = Annotated[
    float, typer.Option("--fidelity", help="0 leaves the result free; 1: reduced, it is the photo again.")
]
