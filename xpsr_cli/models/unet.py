"""XPSR's UNet: Stable Diffusion's, with conditional attention over the ControlNet's residuals in its decoder.

# shapes: B batch, c latent channels, h w latent cells, L text tokens, D text width, R channels of a reference
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from xpsr_cli.models.conditional_attention import ConditionalAttention, ControlContext
from xpsr_cli.models.controlnet import ControlOutput
from xpsr_cli.models.encoder import LatentEncoder
from xpsr_cli.models.published import UNET_FIXED, UNET_KEYS
from xpsr_cli.models.reference_attention import ReferenceAttention, ReferenceForm, ReferenceTokens


class XpsrUNet(LatentEncoder):
    """Predicts the noise (or v) in a latent from the high-level text and the ControlNet's residuals.

    The config fields are the published ones (``attention_head_dim`` is the number of heads).
    ``conditional_attention`` says per up block whether it looks at the residuals again; ``None`` is all of them.
    ``reference_attention`` says per up block whether it also looks at a reference, ``None`` is none of them, as
    published; ``reference_form`` how, ``reference_window`` in windows of how many cells (``None``: as a whole), and
    ``reference_channels`` how many channels the ControlNet's ``encode_reference`` has.
    """

    published_class = "UNet2DConditionModel"
    published_names = UNET_KEYS
    fixed_fields = UNET_FIXED

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: Sequence[str] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types: Sequence[str] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
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
        conditional_attention: Sequence[bool] | None = None,
        reference_attention: Sequence[bool] | None = None,
        reference_form: str = ReferenceForm.SEPARATE.value,
        reference_window: int | None = None,
        reference_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.build_encoder()
        levels = len(block_out_channels)
        self.reads_reference = (False,) * levels if reference_attention is None else tuple(reference_attention)
        self.reference_form = ReferenceForm(reference_form)
        self.conditional = (True,) * levels if conditional_attention is None else tuple(conditional_attention)
        self.up_blocks = nn.ModuleList(self._up_block(i) for i in range(levels))
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, block_out_channels[0], eps=norm_eps)
        self.conv_act = get_activation(act_fn)
        self.conv_out = nn.Conv2d(block_out_channels[0], out_channels, 3, padding=1)

    def _up_block(self, index: int) -> nn.Module:
        """Stock up block ``index``; with conditional attention it is one that calls an attention after each ResNet."""
        widths, last = self.config.block_out_channels, len(self.config.block_out_channels) - 1
        level, layers = last - index, self.config.layers_per_block + 1
        options = {
            "in_channels": widths[max(level - 1, 0)],
            "out_channels": widths[level],
            "prev_output_channel": widths[min(level + 1, last)],
            "num_layers": layers,
            "add_upsample": level > 0,
            **self.resnet_options(),
        }
        kind = self.config.up_block_types[index]
        if kind not in ("UpBlock2D", "CrossAttnUpBlock2D"):
            raise ValueError(f"up_block_types holds {kind!r}; only UpBlock2D and CrossAttnUpBlock2D are built.")
        if kind == "UpBlock2D" and not self._looks_again(index):
            return UpBlock2D(**options)
        block = CrossAttnUpBlock2D(**options, **self.attention_options(level))
        if not self._looks_again(index):
            return block
        contexts = self.skip_channels[level * layers : (level + 1) * layers][::-1]  # the skips it takes, last first
        for layer, context_dim in enumerate(contexts):
            text = block.attentions[layer] if kind == "CrossAttnUpBlock2D" else None
            conditional = self.transformer(level, context_dim) if self.conditional[index] else None
            reference = self._reference(index, level, context_dim) if self.reads_reference[index] else None
            block.attentions[layer] = ConditionalAttention(text, conditional, layer, reference)
        return block

    def _looks_again(self, index: int) -> bool:
        """Whether up block ``index`` reads more than the text."""
        return self.conditional[index] or self.reads_reference[index]

    def _reference(self, index: int, level: int, context_dim: int) -> ReferenceAttention | ReferenceTokens:
        """What reads the reference in a layer of up block ``index``, whose conditional attention reads so many."""
        features = self.config.reference_channels
        if features is None:
            raise ValueError("reference_channels is missing.")
        if self.reference_form is ReferenceForm.TOKENS:
            if not self.conditional[index]:
                raise ValueError(f"Up block {index} has no conditional attention to read the reference's tokens.")
            return ReferenceTokens(features, context_dim)
        width = self.config.block_out_channels[level]
        groups, window = self.config.norm_num_groups, self.config.reference_window
        return ReferenceAttention(width, self.heads(level), features, groups, window)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        high: Tensor,
        control: ControlOutput | Callable[[tuple[Tensor, ...]], ControlOutput],
        reference: Tensor | None = None,
    ) -> Tensor:
        """Prediction (B, c, h, w) for noisy ``latents`` (B, c, h, w).

        ``timestep`` is an integer, or one per sample; ``high`` (B, L, D) says what is in the photo; ``control`` is
        what :class:`XpsrControlNet` returned for the same latents, or makes that of the skips
        (:class:`~xpsr_cli.models.skip_tuner.SkipTuner`); ``reference`` (B or 1, R, h, w) what ``encode_reference``
        makes of a reference, which only a model with reference attention reads. Any latent size works.
        """
        temb = self.embed_time(timestep, latents, high)
        sample = self.conv_in(latents)
        skips = (sample,)
        for block in self.down_blocks:
            sample, outputs = block(sample, temb, encoder_hidden_states=high)
            skips += outputs
        if not isinstance(control, ControlOutput):
            control = control(skips)
        skips = tuple(skip + residual for skip, residual in zip(skips, control.down, strict=True))
        sample = self.mid_block(sample, temb, encoder_hidden_states=high) + control.mid

        residuals = control.down
        up: Any
        for index, up in enumerate(self.up_blocks):
            layers = len(up.resnets)
            taken, skips = skips[-layers:], skips[:-layers]
            read, residuals = residuals[-layers:], residuals[:-layers]
            sample = up(
                sample,
                taken,
                temb,
                encoder_hidden_states=ControlContext(high, read[::-1], reference)
                if self._looks_again(index)
                else high,
                upsample_size=skips[-1].shape[-2:] if skips else None,  # odd sizes: the next skip's, not twice ours
            )
        return self.conv_out(self.conv_act(self.conv_norm_out(sample)))

    @classmethod
    def from_stable_diffusion(cls, unet: UNet2DConditionModel) -> XpsrUNet:
        """Stable Diffusion's UNet with fresh conditional attention in every up block.

        Raises :class:`~xpsr_cli.errors.WeightsError` if its config has a feature this class does not build.
        """
        xpsr = cls(**cls.options_from(unet.config))
        for name in ("conv_in", "time_embedding", "down_blocks", "mid_block", "conv_norm_out", "conv_out"):
            getattr(xpsr, name).load_state_dict(getattr(unet, name).state_dict())
        for ours, stock in zip(xpsr.up_blocks, unet.up_blocks, strict=True):
            ours.resnets.load_state_dict(stock.resnets.state_dict())
            if stock.upsamplers is not None:
                ours.upsamplers.load_state_dict(stock.upsamplers.state_dict())
            if isinstance(stock, CrossAttnUpBlock2D):
                for attention, text in zip(ours.attentions, stock.attentions, strict=True):
                    attention.text.load_state_dict(text.state_dict())
        return xpsr
