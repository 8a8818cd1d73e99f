"""What a small XPSR model is trained to minimise: L = L_D + 0.05 L_DFC (XPSR eq. 9), and the decoded estimate.

L_D is the noise loss in v-prediction (Salimans and Ho 2022). Two deviations from the paper, both because this model
is trained from nothing on little compute: most samples sit at the last timestep, the one a few-step sampler depends
on, and the decoded one-step estimate is compared with the photo (L1), which also trains the decoder.
"""

# shapes: B batch, S crop side, s = S/8 latent cells, Z latent channels, L = 77 tokens

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.degradation_free import DegradationFreeLoss, degradation_free_loss
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.models.unet import XpsrUNet
from xpsr_cli.training.recipe import LossRecipe


@dataclass
class Networks:
    """The trained networks of one model."""

    text_encoder: torch.nn.Module
    vae: ResidualAutoencoder
    unet: XpsrUNet
    controlnet: XpsrControlNet

    def modules(self) -> dict[str, torch.nn.Module]:
        """By the folder each is saved in."""
        return {
            "text_encoder": self.text_encoder,
            "vae": self.vae,
            "unet": self.unet,
            "controlnet": self.controlnet,
        }

    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained, in a fixed order."""
        return [parameter for module in self.modules().values() for parameter in module.parameters()]


class DiffusionObjective:
    """Computes the loss terms of a batch; holds no parameters of its own."""

    def __init__(self, networks: Networks, scheduler: DDIMScheduler, recipe: LossRecipe) -> None:
        self.networks = networks
        self.scheduler = scheduler
        self.recipe = recipe
        energy = networks.vae.deviation**2
        self._energy_weight = (energy / energy.mean())[None, :, None, None]

    def __call__(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Loss terms of a batch.

        Args:
            batch: ``target_pm1`` and ``enlarged_pm1`` (B, 3, S, S) in [-1, 1]; ``high`` and ``low`` (B, L) token ids.
            generator: source of noise and timesteps.

        Returns:
            Scalars ``total``, ``noise``, ``pixel`` and ``degradation``; all but ``total`` unweighted.
        """
        networks = self.networks
        target, enlarged = batch["target_pm1"], batch["enlarged_pm1"]
        with torch.no_grad():
            clean = networks.vae.encode_residual(target, enlarged)
        noise, timesteps = self._draw(clean, generator)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        velocity = self.scheduler.get_velocity(clean, noise, timesteps)

        prompts = networks.text_encoder(torch.cat([batch["high"], batch["low"]])).last_hidden_state
        high, low = prompts.chunk(2)
        control = networks.controlnet(noisy, timesteps, high, low, image=(enlarged + 1) / 2, with_heads=True)
        prediction = networks.unet(noisy, timesteps, high, control)

        mean, spread = self._signal_and_noise(timesteps)
        estimate = networks.vae.decode_residual(mean * noisy - spread * prediction, enlarged)
        return self._sum(
            noise=self._noise_loss(prediction, velocity),
            pixel=F.l1_loss(estimate, target),
            degradation=degradation_free_loss(control, target, clean),
        )

    def _draw(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise like ``clean`` and (B,) timesteps: often the last one, its noise then absent half the time."""
        last = self.scheduler.config.num_train_timesteps - 1
        batch = clean.shape[0]
        timesteps = torch.randint(0, last + 1, (batch,), generator=generator)
        practise = torch.rand(batch, generator=generator) < self.recipe.last_timestep_probability
        timesteps = torch.where(practise, last, timesteps)
        warmth = (2 * torch.rand(batch, generator=generator) - 1).clamp_min(0)
        temperature = torch.where(timesteps == last, warmth, torch.ones(()))
        noise = torch.randn(clean.shape, generator=generator) * temperature[:, None, None, None]
        return noise.to(clean), timesteps.to(clean.device)

    def _signal_and_noise(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a_t) and sqrt(1 - a_t), shaped to multiply latents."""
        cumulative = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps][:, None, None, None]
        return cumulative.sqrt(), (1 - cumulative).sqrt()

    def _noise_loss(self, prediction: Tensor, velocity: Tensor) -> Tensor:
        """MSE, part whitened (every latent channel alike), part weighted by the pixel energy of the channel."""
        squared = (prediction.float() - velocity.float()) ** 2
        share = self.recipe.latent_weight
        return share * squared.mean() + (1 - share) * (squared * self._energy_weight).mean()

    def _sum(self, *, noise: Tensor, pixel: Tensor, degradation: DegradationFreeLoss) -> dict[str, Tensor]:
        recipe = self.recipe
        total = noise + recipe.pixel_weight * pixel
        total = total + recipe.degradation_pixel_weight * sum(degradation.rgb)
        total = total + recipe.degradation_latent_weight * sum(degradation.latent)
        return {"total": total, "noise": noise, "pixel": pixel, "degradation": degradation.total}


def autoencoder_loss(vae: ResidualAutoencoder, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """L1 of photos decoded from their own latents, weakened at random so that the decoder does not rely on them."""
    target, enlarged = batch["target_pm1"], batch["enlarged_pm1"]
    with torch.no_grad():
        clean = vae.encode_residual(target, enlarged)
        strength = torch.rand(clean.shape[0], 1, 1, 1, generator=generator).to(clean)
    return F.l1_loss(vae.decode_residual(clean * strength.sqrt(), enlarged), target)
