"""The loop: what it minimises, when it stops, what it tells, and that no kill changes what is learnt."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import Squares, start_processes, tiny_recipe, tiny_trainer
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from xpsr_cli.errors import UsageError, XpsrError
from xpsr_cli.models.loading import load_controlnet, load_unet
from xpsr_cli.training.checkpoint import checkpoints, latest
from xpsr_cli.training.loop import Listener, Trainer
from xpsr_cli.training.recipe import Recipe

BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
SECOND_STAGE = 2**30  # number of its first sample


class Diary(Listener):
    """Writes down all it hears; ``then`` is called after every log."""

    def __init__(self, then: Callable[[int], None] = lambda step: None) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.losses: list[dict[str, float]] = []
        self.rates: list[float] = []
        self.saves: list[tuple[int, str]] = []
        self.validations: list[int] = []
        self._then = then

    def begin(self, stage: str, step: int, steps: int) -> None:
        self.stages.append((stage, step, steps))

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self.losses.append(losses)
        self.rates.append(learning_rate)
        self._then(step)

    def validate(self, step: int, model_folder: Path) -> None:
        load_unet(model_folder / "unet")
        load_controlnet(model_folder / "controlnet")
        self.validations.append(step)

    def saved(self, step: int, folder: Path) -> None:
        self.saves.append((step, folder.name))


def weights(output: Path) -> dict[str, Tensor]:
    folder = latest(output)
    assert folder is not None
    return load_file(folder / "state" / "weights.safetensors")


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of the exact and the averaged weights of a run's last checkpoint."""
    folder = latest(output)
    assert folder is not None
    names = ("weights", "average")
    return {n: hashlib.sha256((folder / "state" / f"{n}.safetensors").read_bytes()).hexdigest() for n in names}


@contextmanager
def steps_watched(watch: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    """Call ``watch`` with the optimizer before every step of it."""
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: watch(optimizer))
    try:
        yield
    finally:
        handle.remove()


def test_a_run_tells_of_its_stages_losses_saves_and_validations(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    diary = Diary()
    recipe = tiny_recipe("mini", "output.save_steps=3", "output.validate_steps=2", "output.log_steps=2")
    assert tiny_trainer(tmp_path, recipe, listener=diary, workers=1).run()
    assert diary.stages == [("autoencoder", 0, 2), ("diffusion", 0, 4)]
    assert diary.saves == [(2, "autoencoder-000002"), (3, "step-000003"), (4, "step-000004")]
    assert diary.validations == [2, 4]
    assert [losses.keys() >= {"total", "gradient_norm"} for losses in diary.losses] == [True] * 3
    assert diary.losses[1].keys() >= {
        "noise",
        "pixel",
        "degradation_pixel",
        "degradation_latent",
        "degradation_pixel/0",
    }
    assert all(math.isfinite(value) for losses in diary.losses for value in losses.values())
    assert "".join(capfd.readouterr()) == ""


def test_the_warm_up_reaches_the_optimizer(tmp_path: Path) -> None:
    diary, used = Diary(), []
    recipe = tiny_recipe("sd", "optimizer.schedule=constant", "optimizer.warmup_steps=3")
    with steps_watched(lambda optimizer: used.append(optimizer.param_groups[0]["lr"])):
        tiny_trainer(tmp_path, recipe, listener=diary).run()
    rate = recipe.optimizer.learning_rate
    assert used == diary.rates == pytest.approx([rate / 3, 2 * rate / 3, rate, rate])


def test_gradients_are_clipped_together_once_they_are_complete(tmp_path: Path) -> None:
    norms = []

    def norm(optimizer: torch.optim.Optimizer) -> None:
        parameters = optimizer.param_groups[0]["params"]
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])))

    recipe = tiny_recipe("sd", "optimizer.accumulation=3", "optimizer.max_grad_norm=0.01", "optimizer.steps=2")
    with steps_watched(norm):
        tiny_trainer(tmp_path, recipe).run()
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_on_a_stable_diffusion_only_control_and_conditional_attention_change(
    tmp_path: Path, checkpointing: str
) -> None:
    optimized = []
    recipe = tiny_recipe("sd", "optimizer.ema_decay=0.9", f"optimizer.gradient_checkpointing={checkpointing}")
    trainer = tiny_trainer(tmp_path, recipe)
    before = {name: value.clone() for name, value in trainer.networks.state_dict().items()}
    with steps_watched(lambda optimizer: optimized.append(sum(len(g["params"]) for g in optimizer.param_groups))):
        assert trainer.run()
    trained = trainer.networks.trained()
    assert optimized == [len(trained)] * 4
    changed = {name for name, value in trainer.networks.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= trained.keys()
    assert len(changed) > 0.9 * len(trained)  # keys and values of what still is zero learn nothing yet
    assert all(name.startswith("controlnet.") or ".conditional." in name for name in changed)
    assert weights(tmp_path).keys() == trained.keys()


def test_computing_in_bf16_keeps_the_weights_in_32_bits(tmp_path: Path) -> None:
    seen = {}
    for precision in ("no", "bf16"):
        diary = Diary()
        recipe = tiny_recipe("sd", f"optimizer.mixed_precision={precision}", "optimizer.steps=2")
        assert tiny_trainer(tmp_path / precision, recipe, listener=diary).run()
        seen[precision] = diary.losses[0]
        assert {value.dtype for value in weights(tmp_path / precision).values()} == {torch.float32}
    for name, value in seen["no"].items():
        assert seen["bf16"][name] == pytest.approx(value, rel=0.05)
    assert seen["bf16"]["total"] != seen["no"]["total"]


def in_fp16(trainer: Trainer, scale: float) -> Trainer:
    """As on a GPU: computing in fp16, with the loss scaled. The steps of a processor are as good, if slow."""
    accelerator = trainer.accelerator
    accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return trainer


def test_steps_that_overflow_in_fp16_are_passed_over(tmp_path: Path) -> None:
    diary, recipe = Diary(), tiny_recipe("sd", "optimizer.steps=4")
    trainer = in_fp16(tiny_trainer(tmp_path, recipe, listener=diary), 2.0**20)
    used: list[torch.optim.Optimizer] = []
    with steps_watched(used.append):
        assert trainer.run()
    passed_over = int(math.log2(2.0**20 / trainer.accelerator.scaler.get_scale()))
    assert 0 < passed_over < 4
    assert {int(state["step"]) for state in used[-1].state.values()} == {4 - passed_over}
    assert ["gradient_norm" in losses for losses in diary.losses] == [step >= passed_over for step in range(4)]
    assert all(bool(torch.isfinite(value).all()) for value in weights(tmp_path).values())


def test_a_run_in_fp16_goes_on_with_its_loss_scale(tmp_path: Path) -> None:
    recipe = tiny_recipe("sd", "output.save_steps=1", "optimizer.ema_decay=0.9")
    assert in_fp16(tiny_trainer(tmp_path / "straight", recipe), 2.0**20).run()
    trainer = in_fp16(tiny_trainer(tmp_path / "halting", recipe), 2.0**20)
    trainer.stop.deadline = time.monotonic()
    assert not trainer.run()
    trainer = in_fp16(tiny_trainer(tmp_path / "halting", recipe), 2.0**20)
    trainer.resume()
    assert trainer.run()
    assert digests(tmp_path / "halting") == digests(tmp_path / "straight")


def test_gradients_that_overflow_whatever_the_scale_stop_the_run(tmp_path: Path) -> None:
    recipe = tiny_recipe("sd", "optimizer.steps=5")
    trainer = in_fp16(tiny_trainer(tmp_path, recipe), 2.0**-8)
    next(iter(trainer.networks.trained().values())).register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(XpsrError, match=r"The gradient of diffusion step 3 is not finite.*step-000002"):
        trainer.run()
    trainer = in_fp16(tiny_trainer(tmp_path, recipe), 2.0**10)
    trainer.resume()
    assert trainer.run()
    assert trainer.accelerator.scaler.get_scale() == 2.0**10


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    for name, changes in {
        "large": ["data.batch_size=6"],
        "accumulated": ["data.batch_size=2", "optimizer.accumulation=3"],
    }.items():
        recipe = tiny_recipe("mini", *changes, "optimizer.learning_rate=1e-4")
        assert tiny_trainer(tmp_path / name, recipe).run()
    large, accumulated = weights(tmp_path / "large"), weights(tmp_path / "accumulated")
    for name, value in large.items():
        torch.testing.assert_close(accumulated[name], value, rtol=0, atol=1e-5)


def test_a_batch_seen_again_and_again_is_learnt(tmp_path: Path) -> None:
    class One(Squares):
        def __getitem__(self, number: int) -> dict[str, Tensor | str]:
            return super().__getitem__(number % 2)

    diary = Diary()
    recipe = tiny_recipe("mini", "optimizer.steps=60", "optimizer.learning_rate=4e-3", "output.log_steps=10")
    assert tiny_trainer(tmp_path, recipe, pairs=One(32), listener=diary).run()
    assert diary.losses[-1]["total"] < 0.6 * diary.losses[0]["total"]


def test_at_the_deadline_it_saves_and_stops(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, tiny_recipe("sd"))
    trainer.stop.deadline = time.monotonic()
    assert not trainer.run()
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-000001"]


def test_it_saves_by_the_clock_too(tmp_path: Path) -> None:
    diary = Diary()
    recipe = tiny_recipe("sd", "output.save_minutes=0.00001", "output.keep=9")
    assert tiny_trainer(tmp_path, recipe, listener=diary).run()
    assert [step for step, _ in diary.saves] == [1, 2, 3, 4]


class _Broken(Squares):
    """Sample 9 of the second stage is no number."""

    def __getitem__(self, number: int) -> dict[str, Tensor | str]:
        pair = super().__getitem__(number)
        if number == SECOND_STAGE + 9:
            pair["target_pm1"] = torch.full_like(pair["target_pm1"], math.nan)  # type: ignore[arg-type]
        return pair


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_no_number_stops_the_run_and_what_was_good_is_saved(tmp_path: Path, accumulation: int) -> None:
    last = 4 // accumulation
    recipe = tiny_recipe("sd", "optimizer.steps=9", f"optimizer.accumulation={accumulation}", "output.keep=1")
    trainer = tiny_trainer(tmp_path / "broken", recipe, pairs=_Broken(64))
    with pytest.raises(XpsrError, match=rf"loss of diffusion step {last + 1} .*step-00000{last}") as caught:
        trainer.run()
    assert "--resume latest" in caught.value.hint
    good = tiny_trainer(tmp_path / "good", replace(recipe, optimizer=replace(recipe.optimizer, steps=last)))
    assert good.run()
    broken = weights(tmp_path / "broken")
    assert all(torch.equal(broken[name], value) for name, value in weights(tmp_path / "good").items())


def test_weights_that_are_broken_already_are_not_saved(tmp_path: Path) -> None:
    def spoil(step: int) -> None:
        if step == 3:
            next(iter(trainer.networks.trained().values())).data.fill_(math.nan)

    trainer = tiny_trainer(tmp_path, tiny_recipe("sd", "output.save_steps=2"), listener=Diary(spoil))
    with pytest.raises(XpsrError, match="step 4 is not finite"):
        trainer.run()
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-000002"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_obeyed_after_a_save(tmp_path: Path, number: int) -> None:
    came = []

    def outside(number: int, _: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(number, outside)
    try:
        trainer = tiny_trainer(
            tmp_path, tiny_recipe("sd"), listener=Diary(lambda step: step == 2 and signal.raise_signal(number))
        )
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert signal.getsignal(number) is outside
    finally:
        signal.signal(number, before)
    assert came == [number]
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-000003"]  # of the step that had begun


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    def impatient(step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path, tiny_recipe("sd"), listener=Diary(impatient)).run()
    assert checkpoints(tmp_path) == []


def test_a_recipe_with_an_autoencoder_stage_needs_a_model_that_has_one(tmp_path: Path) -> None:
    recipe = replace(tiny_recipe("sd"), autoencoder=tiny_recipe("mini").autoencoder)
    with pytest.raises(UsageError, match=r"\[autoencoder\]"):
        tiny_trainer(tmp_path, recipe).run()
    trainer = tiny_trainer(tmp_path, recipe)
    trainer.skip_autoencoder()
    assert trainer.run()


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        ("mini", "adamw"),
        ("sd", "adamw"),
        pytest.param("mini", "adamw8bit", marks=pytest.mark.skipif(not BITSANDBYTES, reason="needs bitsandbytes")),
    ],
)
def test_a_run_that_goes_on_learns_what_an_undisturbed_one_learns(tmp_path: Path, kind: str, optimizer: str) -> None:
    wide = (
        ["model.block_out_channels=[48, 64, 64]"] if optimizer == "adamw8bit" else []
    )  # the smallest are not of 8 bits
    recipe = tiny_recipe(kind, f"optimizer.name={optimizer}", "optimizer.ema_decay=0.9", "output.save_steps=1", *wide)
    assert tiny_trainer(tmp_path / "straight", recipe).run()
    for _ in range(9):
        trainer = tiny_trainer(tmp_path / "halting", recipe)
        trainer.resume()
        trainer.stop.deadline = time.monotonic()
        if trainer.run():
            break
    assert digests(tmp_path / "halting") == digests(tmp_path / "straight")


def test_a_run_goes_on_from_the_checkpoint_of_another(tmp_path: Path) -> None:
    recipe = tiny_recipe("sd", "output.save_steps=2", "output.keep=9", "optimizer.ema_decay=0.9")
    assert tiny_trainer(tmp_path / "first", recipe).run()
    trainer = tiny_trainer(tmp_path / "second", recipe)
    assert trainer.resume(tmp_path / "first" / "checkpoints" / "step-000002") is not None
    assert trainer.run()
    assert digests(tmp_path / "second") == digests(tmp_path / "first")


class _Steps(Listener):
    """Tells another process of every step, and waits for its answer."""

    def __init__(self, other: Connection) -> None:
        self._other = other

    def log(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self._other.send(step)
        self._other.recv()


def _train(output: Path, recipe: Recipe, other: Connection) -> None:
    trainer = tiny_trainer(output, recipe, listener=_Steps(other), workers=1)
    trainer.resume()
    trainer.run()


def test_killed_runs_learn_what_an_undisturbed_one_learns(tmp_path: Path) -> None:
    recipe = tiny_recipe("mini", "optimizer.steps=16", "output.save_steps=2")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert tiny_trainer(straight, recipe).run()
    chance, heard = random.Random(), []
    for _ in range(3):
        here, there = multiprocessing.Pipe()
        (process,) = start_processes(1, _train, killed, recipe, there)
        for _ in range(chance.randint(1, 5)):
            heard.append(here.recv())
            here.send("go on")
        time.sleep(chance.uniform(0, 0.2))  # in a step, or in a save
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, heard
    trainer = tiny_trainer(killed, recipe)
    trainer.resume()
    assert trainer.run()
    assert digests(killed) == digests(straight), heard
