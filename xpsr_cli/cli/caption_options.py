"""Flags on who describes photos, for every command that wants captions."""

from __future__ import annotations

from typing import Annotated

import typer

from xpsr_cli.settings import CaptionScope, Quantization
from xpsr_cli.weights import Kind, load_registry


def complete_captioner(incomplete: str) -> list[str]:
    """What describes photos, for shell completion."""
    models = [entry.name for entry in load_registry().values() if entry.kind is Kind.CAPTIONER]
    return [name for name in ("auto", "measured", *models) if name.startswith(incomplete)]


CAPTIONER_HELP = "auto, measured, a name of `xpsr weights list`, a folder or a hub id."
SCOPE_HELP = "What a text on the content speaks of: the whole photo, or each region of it too."
REGION_SIZE_HELP = "About how large regions are, in pixels of the photo."

EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", help="Address of a server that describes photos (OpenAI-compatible), as in http://..."),
]
QuantizeOption = Annotated[
    Quantization, typer.Option("--quantize", help="Keep the multimodal model's weights in fewer bits, to save memory.")
]
ScopeOption = Annotated[CaptionScope, typer.Option("--scope", help=SCOPE_HELP)]
