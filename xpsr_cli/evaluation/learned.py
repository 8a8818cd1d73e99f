"""Metrics that are trained networks, through the libraries that publish them, where the user has these."""

from __future__ import annotations

from pathlib import Path

from xpsr_cli.evaluation.metric import Metric, MetricFacts
from xpsr_cli.evaluation.scores import Missing


def make_learned(facts: MetricFacts, device: str = "auto", folder: Path | None = None) -> Metric | Missing:
    """The metric, or why it cannot be computed here."""
    return Missing(facts.name, "Package pyiqa is not installed.", "pip install pyiqa")
