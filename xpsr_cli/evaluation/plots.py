"""The plots of an evaluation, as SVG for a web page: readable in light and in dark, and without telling colours apart.

Every method has a colour of the palette of Okabe and Ito and a marker of its own. Lines and letters take the colour of
the text around the plot (``currentColor``), and letters stay letters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpsr_cli.evaluation.metric import Better, MetricFacts
from xpsr_cli.evaluation.scores import Evaluation
from xpsr_cli.evaluation.statistics import Statistics
from xpsr_cli.evaluation.tables import heading

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#b8a900")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PERCEPTUAL = ("lpips", "dists", "musiq", "maniqa-koniq", "maniqa-pipal", "clipiqa", "niqe", "gmsd")
"""Names of metrics of how a picture looks, the ones that agree best with people first."""
MOST_POINTS = 400
"""Points of one method in the scatter plot; of more pictures some are taken, evenly."""
_INK = "#123456"  # stands for the colour of the text around the plot until the figure is written
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xpsr",  # the same plot has the same ids
    "text.parse_math": False,  # a $ in the name of a method is a $
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}
_LONGEST_NAME = 28
BOXES_SHOW = "The box holds the middle half of the pictures, the line is the median and the diamond the mean."


@dataclass(frozen=True)
class Plot:
    """A plot as an ``<svg>`` element, with a title and what it shows in words."""

    title: str
    svg: str
    about: str


def overview_plots(evaluation: Evaluation, statistics: Statistics) -> list[Plot]:
    """The scatter plot, and the win bars of every method but the reference, as far as there are scores to draw."""
    pair = scatter_metrics(evaluation.metrics)
    plots = [scatter_plot(evaluation, statistics, *pair) if pair is not None else None]
    plots += [win_plot(evaluation, statistics, method) for method in evaluation.methods]
    return [plot for plot in plots if plot is not None]


def box_plots(evaluation: Evaluation, statistics: Statistics) -> list[Plot]:
    """A plot of boxes per metric of single pictures."""
    plots = [box_plot(evaluation, statistics, facts) for facts in evaluation.metrics if not facts.whole_set]
    return [plot for plot in plots if plot is not None]


def first_perceptual(metrics: Sequence[MetricFacts]) -> MetricFacts | None:
    """The metric of how pictures look that is to be trusted most among those that were computed."""
    names = {facts.name: facts for facts in reversed(metrics) if not facts.whole_set}
    return next((names[name] for name in PERCEPTUAL if name in names), None)


def scatter_metrics(metrics: Sequence[MetricFacts]) -> tuple[MetricFacts, MetricFacts] | None:
    """PSNR under the first protocol, and the best perceptual metric; ``None`` without both."""
    psnr = next((facts for facts in metrics if facts.name == "psnr"), None)
    perceptual = first_perceptual(metrics)
    return (psnr, perceptual) if psnr is not None and perceptual is not None else None


def scatter_plot(evaluation: Evaluation, statistics: Statistics, across: MetricFacts, up: MetricFacts) -> Plot | None:
    """A point per picture and method, with the means and their intervals; ``None`` where no picture has both."""
    with rc_context(_STYLE):
        figure, axes = _axes(4.6, 3.8)
        drawn = False
        for index, method in enumerate(evaluation.methods):
            x, y = statistics.scores[method, across.key], statistics.scores[method, up.key]
            both = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
            if not len(both):
                continue
            drawn = True
            some = both[np.unique(np.linspace(0, len(both) - 1, MOST_POINTS).round().astype(int))]
            look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
            axes.plot(x[some], y[some], linestyle="none", markersize=3.5, alpha=0.6, markeredgewidth=0, **look)
            _cross(axes, statistics, method, across, up, look)
        axes.set_xlabel(heading(across))
        axes.set_ylabel(heading(up))
        axes.grid(visible=True)
        if drawn:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.3, columnspacing=1.2)
        svg = _svg(figure)
    about = "One small point per picture, one large one per method: its mean, with the 95 % interval."
    return Plot(f"{across.label} against {up.label}", svg, f"{about} {_corner(across, up)}".strip()) if drawn else None


def box_plot(evaluation: Evaluation, statistics: Statistics, facts: MetricFacts) -> Plot | None:
    """A box per method under one metric; ``None`` where there are no scores."""
    scores = {method: statistics.scores[method, facts.key] for method in evaluation.methods}
    columns = {method: found for method, values in scores.items() if len(found := values[np.isfinite(values)])}
    if not columns:
        return None
    with rc_context(_STYLE):
        figure, axes = _axes(4.6, 0.75 + 0.36 * len(columns))
        boxes = axes.boxplot(
            list(columns.values()),
            orientation="horizontal",
            widths=0.6,
            patch_artist=True,
            showmeans=True,
            medianprops={"color": _INK, "linewidth": 1.4},
            whiskerprops={"color": _INK},
            capprops={"color": _INK},
            flierprops={"marker": "o", "markersize": 2.5, "markerfacecolor": _INK, "markeredgewidth": 0, "alpha": 0.5},
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": _INK, "markeredgewidth": 0},
        )
        for box, method in zip(boxes["boxes"], columns, strict=True):
            colour = COLOURS[evaluation.methods.index(method) % len(COLOURS)]
            box.set(facecolor=(*_rgb(colour), 0.55), edgecolor=_INK)
        _rows(axes, list(columns))
        axes.set_xlabel(heading(facts))
        svg = _svg(figure)
    return Plot(heading(facts), svg, BOXES_SHOW)


def win_plot(evaluation: Evaluation, statistics: Statistics, method: str) -> Plot | None:
    """The share of pictures on which a method beats the reference, a bar per metric, with its interval."""
    found = [(facts, statistics.against_reference(method, facts.key)) for facts in evaluation.metrics]
    shown = [(facts, comparison) for facts, comparison in found if comparison is not None]
    if not shown:
        return None
    colour = COLOURS[evaluation.methods.index(method) % len(COLOURS)]
    with rc_context(_STYLE):
        figure, axes = _axes(4.6, 0.9 + 0.3 * len(shown))
        for row, (_, comparison) in enumerate(shown):
            rate, interval = 100 * comparison.win_rate, comparison.win_interval
            sure = comparison.verdict != ""
            axes.barh(row + 1, rate, height=0.62, color=(*_rgb(colour), 0.75 if sure else 0.25), edgecolor=_INK)
            ends = [[rate - 100 * interval.low], [100 * interval.high - rate]]
            axes.errorbar(rate, row + 1, xerr=np.maximum(ends, 0), color=_INK, capsize=2.5, linewidth=1.2)
        axes.axvline(50, color=_INK, linestyle="--", linewidth=1)
        axes.set_xlim(0, 100)
        axes.set_xlabel("pictures won, %")
        _rows(axes, [heading(facts) for facts, _ in shown])
        svg = _svg(figure)
    about = (
        f"The share of pictures on which {method} is better than {statistics.reference}, with its 95 % interval "
        "(Wilson); ties count as half. Full colour: the difference is more than chance, p < 0.05 after Holm."
    )
    return Plot(f"{method} against {statistics.reference}", svg, about)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of inches, as large as its content needs."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _cross(
    axes: Axes, statistics: Statistics, method: str, across: MetricFacts, up: MetricFacts, look: dict[str, Any]
) -> None:
    """The mean of a method with its intervals."""
    x, y = statistics.summaries[method, across.key], statistics.summaries[method, up.key]
    if x.mean is None or y.mean is None:
        return
    wide = [[x.mean - x.interval.low], [x.interval.high - x.mean]] if x.interval else None
    high = [[y.mean - y.interval.low], [y.interval.high - y.mean]] if y.interval else None
    axes.errorbar(
        x.mean, y.mean, xerr=wide, yerr=high, markersize=9, markeredgecolor=_INK, ecolor=_INK, capsize=3, zorder=5,
        linestyle="none", label=_short(method), **look,
    )  # fmt: skip


def _corner(across: MetricFacts, up: MetricFacts) -> str:
    """Where the best pictures lie."""
    if Better.NEAR_ONE in (across.better, up.better):
        return ""
    vertical = "top" if up.better is Better.HIGHER else "bottom"
    return f"Better pictures lie to the {vertical} {'right' if across.better is Better.HIGHER else 'left'}."


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """One name per row, the first one on top."""
    axes.set_yticks(range(1, len(names) + 1), [_short(name) for name in names])
    axes.set_ylim(len(names) + 0.6, 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    """A name that leaves room for the plot: the middle of a long one is left out."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element that scales with the page and takes its colour of text."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)  # a style would be one of the whole page
    text = text.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
    return text.replace(_INK, "currentColor")


def with_own_ids(svg: str, prefix: str) -> str:
    """A plot whose ids begin with ``prefix``: on a page with several plots they would be the same otherwise."""
    svg = re.sub(r'(\s)id="([^"]*)"', rf'\1id="{prefix}\2"', svg)
    svg = re.sub(r'(href="#)([^"]*")', rf"\1{prefix}\2", svg)
    return re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}\1)", svg)
