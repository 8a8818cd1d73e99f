"""Flags on how a model enlarges photos, for every command that has a model do that."""

from __future__ import annotations

from typing import Annotated

import typer

from xpsr_cli.activator_names import ACTIVATORS, SPANDREL
from xpsr_cli.cli.options import complete_add_on
from xpsr_cli.settings import REFERENCE_STRENGTH, ColorFix, SchedulerName, StartLatent

OWN = "[default: the model's own]"
"""What is said of a flag whose value the model's preset gives."""

MODE_HELP = "xpsr; cassr: with a reference that an activator makes of the photo; activator: that reference alone."
"""What ``--mode`` is for, in every command that has it."""


def complete_activator(incomplete: str) -> list[str]:
    """The activators that need no file, for shell completion."""
    return [word for word in ACTIVATORS if word != SPANDREL and word.startswith(incomplete)]


ActivateOption = Annotated[
    str | None,
    typer.Option(
        "--activate",
        metavar="NAME",
        help="Who makes the reference: none, bicubic, dfc, xpsr, scedit[:FOLDER] or spandrel:FILE.",
        show_default="as the add-on was trained",
        autocompletion=complete_activator,
    ),
]
AddOnOption = Annotated[
    str | None,
    typer.Option(
        "--add-on",
        metavar="NAME",
        help="What lets the model read a reference: a name of `xpsr weights list`, or a folder.",
        show_default="the installed one",
        autocompletion=complete_add_on,
    ),
]
StartOption = Annotated[StartLatent | None, typer.Option("--start", help=f"What sampling starts from. {OWN}")]
StrengthOption = Annotated[
    float | None,
    typer.Option(
        "--strength",
        help="Share of the steps that is done: less keeps more of the start.",
        show_default=f"{REFERENCE_STRENGTH:g} from a reference, else 1",
    ),
]
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
