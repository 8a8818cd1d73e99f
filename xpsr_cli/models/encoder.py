"""The SD encoder that UNet and ControlNet share, made of diffusers' own blocks and sized by the model's config.

# shapes: B batch, c latent channels, h w latent cells, c0 = block_out_channels[0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, DownBlock2D, UNetMidBlock2DCrossAttn
from torch import Tensor, nn

from xpsr_cli.models.published import Fixed, check_config

_PER_BLOCK = ("conditional_attention", "reference_attention", "reference_fusion")


class LatentEncoder(ModelMixin, ConfigMixin):
    """Base of :class:`XpsrUNet` and :class:`XpsrControlNet`: time embedding, down blocks and mid block.

    Subclasses register their config, then call :meth:`build_encoder`. Weights live in published folders, whose key
    names are not the ones used here: read and write them with :mod:`xpsr_cli.models.folders`.
    """

    published_class: ClassVar[str]  # _class_name of the published config
    published_names: ClassVar[Sequence[tuple[str, str]]]  # our keys -> published ones
    fixed_fields: ClassVar[Fixed]  # published config fields that are not varied here

    conv_in: nn.Conv2d
    time_proj: Timesteps
    time_embedding: TimestepEmbedding
    add_embedding: TextTimeEmbedding | None
    down_blocks: nn.ModuleList
    mid_block: UNetMidBlock2DCrossAttn

    @classmethod
    def options_from(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The constructor's arguments in a published config (or a stock diffusers one).

        Raises :class:`~xpsr_cli.errors.WeightsError` for a value that is not built.
        """
        check_config(config, cls.published_class)
        return {field: value for field, value in config.items() if field in cls._get_init_keys(cls)}

    def build_encoder(self) -> None:
        """Make the modules both networks have, with diffusers' default initialisation."""
        config = self.config
        widths = config.block_out_channels
        for field in ("down_block_types", "up_block_types", "attention_head_dim", *_PER_BLOCK):
            value = config.get(field)
            if isinstance(value, list | tuple) and len(value) != len(widths):
                raise ValueError(f"{field} has {len(value)} entries for {len(widths)} levels.")
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0], act_fn=config.act_fn)
        self.add_embedding = (
            TextTimeEmbedding(config.cross_attention_dim, 4 * widths[0], config.addition_embed_type_num_heads)
            if config.addition_embed_type == "text"
            else None
        )
        self.down_blocks = nn.ModuleList(self._down_block(level) for level in range(len(widths)))
        self.mid_block = UNetMidBlock2DCrossAttn(
            in_channels=widths[-1],
            output_scale_factor=config.mid_block_scale_factor,
            **self.resnet_options(),
            **self.attention_options(len(widths) - 1),
        )

    def _down_block(self, level: int) -> nn.Module:
        widths = self.config.block_out_channels
        options = {
            "in_channels": widths[max(level - 1, 0)],
            "out_channels": widths[level],
            "num_layers": self.config.layers_per_block,
            "downsample_padding": self.config.downsample_padding,
            "add_downsample": level < len(widths) - 1,
            **self.resnet_options(),
        }
        kind = self.config.down_block_types[level]
        if kind == "DownBlock2D":
            return DownBlock2D(**options)
        if kind == "CrossAttnDownBlock2D":
            return CrossAttnDownBlock2D(**options, **self.attention_options(level))
        raise ValueError(f"down_block_types holds {kind!r}; only DownBlock2D and CrossAttnDownBlock2D are built.")

    def resnet_options(self) -> dict[str, Any]:
        """What every stock block wants to know about its ResNets."""
        return {
            "temb_channels": 4 * self.config.block_out_channels[0],
            "resnet_eps": self.config.norm_eps,
            "resnet_act_fn": self.config.act_fn,
            "resnet_groups": self.config.norm_num_groups,
        }

    def attention_options(self, level: int) -> dict[str, Any]:
        """What every stock block with text attention wants to know about it."""
        return {
            "num_attention_heads": self.heads(level),
            "cross_attention_dim": self.config.cross_attention_dim,
            "transformer_layers_per_block": self.config.transformer_layers_per_block,
            "use_linear_projection": self.config.use_linear_projection,
            "upcast_attention": self.config.upcast_attention,
        }

    def heads(self, level: int) -> int:
        """Attention heads at a level; the published configs call the number of heads ``attention_head_dim``."""
        heads = self.config.attention_head_dim
        return int(heads if isinstance(heads, int) else heads[level])

    def transformer(self, level: int, context_dim: int) -> Transformer2DModel:
        """One more transformer like the stock blocks' at this level, reading a context of ``context_dim`` channels."""
        width, heads = self.config.block_out_channels[level], self.heads(level)
        return Transformer2DModel(
            heads,
            width // heads,
            in_channels=width,
            num_layers=self.config.transformer_layers_per_block,
            cross_attention_dim=context_dim,
            norm_num_groups=self.config.norm_num_groups,
            use_linear_projection=self.config.use_linear_projection,
            upcast_attention=self.config.upcast_attention,
        )

    @property
    def skip_channels(self) -> list[int]:
        """Channels of the skips, in the order the encoder makes them (so of the ControlNet's residuals too)."""
        widths = self.config.block_out_channels
        channels = [widths[0]]
        for level, width in enumerate(widths):
            channels += [width] * (self.config.layers_per_block + (level < len(widths) - 1))
        return channels

    def embed_time(self, timestep: Tensor | int, latents: Tensor, text: Tensor) -> Tensor:
        """Timestep (an integer, or one per sample) as (B, 4*c0), in the dtype of ``latents``.

        Where ``addition_embed_type`` is "text", the pooled ``text`` (B, L, D) is added: a small model, whose text
        attention sits at its coarsest level alone, then hears its prompts in every ResNet.
        """
        steps = torch.as_tensor(timestep, device=latents.device).expand(latents.shape[0])
        embedding = self.time_embedding(self.time_proj(steps).to(latents.dtype))
        return embedding if self.add_embedding is None else embedding + self.add_embedding(text)
