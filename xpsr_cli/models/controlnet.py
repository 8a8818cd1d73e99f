"""XPSR's ControlNet: noisy latent, photo and two texts in, one residual per UNet skip out.

# shapes: B batch, c latent channels, h w latent cells, L text tokens, D text width, f pixels per latent cell (8),
#         C_k h_k w_k channels and size of skip k, R channels of what is read of a reference
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D
from torch import Tensor, nn

from xpsr_cli.models.degradation_free import DegradationFreeHeads
from xpsr_cli.models.encoder import LatentEncoder
from xpsr_cli.models.published import CONTROLNET_FIXED, CONTROLNET_KEYS
from xpsr_cli.models.pyramid_encoder import PyramidImageEncoder, zeroed
from xpsr_cli.models.reference_attention import detail_channels, reference_detail
from xpsr_cli.models.semantic_fusion import Fusion, FusionContext, PromptPair, SemanticFusionAttention


class ControlOutput(NamedTuple):
    """What the ControlNet tells the UNet, and, when asked, what the degradation-free constraint reads."""

    down: tuple[Tensor, ...]  # residual of skip k, scaled: (B, C_k, h_k, w_k)
    mid: Tensor  # residual of the mid block, scaled
    rgb: tuple[Tensor, ...] = ()  # predicted photos (B, 3, f*h/2, f*w/2), ... (B, 3, h, w), in [-1, 1]
    latent: tuple[Tensor, ...] = ()  # predicted latents (B, c, h_k, w_k), one per residual, the mid block's last


class XpsrControlNet(LatentEncoder):
    """A copy of the UNet's encoder with Semantic-Fusion Attention, an image pyramid and degradation-free heads.

    The config fields are the published ones (``attention_head_dim`` is the number of heads); ``fusion`` names the
    ablation. ``use_lowlevel_prompt=False`` leaves an ordinary ControlNet, the same as fusion ``high``.
    ``reference_fusion`` says per down block whether its fusion has a third branch, for a reference; the last one
    speaks for the mid block too, and ``None`` is none of them, as published.
    """

    published_class = "ControlNetModel"
    published_names = CONTROLNET_KEYS
    fixed_fields = CONTROLNET_FIXED

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        conditioning_channels: int = 3,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: Sequence[str] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 768,
        transformer_layers_per_block: int = 1,
        attention_head_dim: int | Sequence[int] = 8,
        use_linear_projection: bool = False,
        upcast_attention: bool = False,
        addition_embed_type: str | None = None,
        addition_embed_type_num_heads: int = 64,
        conditioning_embedding_out_channels: Sequence[int] = (16, 32, 96, 256),
        return_rgbs: bool = True,
        use_rrdb: bool = False,
        use_lowlevel_prompt: bool = True,
        use_latent_pred: bool = True,
        fusion: str = Fusion.PARALLEL.value,
        reference_fusion: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        self.build_encoder()
        self.fusion = Fusion(fusion) if use_lowlevel_prompt else Fusion.HIGH
        if not use_lowlevel_prompt and fusion not in (Fusion.PARALLEL, Fusion.HIGH):
            raise ValueError(f"fusion {fusion!r} needs use_lowlevel_prompt.")
        if reference_fusion is not None and self.fusion is not Fusion.PARALLEL:
            raise ValueError(f"reference_fusion needs fusion 'parallel', not {self.fusion.value!r}.")
        last, width = len(block_out_channels) - 1, block_out_channels[-1]
        for level, block in enumerate(self.down_blocks):
            if isinstance(block, CrossAttnDownBlock2D):
                self._install_fusion(block, level)
        self._install_fusion(self.mid_block, last)

        self.pyramid = PyramidImageEncoder(
            block_out_channels[0],
            conditioning_embedding_out_channels,
            image_channels=conditioning_channels,
            use_rrdb=use_rrdb,
            rgb_heads=return_rgbs,
        )
        self.down_projections = nn.ModuleList(zeroed(nn.Conv2d(c, c, 1)) for c in self.skip_channels)
        self.mid_projection = zeroed(nn.Conv2d(width, width, 1))
        self.latent_heads = DegradationFreeHeads(self.skip_channels, width, in_channels) if use_latent_pred else None

    def _install_fusion(self, block: Any, level: int) -> None:
        """Put Semantic-Fusion Attention where the stock block has its text attention."""
        width, text_dim = self.config.block_out_channels[level], self.config.cross_attention_dim
        for i, stock in enumerate(block.attentions):
            high = None if self.fusion is Fusion.LOW else stock
            low = None if self.fusion is Fusion.HIGH else self.transformer(level, text_dim)
            join = self.transformer(level, width) if self.fusion is Fusion.PARALLEL else None
            reads = self.config.reference_fusion is not None and self.config.reference_fusion[level]
            reference = self.transformer(level, self.reference_channels) if reads else None
            block.attentions[i] = SemanticFusionAttention(high, low, join, self.fusion, reference)

    def encode_image(self, image: Tensor) -> Tensor:
        """Photo (B, 3, f*h, f*w) in [0, 1] to the features (B, C_0, h, w) that :meth:`forward` takes.

        They do not depend on the timestep: compute them once per window.
        """
        return self.pyramid(image)[0]

    @property
    def reference_channels(self) -> int:
        """Channels of what :meth:`encode_reference` makes, R."""
        cell = 2 ** (len(self.config.conditioning_embedding_out_channels) - 1)
        return 2 * int(self.config.block_out_channels[0]) + detail_channels(cell)

    def encode_reference(self, reference: Tensor, photo: Tensor, photo_features: Tensor) -> Tensor:
        """A reference and its photo (B, 3, f*h, f*w) in [0, 1] to what attention to it reads, (B, R, h, w).

        These are its features, how they differ from those of the photo (``photo_features``, from
        :meth:`encode_image`), and how its pixels differ, in float32 if those are: the pyramid has learnt to look at
        blurred photos, and does not let through all that a sharp one shows. Like the photo's features they do not
        depend on the timestep.
        """
        features = self.encode_image(reference.to(photo_features.dtype))
        detail = reference_detail(reference, photo, self.pyramid.downscale).to(features.dtype)
        return torch.cat([features, features - photo_features, detail], dim=1)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        high: Tensor,
        low: Tensor | None,
        image: Tensor | None = None,
        *,
        image_features: Tensor | None = None,
        conditioning_scale: float = 1.0,
        guess_mode: bool = False,
        with_heads: bool = False,
        reference: Tensor | None = None,
    ) -> ControlOutput:
        """Residuals for one denoising step.

        ``latents`` (B, c, h, w); ``timestep`` an integer, or one per sample; ``high``, ``low`` text embeddings
        (B, L, D); either ``image`` (B, 3, f*h, f*w) in [0, 1] or ``image_features`` from :meth:`encode_image`.
        ``with_heads`` also evaluates the degradation-free heads, whose RGB part needs the image.
        ``reference`` is what :meth:`encode_reference` makes of a reference, for a fusion that has a branch for it.
        ``guess_mode`` weakens the early residuals to a tenth, rising to 1 at the mid block.
        """
        if (image is None) == (image_features is None):
            raise ValueError("Give either image or image_features.")
        if with_heads and image is None:
            raise ValueError("with_heads needs the image itself: the RGB heads sit inside the pyramid.")
        rgb: tuple[Tensor, ...] = ()
        if image is not None:
            image_features, rgb = self.pyramid(image, with_heads)

        temb = self.embed_time(timestep, latents, high if low is None else low)
        texts = PromptPair(high, low) if reference is None else FusionContext(high, low, reference)
        sample = self.conv_in(latents) + image_features
        skips = (sample,)
        for block in self.down_blocks:
            sample, outputs = block(sample, temb, encoder_hidden_states=texts)
            skips += outputs
        sample = self.mid_block(sample, temb, encoder_hidden_states=texts)

        down = tuple(project(skip) for project, skip in zip(self.down_projections, skips, strict=True))
        mid = self.mid_projection(sample)
        latent = self.latent_heads(down, mid) if with_heads and self.latent_heads is not None else ()

        scales = [conditioning_scale] * (len(down) + 1)
        if guess_mode:
            scales = [s * conditioning_scale for s in torch.logspace(-1, 0, len(down) + 1).tolist()]
        down = tuple(residual * scale for residual, scale in zip(down, scales[:-1], strict=True))
        return ControlOutput(down, mid * scales[-1], rgb, latent)

    @classmethod
    def from_unet(cls, unet: Any, **options: Any) -> XpsrControlNet:
        """A fresh ControlNet that starts as a copy of a UNet's encoder (:class:`XpsrUNet` or a stock SD one).

        ``options`` are config fields the UNet does not have, such as ``conditioning_embedding_out_channels``,
        ``use_rrdb`` or ``fusion``. Low-level and fusion branches copy the UNet's text attention too, save the fusion's
        keys and values, which read features instead of text.
        """
        controlnet = cls(**{**cls.options_from(unet.config), **options})
        for name in ("conv_in", "time_embedding"):
            getattr(controlnet, name).load_state_dict(getattr(unet, name).state_dict())
        blocks = [*zip(controlnet.down_blocks, unet.down_blocks, strict=True), (controlnet.mid_block, unet.mid_block)]
        for ours, theirs in blocks:
            ours.resnets.load_state_dict(theirs.resnets.state_dict())
            if getattr(ours, "downsamplers", None) is not None:
                ours.downsamplers.load_state_dict(theirs.downsamplers.state_dict())
            for fused, stock in zip(getattr(ours, "attentions", ()), getattr(theirs, "attentions", ()), strict=True):
                fused.copy_from(stock)
        return controlnet
