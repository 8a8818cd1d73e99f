"""The training loop of a small XPSR model: two stages, one explicit loop each, resumable at any save."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

from xpsr_cli.errors import UsageError, XpsrError
from xpsr_cli.training import checkpoint
from xpsr_cli.training.build import SCHEDULER_CONFIG
from xpsr_cli.training.checkpoint import Position
from xpsr_cli.training.dataset import TrainingPairs
from xpsr_cli.training.objective import DiffusionObjective, Networks, autoencoder_loss
from xpsr_cli.training.recipe import AutoencoderRecipe, Recipe

log = logging.getLogger(__name__)
LOG_EVERY = 50
STAGES = ("autoencoder", "diffusion")
_FIT_OFFSET = 2**40  # indices of pairs no training step draws


@dataclass
class Trainer:
    """One run: the recipe, the networks, and where it stands."""

    recipe: Recipe
    networks: Networks
    tokenizer: CLIPTokenizer
    pairs: TrainingPairs
    output: Path
    export: Callable[[Path], None]  # writes the averaged model as a folder people can use
    deadline: float = math.inf  # time.monotonic() at which to save and stop
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    position: Position = field(default_factory=lambda: Position("autoencoder", 0, 0.0))

    def __post_init__(self) -> None:
        for module in self.networks.modules().values():
            module.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(self.recipe.seed)
        self.ema = EMAModel(
            self.networks.parameters(), decay=self.recipe.optimizer.ema_decay, use_ema_warmup=True, power=0.75
        )

    def run(self) -> bool:
        """Train from the present position to the end of the recipe; False when the deadline came first."""
        if self.position.stage == "autoencoder":
            if self.position.step == 0:
                self._fit_autoencoder()
            if not self._train_autoencoder():
                return False
            self.position = Position("diffusion", 0, self.position.seconds)
        return self._train_diffusion()

    def resume(self) -> None:
        """Go on from the saved state in the output folder."""
        position = checkpoint.read_position(self.output / "state")
        if position is None:
            return
        self.position = position
        checkpoint.load_weights(self.output / "state", self.networks)
        self.ema = EMAModel(
            self.networks.parameters(), decay=self.recipe.optimizer.ema_decay, use_ema_warmup=True, power=0.75
        )

    def _fit_autoencoder(self) -> None:
        """Stage one, first half: the transform is the principal axes of real residuals."""
        items = [self.pairs[_FIT_OFFSET + index] for index in range(_mini(self.recipe).fit_crops)]
        photos, enlarged = (torch.stack([item[name] for item in items]) for name in ("target_pm1", "enlarged_pm1"))  # type: ignore[misc]
        self.networks.vae.fit(photos.to(self.device), enlarged.to(self.device))

    def _train_autoencoder(self) -> bool:
        """Stage one, second half: the decoder learns to hide block borders."""
        recipe = _mini(self.recipe)
        vae = self.networks.vae
        optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.learning_rate, fused=True)
        return self._loop(
            "autoencoder",
            optimizer,
            recipe.steps,
            rate=lambda step: recipe.learning_rate * _cosine(step, recipe.steps, 0),
            losses=lambda batch: {"total": autoencoder_loss(vae, batch, self.generator)},
        )

    def _train_diffusion(self) -> bool:
        """Stage two: everything but the transform."""
        recipe = self.recipe.optimizer
        objective = DiffusionObjective(self.networks, DDIMScheduler.from_config(SCHEDULER_CONFIG), self.recipe.loss)
        optimizer = torch.optim.AdamW(
            self.networks.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        return self._loop(
            "diffusion",
            optimizer,
            recipe.steps,
            rate=lambda step: recipe.learning_rate * _cosine(step, recipe.steps, recipe.warmup_steps),
            losses=lambda batch: objective(batch, self.generator),
        )

    def _loop(
        self,
        stage: str,
        optimizer: torch.optim.Optimizer,
        steps: int,
        rate: Callable[[int], float],
        losses: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    ) -> bool:
        if self.position.step:
            checkpoint.load_optimizer(self.output / "state", optimizer, self.ema, self.generator)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        started, before, saved = time.monotonic(), self.position.seconds, time.monotonic()
        running: dict[str, float] = {}
        for batch in self._batches(self.position.step, steps, offset=STAGES.index(stage)):
            for group in optimizer.param_groups:
                group["lr"] = rate(self.position.step)
            terms = losses(batch)
            if not torch.isfinite(terms["total"]):
                raise XpsrError(
                    f"The loss of {stage} step {self.position.step} is {float(terms['total'])}.",
                    "The last save is untouched; go on from it with --resume and a lower learning rate.",
                )
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.optimizer.max_grad_norm)
            optimizer.step()
            self.ema.step(self.networks.parameters())

            self.position.step += 1
            self.position.seconds = before + time.monotonic() - started
            for name, value in terms.items():
                running[name] = running.get(name, 0.0) + float(value.detach()) / LOG_EVERY
            if self.position.step % LOG_EVERY == 0:
                self._log(stage, running)
                running = {}
            late = time.monotonic() > self.deadline
            if late or time.monotonic() - saved > 60 * self.recipe.output.save_minutes:
                self._save(optimizer)
                saved = time.monotonic()
            if late:
                return False
        self._save(optimizer)
        return True

    def _batches(self, first: int, last: int, offset: int) -> Iterator[dict[str, Tensor]]:
        """Batches ``first`` to ``last`` of a stage; what a step sees depends on its number alone."""
        size = self.recipe.data.batch_size
        start = offset * 2**30
        loader = DataLoader(
            self.pairs,
            batch_size=size,
            sampler=range(start + first * size, start + last * size),
            num_workers=1,
            prefetch_factor=8,
        )
        for batch in loader:
            tokens = {name: self._tokens(batch[name]) for name in ("high", "low")}
            pixels = {
                name: batch[name].to(self.device, memory_format=torch.channels_last)
                for name in ("target_pm1", "enlarged_pm1")
            }
            yield {**pixels, **tokens}

    def _tokens(self, texts: list[str]) -> Tensor:
        encoded = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return encoded["input_ids"].to(self.device)

    def _log(self, stage: str, losses: dict[str, float]) -> None:
        row = {"stage": stage, "step": self.position.step, "seconds": round(self.position.seconds, 1)}
        row.update({name: round(value, 5) for name, value in losses.items()})
        log.info(" ".join(f"{name}={value}" for name, value in row.items()))
        with (self.output / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        checkpoint.save_state(self.output / "state", self.networks, optimizer, self.ema, self.generator, self.position)
        self.ema.store(self.networks.parameters())
        self.ema.copy_to(self.networks.parameters())
        self.export(self.output / "model")
        self.ema.restore(self.networks.parameters())


def _mini(recipe: Recipe) -> AutoencoderRecipe:
    """Stage one of a recipe; :class:`UsageError` for one that is not of a small model."""
    if recipe.autoencoder is None:
        raise UsageError(f"The recipe {recipe.name} has no [autoencoder] section.", "Small models have one.")
    return recipe.autoencoder


def _cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up to 1, then half a cosine down to 0.01."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
