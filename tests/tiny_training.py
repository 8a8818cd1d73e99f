"""Training runs of the real classes at their smallest, in this process or in others."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from large_photos import TINY_MINI
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import Dataset
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.loading import save_controlnet, save_unet
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.training.build import MAX_TOKENS, SCHEDULER_CONFIG, build_networks
from xpsr_cli.training.checkpoint import latest
from xpsr_cli.training.loop import Listener, Trainer
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.processes import make_accelerator
from xpsr_cli.training.recipe import MiniModelRecipe, Recipe, load_recipe

TEXTS = ("a photo of water", "a house", "", "blurred, light noise")
SD_SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
_SLOW_IMPORTS = ["xpsr_cli.training.loop", "xpsr_cli.training.build", "xpsr_cli.models.loading"]
_MINI = (
    *TINY_MINI,
    "optimizer.warmup_steps=2",
    "output.log_steps=1",
    "output.save_steps=0",
    "output.validate_steps=0",
)
_SD = (
    "data.crop_px=64",
    "data.batch_size=2",
    "optimizer.steps=4",
    "optimizer.warmup_steps=2",
    "optimizer.accumulation=1",
    "optimizer.mixed_precision=no",
    "output.log_steps=1",
    "output.validate_steps=0",
    "output.save_steps=0",
)


def tiny_recipe(kind: str, *changes: str) -> Recipe:
    """The shipped recipe of a kind ("mini" or "sd") at its smallest, with ``section.key=value`` put over it."""
    name, smallest = {"mini": ("xpsr-mini", _MINI), "sd": ("xpsr-sd15", _SD)}[kind]
    return load_recipe(name, [*smallest, *changes])


def tiny_tokenizer() -> CLIPTokenizer:
    """One that knows letters alone, the same ones in every process."""
    letters = [chr(code) + end for end in ("", "</w>") for code in range(33, 127)]
    vocabulary = {word: number for number, word in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MAX_TOKENS)


def tiny_networks(recipe: Recipe, tokenizer: CLIPTokenizer) -> TrainedNetworks:
    """Fresh networks as small as the recipe says; on a Stable Diffusion, one of random weights."""
    if isinstance(recipe.model, MiniModelRecipe):
        return TrainedNetworks(*build_networks(recipe.model, tokenizer, recipe.seed))
    torch.manual_seed(recipe.seed)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=12,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
    )
    unet = XpsrUNet(
        block_out_channels=(8, 8, 8),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=12,
    )
    controlnet = XpsrControlNet.from_unet(
        unet, conditioning_embedding_out_channels=(4, 4, 4, 4), fusion=recipe.model.fusion
    )
    return TrainedNetworks(text_encoder, vae, unet, controlnet)


class Squares(Dataset):
    """Pairs that follow from their number: a random square on random grey, and the same blurred."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __getitem__(self, number: int) -> dict[str, Tensor | str]:
        rng = np.random.default_rng(number)
        target = torch.full((3, self.side, self.side), float(rng.uniform(-1, 1)))
        top, left = rng.integers(self.side // 2, size=2)
        target[:, top : top + self.side // 2, left : left + self.side // 2] = torch.from_numpy(
            rng.uniform(-1, 1, (3, 1, 1))
        )
        enlarged = torch.nn.functional.avg_pool2d(target, 5, 1, 2, count_include_pad=False)
        return {"target_pm1": target, "enlarged_pm1": enlarged, "high": TEXTS[number % 3], "low": TEXTS[3]}


def tiny_trainer(
    output: Path, recipe: Recipe, *, pairs: Dataset | None = None, listener: Listener | None = None, workers: int = 0
) -> Trainer:
    """A run of the recipe in ``output``; its model folders are the two published ones."""
    tokenizer = tiny_tokenizer()
    networks = tiny_networks(recipe, tokenizer)

    def export(folder: Path) -> None:
        save_unet(networks.unet, folder / "unet")
        save_controlnet(networks.controlnet, folder / "controlnet")

    return Trainer(
        recipe=recipe,
        networks=networks,
        tokenizer=tokenizer,
        pairs=pairs or Squares(recipe.data.crop_px),
        scheduler_config=SCHEDULER_CONFIG if networks.small else SD_SCHEDULER,
        output=output,
        export=export,
        accelerator=make_accelerator(recipe, "cpu"),
        listener=listener or Listener(),
        workers=workers,
    )


def keep_gradients(file: Path) -> None:
    """From now on write the gradients of every optimizer step of this process to ``file``, before the step is made."""
    kept: dict[str, Tensor] = {}

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        step = len({name.partition("/")[0] for name in kept})
        for place, parameter in enumerate(optimizer.param_groups[0]["params"]):
            if parameter.grad is not None:
                kept[f"{step}/{place}"] = parameter.grad.clone(memory_format=torch.contiguous_format)
        save_file(kept, file)

    register_optimizer_step_pre_hook(keep)


def start_processes(count: int, work: Callable[..., None], *arguments: Any) -> list[multiprocessing.Process]:
    """Fresh processes that call ``work(*arguments)``, as a launcher would start them to train together.

    They are forks of one that has imported everything: importing takes longer than training.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(_SLOW_IMPORTS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_PORT": str(port)}
    processes = []
    for rank in range(count):
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", **together}
        processes.append(context.Process(target=_work, args=(places if count > 1 else {}, work, arguments)))
        processes[-1].start()
    return processes


def _work(environment: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # as here: bits depend on it
    work(*arguments)


def weights_digest(output: Path) -> str:
    """SHA-256 of the exact weights of a run's last checkpoint."""
    folder = latest(output)
    assert folder is not None
    return hashlib.sha256((folder / "state" / "weights.safetensors").read_bytes()).hexdigest()
