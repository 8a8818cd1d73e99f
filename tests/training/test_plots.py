"""The plot of the losses: every term is there, ticks are round, and what is no number does no harm."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.training.plots import PANEL_PX, labels, plot_metrics, read_curves, round_ticks, smooth


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    rows: list[dict] = [{"stage": "autoencoder", "step": step, "losses": {"total": 2.0}} for step in (2, 4)]
    rows += [
        {"stage": "diffusion", "step": step, "losses": {"total": 1 / step, "noise": 0.5 / step, "noise/part": 3.0}}
        for step in range(10, 310, 10)
    ]
    rows.append(
        {"stage": "diffusion", "step": 300, "validation": {"psnr": 24.0, "ssim": None, "bicubic": {"psnr": 1}}}
    )
    return write(tmp_path / "metrics.jsonl", rows)


def test_there_is_a_panel_for_every_term_and_measure(metrics: Path, tmp_path: Path) -> None:
    curves = read_curves(metrics)
    assert [curve.title for curve in curves] == ["autoencoder: total", "total", "noise", "validation: psnr"]
    assert curves[1].points[0] == (10, 0.1)
    assert plot_metrics(metrics, tmp_path / "plot.png") == 4
    picture = Image.open(tmp_path / "plot.png")
    assert picture.size == (2 * PANEL_PX[0], 2 * PANEL_PX[1])
    blue = (np.asarray(picture)[..., 2].astype(int) - np.asarray(picture)[..., 0]) > 60
    panel = blue[: PANEL_PX[1], PANEL_PX[0] :]
    rows = [np.flatnonzero(panel[:, x]).mean() for x in (80, 200, 440)]
    assert rows[0] < rows[1] < rows[2]  # a loss that falls is drawn falling
    assert blue[PANEL_PX[1] :, PANEL_PX[0] :].any()  # a single validation is a dot


def test_a_measure_is_drawn_beside_what_it_is_compared_with(tmp_path: Path) -> None:
    rows = [
        {
            "stage": "diffusion",
            "step": step,
            "validation": {"psnr": 24.0, "oracle": {"psnr": 25.0 + step, "ssim": None}},
        }
        for step in (10, 20)
    ]
    metrics = write(tmp_path / "metrics.jsonl", rows)
    (curve,) = read_curves(metrics)
    assert curve.beside == {"oracle": [(10, 35.0), (20, 45.0)]}
    plot_metrics(metrics, tmp_path / "plot.png")
    picture = np.asarray(Image.open(tmp_path / "plot.png")).astype(int)
    grey = (picture.max(axis=2) - picture.min(axis=2) < 10) & (picture.max(axis=2) > 120) & (picture.max(axis=2) < 150)
    heights = [np.flatnonzero(grey[30:, x]).mean() for x in (100, 250, 400)]
    assert heights[0] > heights[1] > heights[2]  # it rises


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert plot_metrics(write(tmp_path / "metrics.jsonl", []), tmp_path / "plot.png") == 0
    assert not (tmp_path / "plot.png").exists()


def test_a_flat_curve_has_a_scale(tmp_path: Path) -> None:
    rows = [{"stage": "diffusion", "step": step, "losses": {"total": 0.0}} for step in (1, 2)]
    assert plot_metrics(write(tmp_path / "metrics.jsonl", rows), tmp_path / "plot.png") == 1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, [0, 50, 100]),
        (0.03, 0.11, [0.04, 0.06, 0.08, 0.1]),
        (50, 2600, [1000, 2000]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("span", [1e-6, 0.000812, 0.37, 1, 3, 7, 9.99, 64, 12345])
@pytest.mark.parametrize("low", [0.229176, 1.0, -7.3])
def test_there_are_never_too_many_ticks_nor_one_alone(low: float, span: float) -> None:
    assert 2 <= len(round_ticks(low, low + span)) <= 5


@pytest.mark.parametrize(
    ("ticks", "numbers"),
    [
        ([1000, 2000], ["1000", "2000"]),
        ([0.7579, 0.75795, 0.758], ["0.75790", "0.75795", "0.75800"]),
        ([0.04, 0.06], ["0.04", "0.06"]),
        ([-0.5, 0], ["-0.5", "0.0"]),
        ([5], ["5"]),
        ([0], ["0"]),
    ],
)
def test_numbers_tell_ticks_apart(ticks: list[float], numbers: list[str]) -> None:
    assert [number for _, number in labels(ticks)] == numbers


def test_smoothing_keeps_the_mean_of_a_line_and_shrinks_noise() -> None:
    noise = list(np.random.default_rng(0).normal(size=400))
    assert np.std(smooth(noise)) < 0.4 * np.std(noise)
    assert smooth([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
