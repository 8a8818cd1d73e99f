"""What is minimised: L = L_D + lambda L_DFC (XPSR eq. 9), and for a small model the decoded estimate.

L_D is the error of the predicted noise, or of the velocity (Salimans and Ho 2022). Two deviations from the paper, both
because a small model is trained from nothing on little compute: most of its samples sit at the last timestep, the one
a few-step sampler depends on, and its decoded one-step estimate is compared with the photo (L1), which also trains the
decoder. A recipe switches them off with a weight of 0.

Noise and timesteps of a sample are drawn from the seed and the sample's number, so that neither batch size, processes
nor restarts change what is drawn.
"""

# shapes: B batch, S crop side in pixels, c h w latent channels and cells, L text tokens, D text width, R features

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn

from xpsr_cli.errors import UsageError
from xpsr_cli.models.degradation_free import degradation_free_loss
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.recipe import LossRecipe

PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
"""The recipe's word for what is predicted, and the scheduler's."""


class DiffusionObjective(nn.Module):
    """The loss terms of a batch. A module that holds all networks, so that one wrapper synchronises all gradients."""

    def __init__(
        self, networks: TrainedNetworks, scheduler_config: Mapping[str, Any], recipe: LossRecipe, seed: int
    ) -> None:
        """:class:`UsageError` for a loss that these networks or this noise schedule cannot have."""
        super().__init__()
        self.networks = networks
        self.scheduler = DDIMScheduler.from_config(dict(scheduler_config))
        self.recipe = recipe
        self.seed = seed
        _check(networks, self.scheduler, recipe)

    def draw(self, samples: Sequence[int], height: int, width: int) -> dict[str, Tensor]:
        """What is random about samples with these numbers, for photos of ``height`` x ``width`` pixels.

        Returns:
            ``timesteps`` (B,), often the last one if the recipe says so, its noise then absent half the time;
            ``noise`` (B, c, h, w), and ``posterior_noise`` alike where latents are samples.
        """
        shape = self.networks.latent_shape(height, width)
        sources = [np.random.default_rng([self.seed, sample, 1]) for sample in samples]
        timesteps, noise = zip(*(self._draw_one(rng, shape) for rng in sources), strict=True)
        drawn = {"timesteps": torch.tensor(timesteps), "noise": torch.from_numpy(np.stack(noise))}
        if not self.networks.small:
            posterior = [rng.standard_normal(shape, dtype=np.float32) for rng in sources]
            drawn["posterior_noise"] = torch.from_numpy(np.stack(posterior))
        return drawn

    def _draw_one(self, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, np.ndarray]:
        last = self.scheduler.config.num_train_timesteps - 1
        timestep = int(rng.integers(last + 1))
        temperature = 1.0
        if self.recipe.last_timestep_probability > 0:
            if rng.random() < self.recipe.last_timestep_probability:
                timestep = last
            if timestep == last:
                temperature = max(0.0, 2 * rng.random() - 1)
        return timestep, rng.standard_normal(shape, dtype=np.float32) * np.float32(temperature)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss terms of a batch.

        Args:
            batch: ``target_pm1`` and ``enlarged_pm1`` (B, 3, S, S) in [-1, 1]; ``high`` and ``low`` (B, L) token ids;
                what :meth:`draw` returned for it.

        Returns:
            As :meth:`losses`.
        """
        clean = self.networks.encode(batch["target_pm1"], batch["enlarged_pm1"], batch.get("posterior_noise"))
        prompts = self.networks.text_encoder(torch.cat([batch["high"], batch["low"]])).last_hidden_state
        high, low = prompts.chunk(2)
        return self.losses(clean, high, low, batch)

    def losses(
        self,
        clean: Tensor,
        high: Tensor,
        low: Tensor,
        batch: Mapping[str, Tensor],
        reference: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of clean latents (B, c, h, w) under text embeddings (B, L, D), the rest as in :meth:`forward`.

        ``reference`` (B, R, h, w) are the features of references, for a model that reads them.

        Returns:
            Scalars. ``total`` is what to minimise. The others are unweighted and carry no gradient: ``noise``,
            ``pixel`` (the decoded estimate), ``degradation_pixel`` and ``degradation_latent``, each a sum over heads,
            and every head's own term, as in ``degradation_pixel/0`` and ``degradation_latent/mid``.
        """
        recipe, networks = self.recipe, self.networks
        target, enlarged = batch["target_pm1"], batch["enlarged_pm1"]
        noise, timesteps = batch["noise"], batch["timesteps"]
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        image = (enlarged + 1) / 2  # ControlNets read photos in [0, 1]
        constrained = recipe.degradation_pixel_weight > 0 or recipe.degradation_latent_weight > 0
        control = self.control(noisy, timesteps, high, low, image, constrained, reference)
        prediction = networks.unet(noisy, timesteps, high, control, reference).float()

        terms = {"noise": self._noise_loss(prediction, clean, noise, timesteps)}
        total = terms["noise"]
        if recipe.pixel_weight > 0:
            estimate = networks.vae.decode_residual(self._estimate(prediction, noisy, timesteps), enlarged)
            terms["pixel"] = F.l1_loss(estimate.float(), target)
            total = total + recipe.pixel_weight * terms["pixel"]
        if constrained:
            loss = degradation_free_loss(control, target, clean)
            sums = {"degradation_pixel": sum(loss.rgb), "degradation_latent": sum(loss.latent)}
            for weight, (name, term) in zip(
                (recipe.degradation_pixel_weight, recipe.degradation_latent_weight), sums.items(), strict=True
            ):
                if weight > 0:
                    terms[name] = torch.as_tensor(term)
                    total = total + weight * terms[name]
            terms |= {f"degradation_pixel/{k}": term for k, term in enumerate(loss.rgb)}
            places = [*range(len(loss.latent) - 1), "mid"] if loss.latent else []
            terms |= {f"degradation_latent/{k}": term for k, term in zip(places, loss.latent, strict=True)}
        return {"total": total, **{name: term.detach() for name, term in terms.items()}}

    def control(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        high: Tensor,
        low: Tensor,
        image: Tensor,
        with_heads: bool,
        reference: Tensor | None,
    ) -> Any:
        """What steers the UNet, for ``image`` (B, 3, S, S) in [0, 1]: its ``control``."""
        return self.networks.controlnet(
            noisy, timesteps, high, low, image=image, with_heads=with_heads, reference=reference
        )

    def _noise_loss(self, prediction: Tensor, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """MSE; of residual latents part whitened (channels alike), part weighted by the channels' pixel energy."""
        velocity = self.recipe.prediction == "v"
        goal = self.scheduler.get_velocity(clean, noise, timesteps) if velocity else noise
        squared = (prediction - goal) ** 2
        if not isinstance(self.networks.vae, ResidualAutoencoder):
            return squared.mean()
        energy = self.networks.vae.deviation**2
        weights = (energy / energy.mean())[None, :, None, None]
        share = self.recipe.latent_weight
        return share * squared.mean() + (1 - share) * (squared * weights).mean()

    def _estimate(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The clean latents that a prediction stands for."""
        cumulative = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps][:, None, None, None]
        mean, spread = cumulative.sqrt(), (1 - cumulative).sqrt()
        if self.recipe.prediction == "v":
            return mean * noisy - spread * prediction
        return (noisy - spread * prediction) / mean


class AutoencoderObjective(nn.Module):
    """L1 of photos decoded from their own latents, weakened at random so that the decoder does not rely on them."""

    def __init__(self, vae: ResidualAutoencoder, seed: int) -> None:
        super().__init__()
        self.vae = vae
        self.seed = seed

    def draw(self, samples: Sequence[int], height: int, width: int) -> dict[str, Tensor]:
        """``strength`` (B, 1, 1, 1) of the latents of samples with these numbers, in [0, 1]."""
        strength = [np.random.default_rng([self.seed, sample, 1]).random() for sample in samples]
        return {"strength": torch.tensor(strength, dtype=torch.float32)[:, None, None, None]}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``total`` for ``target_pm1`` and ``enlarged_pm1`` (B, 3, S, S) in [-1, 1] and ``strength``."""
        target, enlarged = batch["target_pm1"], batch["enlarged_pm1"]
        with torch.no_grad():
            clean = self.vae.encode_residual(target, enlarged)
        decoded = self.vae.decode_residual(clean * batch["strength"].sqrt(), enlarged)
        return {"total": F.l1_loss(decoded.float(), target)}


def _check(networks: TrainedNetworks, scheduler: DDIMScheduler, recipe: LossRecipe) -> None:
    """Refuse what could only fail later, or be ignored."""
    predicted = scheduler.config.prediction_type
    if PREDICTIONS[recipe.prediction] != predicted:
        raise UsageError(
            f"loss.prediction is {recipe.prediction!r}, but the model's scheduler says {predicted!r}.",
            "Use the one that the model was made with.",
        )
    if recipe.prediction == "epsilon" and float(scheduler.alphas_cumprod[-1]) == 0:
        raise UsageError(
            "loss.prediction is 'epsilon', but the schedule ends in pure noise, where that says nothing of the photo.",
            "Set loss.prediction=v.",
        )
    if recipe.pixel_weight > 0 and not networks.small:
        raise UsageError(
            f"loss.pixel_weight is {recipe.pixel_weight:g}, but only small models have a decoder to train.",
            "Set loss.pixel_weight=0.",
        )
    heads = {
        "degradation_pixel_weight": networks.controlnet.config.return_rgbs,
        "degradation_latent_weight": networks.controlnet.config.use_latent_pred,
    }
    for key, there in heads.items():
        if getattr(recipe, key) > 0 and not there:
            raise UsageError(
                f"loss.{key} is {getattr(recipe, key):g}, but this ControlNet has no such heads.", f"Set loss.{key}=0."
            )
