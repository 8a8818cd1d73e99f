"""Flags that several commands share, each said once, and the config file behind ``--config``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from xpsr_cli.errors import UsageError
from xpsr_cli.settings import Precision
from xpsr_cli.weights import Kind, load_registry

_NOT_IN_A_FILE = {"inputs", "output", "config", "debug", "help"}


def complete_model(incomplete: str) -> list[str]:
    """The upscalers of the registry, for shell completion."""
    return _names(Kind.UPSCALER, incomplete)


def complete_prior(incomplete: str) -> list[str]:
    """The priors of the registry, for shell completion."""
    return _names(Kind.PRIOR, incomplete)


def complete_add_on(incomplete: str) -> list[str]:
    """The add-ons of the registry, for shell completion."""
    return _names(Kind.ADD_ON, incomplete)


def _names(kind: Kind, incomplete: str) -> list[str]:
    return [e.name for e in load_registry().values() if e.kind is kind and e.name.startswith(incomplete)]


def complete_weights(incomplete: str) -> list[str]:
    """Every name of the registry, for shell completion."""
    return [name for name in load_registry() if name.startswith(incomplete)]


def read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Put a TOML file of flag values between the built-in defaults and the flags that are given.

    Its keys are the flags without the dashes in front (``color-fix`` or ``color_fix``); any other key is an error.
    """
    if path is None or ctx.resilient_parsing:
        return path
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The config file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The config file {path} is not valid TOML: {error}.") from None
    ctx.default_map = _as_parameters(ctx, path, values)
    return path


def _as_parameters(ctx: typer.Context, path: Path, values: dict[str, Any]) -> dict[str, Any]:
    names = {}
    for param in ctx.command.params:
        flag = max(param.opts, key=len).lstrip("-")
        if flag not in _NOT_IN_A_FILE:
            names[flag.replace("-", "_")] = param.name
    for key, value in values.items():
        if key.replace("-", "_") not in names:
            raise UsageError(f"Unknown key {key!r} in {path}.", f"Allowed: {', '.join(sorted(names))}.")
        if isinstance(value, list | dict):
            raise UsageError(f"The key {key!r} in {path} must be a single value.", f"Write: {key} = ...")
    return {str(names[key.replace("-", "_")]): value for key, value in values.items()}


ModelOption = Annotated[
    str,
    typer.Option("--model", help="A name of `xpsr weights list`, or a model folder.", autocompletion=complete_model),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Number format of the networks.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="TOML file of flag values; flags given here win.", callback=read_config, is_eager=True
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON objects on stdout, one per result.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the messages of other libraries.")]
