"""Checkpoints are whole or absent, the last few are kept, and a damaged one costs the steps since another."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import start_processes, tiny_recipe, tiny_trainer

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.loading import load_controlnet, load_unet
from xpsr_cli.training import checkpoint
from xpsr_cli.training.checkpoint import Position, checkpoints, latest
from xpsr_cli.training.loop import Listener

KEPT = ["optimizer.steps=4", "output.save_steps=1", "output.keep=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two autoencoder and four diffusion steps, of which two checkpoints are kept."""
    output = tmp_path_factory.mktemp("finished")
    assert tiny_trainer(output, tiny_recipe("mini", *KEPT)).run()
    return output


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


def names(output: Path) -> list[str]:
    return [folder.name for folder in checkpoints(output)]


def test_the_last_few_are_kept_in_the_order_of_the_run(trained: Path) -> None:
    assert names(trained) == ["step-000003", "step-000004"]
    assert latest(trained) == trained / "checkpoints" / "step-000004"
    assert latest(trained / "nothing") is None
    for name in ("autoencoder-000002", "step-1000000", "step-000009.part", "step-last"):
        (trained / "checkpoints" / name).mkdir()
    assert names(trained) == ["autoencoder-000002", "step-000003", "step-000004", "step-1000000"]


def test_the_newest_model_is_that_of_the_last_checkpoint_and_outlives_it(trained: Path) -> None:
    newest, saved = trained / "model", trained / "checkpoints" / "step-000004" / "model"
    files = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    assert all((newest / file).read_bytes() == (saved / file).read_bytes() for file in files)
    shutil.rmtree(trained / "checkpoints")
    load_unet(newest / "unet")
    load_controlnet(newest / "controlnet")


def test_models_are_averaged_and_states_are_exact(trained: Path) -> None:
    folder = trained / "checkpoints" / "step-000004"
    exact, averaged = (load_file(folder / "state" / f"{name}.safetensors") for name in ("weights", "average"))
    unet = load_unet(folder / "model" / "unet").state_dict()
    assert all(torch.equal(value, averaged[f"unet.{name}"]) for name, value in unet.items())
    assert not any(torch.equal(value, exact[f"unet.{name}"]) for name, value in unet.items() if "conv_in" in name)


def test_a_disk_without_links_holds_a_copy(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise OSError("this file system has no links")

    monkeypatch.setattr(os, "link", cannot)
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT, "optimizer.steps=5"))
    trainer.resume()
    assert trainer.run()
    assert (trained / "model" / "unet" / "config.json").stat().st_nlink == 1
    load_unet(trained / "model" / "unet")


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "position"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    trained: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = trained / "checkpoints" / "step-000004" / "state" / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    else:
        file.with_name("position.json").write_text("{}")
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT))
    with caplog.at_level(logging.WARNING, "xpsr_cli.training"):
        assert trainer.resume() == trained / "checkpoints" / "step-000003"
    assert "step-000004 is damaged" in caplog.text
    assert (trainer.position.stage, trainer.position.step) == ("diffusion", 3)
    with pytest.raises(WeightsError, match="damaged"):
        trainer.resume(trained / "checkpoints" / "step-000004")


def test_when_all_are_damaged_there_is_none(trained: Path) -> None:
    for folder in checkpoints(trained):
        (folder / "state" / "SHA256SUMS").unlink()
    assert tiny_trainer(trained, tiny_recipe("mini", *KEPT)).resume() is None


def test_what_is_no_checkpoint_is_said_to_be_none(trained: Path) -> None:
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT))
    for folder in (trained / "model", trained / "nothing"):
        with pytest.raises(UsageError, match="is not a checkpoint"):
            trainer.resume(folder)


def test_a_kill_before_the_model_is_published_is_made_up_for(trained: Path) -> None:
    saved = (trained / "model" / "unet" / "config.json").read_bytes()
    shutil.rmtree(trained / "model")
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT))
    trainer.resume()
    assert trainer.run()
    assert (trained / "model" / "unet" / "config.json").read_bytes() == saved


def test_a_kill_while_an_old_checkpoint_is_removed_leaves_no_part_of_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def killed(folder: Path, **options: bool) -> None:
        if folder.is_dir() and "step-000003" in folder.name:
            (folder / "state" / "SHA256SUMS").unlink()
            raise KeyboardInterrupt
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", killed)
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT, "optimizer.steps=5"))
    trainer.resume()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    monkeypatch.undo()
    assert names(trained) == ["step-000004", "step-000005"]
    checkpoint.recover(trained)
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == names(trained)


def test_a_folder_that_holds_no_state_is_passed_over(trained: Path) -> None:
    shutil.rmtree(trained / "checkpoints" / "step-000004" / "state")
    assert tiny_trainer(trained, tiny_recipe("mini", *KEPT)).resume() == trained / "checkpoints" / "step-000003"


def test_a_run_does_not_go_back_while_there_are_later_checkpoints(trained: Path) -> None:
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT))
    early, late = (trained / "checkpoints" / f"step-00000{step}" for step in (3, 4))
    with pytest.raises(UsageError, match="holds a later checkpoint than .*step-000003: step-000004"):
        trainer.resume(early)
    (late / "state" / "weights.safetensors").write_bytes(b"damaged")
    assert trainer.resume(early) == early
    assert trainer.run()
    checkpoint.check_whole(late)


def test_damaged_checkpoints_go_once_the_run_has_saved_again(trained: Path) -> None:
    shutil.copytree(trained / "checkpoints" / "step-000003", trained / "checkpoints" / "step-000009")
    (trained / "checkpoints" / "step-000009" / "state" / "position.json").unlink()
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT, "optimizer.steps=5"))
    assert trainer.resume() == trained / "checkpoints" / "step-000004"
    assert trainer.run()
    assert names(trained) == ["step-000004", "step-000005"]


def test_a_checkpoint_of_another_shape_is_refused_and_named(trained: Path) -> None:
    other = tiny_trainer(trained, tiny_recipe("mini", *KEPT, "model.block_out_channels=[8, 8, 8]"))
    with pytest.raises(WeightsError, match=r"weights.safetensors does not fit the recipe: .* of another shape"):
        other.resume()
    fewer = tiny_trainer(trained, tiny_recipe("mini", *KEPT, "model.layers_per_block=2"))
    with pytest.raises(WeightsError, match="missing"):
        fewer.resume(latest(trained))


def test_a_run_without_an_average_can_be_resumed_with_one(tmp_path: Path) -> None:
    assert tiny_trainer(tmp_path, tiny_recipe("mini", *KEPT, "optimizer.ema_decay=0")).run()
    folder = latest(tmp_path)
    assert folder is not None
    assert not (folder / "state" / "average.safetensors").exists()
    trainer = tiny_trainer(tmp_path, tiny_recipe("mini", *KEPT, "optimizer.steps=5"))
    trainer.resume()
    assert trainer.run()
    averaged = load_file(tmp_path / "checkpoints" / "step-000005" / "state" / "average.safetensors")
    exact = load_file(tmp_path / "checkpoints" / "step-000005" / "state" / "weights.safetensors")
    for name, value in averaged.items():
        torch.testing.assert_close(value, exact[name])  # the first ones of an average count most


def test_a_checkpoint_of_another_optimizer_is_refused(trained: Path) -> None:
    trainer = tiny_trainer(trained, tiny_recipe("mini", *KEPT, "optimizer.steps=5"))
    state = checkpoint.RunState(trainer.networks, None, "adamw8bit", None, None)
    with pytest.raises(UsageError, match="'adamw8bit'.*'adamw'"):
        checkpoint.load_optimizer(trained / "checkpoints" / "step-000004", state)


class _SmallFiles(Listener):
    """After the first save no file may grow beyond 4 KB, as on a full disk."""

    def saved(self, step: int, folder: Path) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def _train_on_a_full_disk(output: Path, report: Path) -> None:
    with report.open("w") as file:
        try:
            tiny_trainer(output, tiny_recipe("mini", *KEPT), listener=_SmallFiles()).run()
        except WeightsError as error:
            file.write(f"{error.message}\n{error.hint}")


def test_a_full_disk_leaves_what_was_saved(tmp_path: Path) -> None:
    (process,) = start_processes(1, _train_on_a_full_disk, tmp_path / "run", tmp_path / "report")
    process.join(120)
    message, hint = (tmp_path / "report").read_text().splitlines()
    assert "autoencoder-000002 could not be saved" in message
    assert "--resume latest" in hint
    assert names(tmp_path / "run") == ["autoencoder-000001"]
    assert sorted(path.name for path in (tmp_path / "run").rglob("*.part")) == []
    load_unet(tmp_path / "run" / "model" / "unet")
    trainer = tiny_trainer(tmp_path / "run", tiny_recipe("mini", *KEPT))
    assert trainer.resume() == tmp_path / "run" / "checkpoints" / "autoencoder-000001"
    assert trainer.run()


def test_what_killed_saves_left_is_cleared_away_and_renames_are_undone(trained: Path) -> None:
    (trained / "model").rename(trained / "model.old")
    (trained / "checkpoints" / "step-000005.part" / "state").mkdir(parents=True)
    (trained / "checkpoints" / "step-000003").rename(trained / "checkpoints" / "step-000003.old")
    (trained / "checkpoints" / "step-000004.old").mkdir()
    (trained / "mine.part").mkdir()
    checkpoint.recover(trained)
    load_unet(trained / "model" / "unet")
    assert sorted(path.name for path in trained.iterdir()) == ["checkpoints", "mine.part", "model"]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["step-000003", "step-000004"]


def test_a_position_survives_its_file(trained: Path) -> None:
    position = checkpoint.read_position(trained / "checkpoints" / "step-000003")
    assert (position.stage, position.step, position.name) == ("diffusion", 3, "step-000003")
    assert position.seconds > 0
    assert Position("autoencoder", 12).name == "autoencoder-000012"
