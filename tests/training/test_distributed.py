"""Several processes learn what one learns from the same global batch: gradients before the step, weights after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import keep_gradients, start_processes, tiny_recipe, tiny_trainer
from torch import Tensor

from xpsr_cli.training.checkpoint import latest


def train(kind: str, output: Path, changes: list[str]) -> None:
    """What each process does; the main one keeps its gradients, which are those of all."""
    trainer = tiny_trainer(output, tiny_recipe(kind, *changes))
    if trainer.accelerator.is_main_process:
        keep_gradients(output.with_suffix(".gradients"))
    assert trainer.run()
    trainer.accelerator.end_training()


def learnt(output: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(gradients of every step, final weights)."""
    folder = latest(output)
    assert folder is not None
    return load_file(output.with_suffix(".gradients")), load_file(folder / "state" / "weights.safetensors")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mini", ["optimizer.steps=3"]),
        ("sd", ["optimizer.steps=3"]),
        ("sd", ["optimizer.steps=2", "model.fusion=serial", "loss.degradation_pixel_weight=0"]),
    ],
)
def test_two_processes_learn_what_one_learns(kind: str, changes: list[str], tmp_path: Path) -> None:
    changes = [*changes, "optimizer.learning_rate=1e-4"]
    one, two = tmp_path / "one", tmp_path / "two"
    processes = start_processes(1, train, kind, one, [*changes, "data.batch_size=8"])
    processes += start_processes(2, train, kind, two, [*changes, "data.batch_size=2", "optimizer.accumulation=2"])
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    (gradients, weights), (other_gradients, other_weights) = learnt(one), learnt(two)
    assert gradients.keys() == other_gradients.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-5, atol=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=0, atol=1e-5)
