"""The published XPSR layout: what its weights are called and what its config files may say.

Folders are diffusers': ``config.json`` beside ``diffusion_pytorch_model.safetensors``. The tables here are the only
place that knows the published names; everything else uses ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xpsr_cli.errors import WeightsError

# Our name -> published name, as templates over layer numbers; the first that matches the key's place counts.
CONTROLNET_KEYS = {
    "attentions.{i}.high.": "attentions.{i}.",
    "attentions.{i}.low.": "attentions_lowlevel.{i}.",
    "attentions.{i}.fusion.": "attentions_connect.{i}.",
    "pyramid.rrdb.": "controlnet_cond_embedding.preprocesser.",  # spelled so in the published files
    "pyramid.rgb_heads.": "controlnet_cond_embedding.to_rgbs.",
    "pyramid.": "controlnet_cond_embedding.",
    "down_projections.": "controlnet_down_blocks.",
    "mid_projection.": "controlnet_mid_block.",
    "latent_heads.down.{i}.": "conv_degradation.{i}.0.",
    "latent_heads.mid.": "conv_degradation_mid.0.",
}
UNET_KEYS = {
    "attentions.{i}.text.": "attentions.{i}.",
    "attentions.{i}.conditional.": "pixel_attentions.{i}.",
}

# Published config fields that this package does not vary: the values it accepts, the first being the one it writes.
_FIXED = {
    "addition_embed_type": (None,),
    "addition_embed_type_num_heads": (64,),
    "addition_time_embed_dim": (None,),
    "class_embed_type": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "projection_class_embeddings_input_dim": (None,),
    "resnet_time_scale_shift": ("default",),
}
CONTROLNET_FIXED = {
    **_FIXED,
    "controlnet_conditioning_channel_order": ("rgb",),
    "global_pool_conditions": (False,),
}
UNET_FIXED = {
    **_FIXED,
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "down_use_lowlevel_prompt": (False, None),
    "dual_cross_attention": (False,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "mid_use_lowlevel_prompt": (False, None),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
    "up_use_lowlevel_prompt": (False, None),
}
# Fields of newer diffusers: accepted at these values, never written.
NEWER_FIXED = {
    "dropout": (0.0,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "reverse_transformer_layers_per_block": (None,),
}


def published_key(key: str, table: Mapping[str, str]) -> str:
    """Our name of a weight as its published name; a name that no template touches is the same in both."""
    for ours, theirs in table.items():
        pattern = r"(^|\.)" + re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)")
        renamed, count = re.subn(pattern, lambda m, theirs=theirs: m[1] + theirs.format(**m.groupdict()), key, count=1)
        if count:
            return renamed
    return key


def check_fixed(config: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]], class_name: str) -> None:
    """Raise :class:`WeightsError` naming field and value where ``config`` asks for something that is not built."""
    for field, allowed in {**NEWER_FIXED, **fixed}.items():
        value = config.get(field, allowed[0])
        values = value if isinstance(value, list | tuple) else [value]
        if any(v not in allowed for v in values):
            raise WeightsError(
                f"The {class_name} config has {field} = {value!r}, which xpsr does not build.",
                f"Use weights of the published XPSR architecture, where {field} is {allowed[0]!r}.",
            )
