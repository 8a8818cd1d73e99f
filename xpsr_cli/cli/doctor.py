"""``xpsr doctor``: what is here, what is chosen, and what to fix."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from dataclasses import dataclass, field
from typing import Any

import typer

from xpsr_cli import __version__
from xpsr_cli.cli.console import Console, quiet_third_parties
from xpsr_cli.cli.options import DebugFlag, JsonFlag
from xpsr_cli.errors import ExitCode, XpsrError
from xpsr_cli.settings import Quantization
from xpsr_cli.weights import FileState, entry_named, installed_folder, load_registry, user_folder, verify

_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface-hub", "numpy", "pillow")
_EXTRAS = {"quant": "bitsandbytes"}


@dataclass
class Report:
    """What was found: groups of name and value, and sentences on what to fix."""

    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    fixes: list[str] = field(default_factory=list)


def doctor(as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """Check this installation: versions, device, memory, weights; say what to fix."""
    if not debug:
        quiet_third_parties()
    report = Report()
    report.groups["versions"] = {"xpsr": __version__, "python": platform.python_version(), **_versions(report)}
    report.groups["machine"] = _machine(report)
    report.groups["weights"] = _weights(report)
    report.groups["extras"] = _extras()

    console = Console(as_json=as_json)
    lines = []
    for group, values in report.groups.items():
        lines += [group, *(f"  {name:24} {value}" for name, value in values.items())]
    lines += ["to fix", *(f"  {fix}" for fix in report.fixes or ["nothing"])]
    console.result({**report.groups, "fixes": report.fixes}, "\n".join(lines))
    if report.fixes:
        raise typer.Exit(ExitCode.UNEXPECTED)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions(report: Report) -> dict[str, str]:
    """Versions of the libraries, and whether those with a history of breaking each other can be imported."""
    found = {package: _version(package) or "missing" for package in _PACKAGES}
    for name in ("torch", "diffusers.models", "transformers.models.clip"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken pair of binaries raises anything
            first_line = str(error).strip().partition("\n")[0]
            report.fixes.append(
                f"{name} cannot be imported ({type(error).__name__}: {first_line}): install xpsr again."
            )
    if (torchvision := _version("torchvision")) is not None:
        found["torchvision"] = torchvision
        try:
            importlib.import_module("torchvision")
        except Exception:  # a RuntimeError when it was built for another torch
            report.fixes.append("torchvision does not fit torch and breaks transformers: pip uninstall torchvision")
    return found


def _machine(report: Report) -> dict[str, Any]:
    import psutil
    import torch

    from xpsr_cli.device import choose_placement

    chosen = choose_placement()
    memory = psutil.virtual_memory()
    values: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(chosen.device),
        "precision": str(chosen.dtype).removeprefix("torch."),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory.total / 1e9, 1),
        "memory_free_gb": round(memory.available / 1e9, 1),
    }
    if chosen.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen.device)
        values["gpu"] = torch.cuda.get_device_name(chosen.device)
        values["gpu_memory_gb"], values["gpu_memory_free_gb"] = round(total / 1e9, 1), round(free / 1e9, 1)
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        report.fixes.append("There is an NVIDIA GPU but torch is a CPU build: install torch from pytorch.org.")
    return values


def _weights(report: Report) -> dict[str, str]:
    values = {"folder": str(user_folder())}
    for entry in load_registry().values():
        folder = installed_folder(entry)
        if folder is None:
            values[entry.name] = "not installed"
            if entry.shipped:
                report.fixes.append(f"{entry.name} is missing: install xpsr again.")
            continue
        states = [check.state for check in verify(entry, folder)]
        damaged = sum(state in (FileState.DAMAGED, FileState.MISSING) for state in states)
        values[entry.name] = f"damaged, {damaged} of {len(states)} files" if damaged else "installed, verified"
        if damaged:
            report.fixes.append(f"{entry.name} is damaged. {entry_named(entry.name).how_to_get}")
    return values


def _extras() -> dict[str, str]:
    """What is installed beyond the necessary, what of it works on this device, and who would describe photos."""
    from xpsr_cli.captioning.mllm_files import DEFAULT_MLLM, installed_mllm

    values = {name: _version(package) or "not installed" for name, package in _EXTRAS.items()}
    if _version(_EXTRAS["quant"]) is not None:
        values["quant"] += f", {_quantization()}"
    there = installed_mllm() is not None
    values["captioner"] = DEFAULT_MLLM if there else f"measured ({DEFAULT_MLLM} is not installed)"
    return values


def _quantization() -> str:
    """Which number formats of a multimodal model's weights bitsandbytes does on the device, tried on a small layer."""
    from xpsr_cli.captioning.quantization import check_quantization
    from xpsr_cli.device import choose_placement

    chosen, done, problems = choose_placement(), [], []
    for quantize in (Quantization.EIGHT_BIT, Quantization.FOUR_BIT):
        try:
            check_quantization(quantize, chosen.device, chosen.dtype)
            done.append(quantize.value)
        except XpsrError as error:
            problems.append(error.message)
    works = f"{' and '.join(done)} on {chosen.device}" if done else ""
    return "; ".join(filter(None, [works, *dict.fromkeys(problems)]))
