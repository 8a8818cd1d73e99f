"""The networks of one model in training: which of their parameters are trained, by kind of model."""

# shapes: B batch, H W photo pixels, c h w latent channels and cells, f pixels per latent cell

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xpsr_cli.models.conditional_attention import ConditionalAttention
from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.models.unet import XpsrUNet

PARTS: tuple[str, ...] = ("text_encoder", "vae", "unet", "controlnet")


class Networks(nn.Module):
    """The networks of a model of any kind in training, as the loop and its checkpoints need them.

    A subclass holds them as attributes, and says by ``requires_grad`` which parameters are trained.
    """

    part_names: tuple[str, ...]
    """The attributes, which are the folders they are saved in."""
    recomputed: tuple[str, ...]
    """Those that can trade time for memory."""

    def parts(self) -> dict[str, nn.Module]:
        """The networks by the folder each is saved in."""
        return {name: getattr(self, name) for name in self.part_names}

    def trained(self) -> dict[str, nn.Parameter]:
        """Every trained parameter by name, in a fixed order."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def exact_state(self) -> dict[str, Tensor]:
        """What training changes, by name: the trained parameters, and buffers such as a fitted transform."""
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        return {name: value for name, value in self.state_dict().items() if name not in frozen}

    def train(self, mode: bool = True) -> Networks:
        """Training mode for networks that are trained, at least in part; eval mode for the others."""
        super().train(mode)
        for network in self.parts().values():
            network.train(mode and any(parameter.requires_grad for parameter in network.parameters()))
        return self

    def place(
        self, device: torch.device, frozen_dtype: torch.dtype, layout: torch.memory_format = torch.channels_last
    ) -> None:
        """Move everything to ``device``, networks without a trained parameter also to ``frozen_dtype``."""
        move = nn.Module.to  # not diffusers' own, which warns at every cast
        for network in self.parts().values():
            frozen = not any(parameter.requires_grad for parameter in network.parameters())
            move(network, device, frozen_dtype if frozen else None, memory_format=layout)  # type: ignore[call-overload]

    def checkpoint_gradients(self) -> None:
        """Trade time for memory: activations inside ResNets and transformer blocks are computed twice.

        Reaches UNet and ControlNet, semantic fusion and conditional attention included. The image pyramid, the
        resampling convolutions, the mid blocks' first ResNet and the heads keep their activations.
        """
        for module in _checkpointed(*(self.parts()[name] for name in self.recomputed)):
            module.gradient_checkpointing = True  # type: ignore[assignment]
            module._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]


class TrainedNetworks(Networks):
    """Text encoder, autoencoder, UNet and ControlNet of one model.

    Of a small model (its autoencoder is a :class:`ResidualAutoencoder`) everything but the fixed transform is trained.
    Of XPSR on Stable Diffusion all of the ControlNet and the UNet's conditional attention are (paper section 4.1);
    autoencoder, text encoder and the rest of the UNet stay as they are, without gradients and in eval mode.
    """

    part_names = PARTS
    recomputed = ("unet", "controlnet")

    def __init__(
        self,
        text_encoder: nn.Module,
        vae: AutoencoderKL | ResidualAutoencoder,
        unet: XpsrUNet,
        controlnet: XpsrControlNet,
    ) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.vae = vae
        self.unet = unet
        self.controlnet = controlnet
        self.small = isinstance(vae, ResidualAutoencoder)
        self.requires_grad_(self.small)
        if not self.small:
            controlnet.requires_grad_(True)
            for module in unet.modules():
                if isinstance(module, ConditionalAttention) and module.conditional is not None:
                    module.conditional.requires_grad_(True)

    def place(
        self, device: torch.device, frozen_dtype: torch.dtype, layout: torch.memory_format = torch.channels_last
    ) -> None:
        """As :meth:`Networks.place`; what is frozen of a small model stays exact, which costs it nothing."""
        super().place(device, torch.float32 if self.small else frozen_dtype, layout)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of the latents of photos of this size in pixels."""
        config = self.vae.config
        cell = config.block_size if self.small else 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, height // cell, width // cell

    @torch.no_grad()
    def encode(self, target_pm1: Tensor, enlarged_pm1: Tensor, posterior_noise: Tensor | None) -> Tensor:
        """Clean latents (B, c, h, w), float32, without gradient.

        Args:
            target_pm1: the photos (B, 3, H, W) in [-1, 1].
            enlarged_pm1: the enlarged inputs, same shape and range; residual latents are relative to them.
            posterior_noise: (B, c, h, w) standard normal: Stable Diffusion's latents are samples, times 0.18215.
                Residual latents are not, and take None.
        """
        with torch.autocast(target_pm1.device.type, enabled=False):
            if isinstance(self.vae, ResidualAutoencoder):
                return self.vae.encode_residual(target_pm1, enlarged_pm1)
            posterior = self.vae.encode(target_pm1.to(self.vae.dtype)).latent_dist
            sample = posterior.mean.float() + posterior.std.float() * posterior_noise
            return sample * self.vae.config.scaling_factor


def _checkpointed(*networks: nn.Module) -> Iterator[nn.Module]:
    """The blocks of diffusers that know how to recompute themselves."""
    for network in networks:
        yield from (module for module in network.modules() if hasattr(module, "gradient_checkpointing"))
