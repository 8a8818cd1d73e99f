"""The losses of a run as a picture: one panel per term over the optimizer steps, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from PIL import Image, ImageDraw

from xpsr_cli.training.checkpoint import STAGES
from xpsr_cli.training.listeners import main_terms, read_metrics
from xpsr_cli.training.preview import save_picture

PLOT = "losses.png"
PANEL_PX = (480, 200)
MARGIN_PX = (64, 14, 22, 24)  # left, right, top, bottom of a panel: numbers stand there
COLUMNS = 2
INK, GRID, LINE, SMOOTH = "#222222", "#dddddd", "#b9d0ea", "#1f5fa8"
BESIDE = ("#8a8a8a", "#c98b1b", "#4f8f3a", "#b5352c", "#8b3fa0")  # what a measure is compared with, in their order

Point = tuple[float, float]  # step, value


@dataclass(frozen=True)
class Curve:
    """One term of the loss, or one measure of the validation, over the steps."""

    title: str
    points: Sequence[Point]
    beside: Mapping[str, Sequence[Point]] = field(default_factory=dict)  # the same of what it is compared with


def plot_metrics(metrics: Path, picture: Path) -> int:
    """Draw what a ``metrics.jsonl`` holds into ``picture`` (PNG); returns how many panels it has.

    Of losses there is one panel each, the total first; of validations one per measure. Nothing is written where there
    is nothing to show.
    """
    curves = read_curves(metrics)
    if curves:
        save_picture(_draw(curves), picture)
    return len(curves)


def read_curves(metrics: Path) -> list[Curve]:
    """The curves in a ``metrics.jsonl``, stage after stage, in the order in which the run reported them."""
    found: dict[str, list[Point]] = {}
    beside: dict[str, dict[str, list[Point]]] = {}
    for row in read_metrics(metrics):
        groups = {"" if row["stage"] == STAGES[-1] else f"{row['stage']}: ": "losses", "validation: ": "validation"}
        for prefix, group in groups.items():
            for name, value in main_terms(row.get(group, {})).items():
                found.setdefault(prefix + name, []).append((row["step"], value))
        for who, scores in row.get("validation", {}).items():
            for name, value in main_terms(scores if isinstance(scores, dict) else {}).items():
                beside.setdefault(f"validation: {name}", {}).setdefault(who, []).append((row["step"], value))
    return [Curve(title, points, beside.get(title, {})) for title, points in found.items()]


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Running means over ``share`` of the curve to both sides, so that a trend shows through the noise of batches."""
    reach = round(share * len(values))
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Two to ``most`` numbers from ``low`` to ``high`` that people read at a glance: 1, 2 or 5 times 10^n apart."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * digit for digit in (1, 2, 5, 10, 20) if span / (power * digit) < most - 1e-6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def labels(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Every tick with its number, in as many decimals as tell it from the next one."""
    apart = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) or 1.0
    decimals = max(0, -math.floor(math.log10(apart) + 1e-9))
    return [(tick, f"{tick + 0.0:.{decimals}f}") for tick in ticks]


def _draw(curves: Sequence[Curve]) -> Image.Image:
    columns = min(COLUMNS, len(curves))
    width, height = PANEL_PX
    page = Image.new("RGB", (columns * width, -(-len(curves) // columns) * height), "white")
    for index, curve in enumerate(curves):
        page.paste(_panel(curve), (index % columns * width, index // columns * height))
    return page


def _panel(curve: Curve) -> Image.Image:
    panel = Image.new("RGB", PANEL_PX, "white")
    draw = ImageDraw.Draw(panel)
    left, right, top, bottom = MARGIN_PX
    steps, values = zip(*curve.points, strict=True)
    everything = [point for points in (curve.points, *curve.beside.values()) for point in points]
    (first, last), (low, high) = (_range([point[axis] for point in everything]) for axis in (0, 1))

    def place(point: Point) -> Point:
        across, up = (point[0] - first) / (last - first), (point[1] - low) / (high - low)
        return left + across * (PANEL_PX[0] - left - right), PANEL_PX[1] - bottom - up * (PANEL_PX[1] - top - bottom)

    for tick, label in labels(round_ticks(low, high)):
        y = place((first, tick))[1]
        draw.line([(left, y), (PANEL_PX[0] - right, y)], fill=GRID)
        draw.text((left - 6, y), label, fill=INK, anchor="rm")
    for tick, label in labels(round_ticks(first, last)):
        x = place((tick, low))[0]
        draw.line([(x, top), (x, PANEL_PX[1] - bottom)], fill=GRID)
        draw.text((x, PANEL_PX[1] - bottom + 4), label, fill=INK, anchor="ma")
    draw.text((left, 4), f"{curve.title}  (last {values[-1]:.4g})", fill=INK)
    across = float(PANEL_PX[0] - right)
    for (who, points), colour in reversed(list(zip(curve.beside.items(), cycle(BESIDE)))):
        _line(draw, [place(point) for point in points], colour)
        draw.text((across, 4), who, fill=colour, anchor="ra")
        across -= draw.textlength(f"{who}  ")
    _line(draw, [place(point) for point in curve.points], LINE)
    _line(draw, [place(point) for point in zip(steps, smooth(values), strict=True)], SMOOTH)
    return panel


def _line(draw: ImageDraw.ImageDraw, points: Sequence[Point], colour: str) -> None:
    if len(points) == 1:
        (x, y), dot = points[0], 2
        draw.ellipse([(x - dot, y - dot), (x + dot, y + dot)], fill=colour)
    else:
        draw.line(points, fill=colour, width=2)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest; a little apart where they are the same, so that there is a scale."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))
