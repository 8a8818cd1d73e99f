"""What is told of an exploration: names of files, ``explore.json``, and whether a file is already the answer."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xpsr_cli import __version__
from xpsr_cli.exploring.diversity import Diversity

SHEET, RECORD, GALLERY = "sheet.png", "explore.json", "gallery.html"
COMMAND = "explore"
"""What a manifest says under ``command``: which work made the picture."""
_RESULTS = "results"


def sample_name(prompt: int, seed: int) -> str:
    """The file of an answer: the number of its prompt, from 1, and its seed."""
    return f"prompt{prompt}-seed{seed}.png"


@dataclass(frozen=True)
class Agreement:
    """How an answer agrees with the given picture, in dB of PSNR between that and the answer's reduction.

    ``raw_db`` is that of what the model drew, ``final_db`` that of the saved file. ``repair_rms`` is the root mean
    squared change, of values in [-1, 1], that the last repair made: only where it is small has the model answered.
    """

    raw_db: float
    final_db: float
    repair_rms: float

    def to_dict(self) -> dict[str, float | None]:
        """Plain values; ``None`` is an infinite PSNR, which JSON has no word for: not the least difference."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class SampleRecord:
    """One answer. ``file`` is its name in the folder.

    ``text_score`` is the cosine in [-1, 1] between the embeddings of picture and prompt, as the judge has them;
    ``obeys`` says whether it fits better than every other prompt of the exploration. ``None`` where there is nothing
    to judge.
    """

    file: str
    seed: int
    agreement: Agreement
    text_score: float | None = None
    obeys: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        score = None if self.text_score is None else round(self.text_score, 4)
        told = {"file": self.file, "seed": self.seed, **self.agreement.to_dict()}
        return {**told, "text_score": score, "obeys": self.obeys}


@dataclass(frozen=True)
class PromptRecord:
    """All answers to one prompt; ``number`` counts from 1, ``unknown_words`` the prior was not trained on."""

    number: int
    prompt: str
    unknown_words: tuple[str, ...]
    samples: tuple[SampleRecord, ...]
    diversity: Diversity

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "number": self.number,
            "prompt": self.prompt,
            "unknown_words": list(self.unknown_words),
            "diversity": asdict(self.diversity),
            "samples": [sample.to_dict() for sample in self.samples],
        }


@dataclass(frozen=True)
class ExplorationRecord:
    """What ``explore.json`` holds: what was asked of which prior about which picture, and all that came of it.

    ``input`` and ``output`` are names, hashes and sizes, ``prior`` is the identity of the model, ``settings`` are
    those of every answer alike.
    """

    input: Mapping[str, Any]
    output: Mapping[str, Any]
    prior: Mapping[str, Any]
    settings: Mapping[str, Any]
    prompts: tuple[PromptRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the same for the same work."""
        return {
            "xpsr": __version__,
            "command": COMMAND,
            "input": dict(self.input),
            "output": dict(self.output),
            "prior": dict(self.prior),
            "settings": dict(self.settings),
            "summary": summary([sample for prompt in self.prompts for sample in prompt.samples]),
            "prompts": [prompt.to_dict() for prompt in self.prompts],
        }


def summary(samples: Sequence[SampleRecord]) -> dict[str, Any]:
    """The figures that say whether an exploration is to be trusted."""
    middle = Agreement(
        statistics.median(sample.agreement.raw_db for sample in samples),
        min(sample.agreement.final_db for sample in samples),
        statistics.median(sample.agreement.repair_rms for sample in samples),
    ).to_dict()
    judged = [sample.obeys for sample in samples if sample.obeys is not None]
    return {
        "samples": len(samples),
        "median_raw_db": middle["raw_db"],
        "lowest_final_db": middle["final_db"],
        "median_repair_rms": middle["repair_rms"],
        "obeying": sum(judged) / len(judged) if judged else None,
    }


def with_results(manifest: Mapping[str, Any], agreement: Agreement) -> dict[str, Any]:
    """The manifest of an answer, and what became of it: that cannot be told from the pixels alone."""
    return {**manifest, "command": COMMAND, _RESULTS: agreement.to_dict()}


def results_of(manifest: Mapping[str, Any]) -> tuple[float, float] | None:
    """``raw_db`` and ``repair_rms`` of a manifest; ``None`` where it has none that make sense."""
    results = manifest.get(_RESULTS)
    if not isinstance(results, Mapping):
        return None
    raw_db, repair_rms = results.get("raw_db", math.nan), results.get("repair_rms")
    raw_db = math.inf if raw_db is None else raw_db
    sound = isinstance(raw_db, int | float) and isinstance(repair_rms, int | float) and not math.isnan(raw_db)
    return (float(raw_db), float(repair_rms)) if sound and repair_rms is not None else None


def is_same_work(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a file with the manifest ``found`` is what the work of ``wanted`` would make.

    Answers depend on nothing but their request, so such a file need not be made again.
    """
    if found is None or found.get("command") != COMMAND or results_of(found) is None:
        return False
    return _request_of(found) == _request_of(wanted)


def _request_of(manifest: Mapping[str, Any]) -> Any:
    """What of a manifest is asked for, as JSON gives it back."""
    return json.loads(json.dumps({k: v for k, v in manifest.items() if k not in ("command", _RESULTS)}))


def is_record(path: Path) -> bool:
    """Whether an exploration has left this file as its record."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(read, dict) and read.get("command") == COMMAND
