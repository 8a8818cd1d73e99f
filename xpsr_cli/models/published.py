"""The published XPSR layout: what its weights are called and what its config files may say.

Folders are diffusers': ``config.json`` beside ``diffusion_pytorch_model.safetensors``. The tables here are the only
place that knows the published names; everything else uses ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from xpsr_cli.errors import WeightsError

# Our name -> published name, as (pattern, replacement) of a run of whole key parts; the first that fits counts.
CONTROLNET_KEYS = (
    (r"attentions\.(\d+)\.high\.", r"attentions.\1."),
    (r"attentions\.(\d+)\.low\.", r"attentions_lowlevel.\1."),
    (r"attentions\.(\d+)\.fusion\.", r"attentions_connect.\1."),
    (r"attentions\.(\d+)\.reference\.", r"attentions_reference.\1."),  # ours; no published file has any
    (r"pyramid\.rrdb\.", r"controlnet_cond_embedding.preprocesser."),  # spelled so in the published files
    (r"pyramid\.rgb_heads\.", r"controlnet_cond_embedding.to_rgbs."),
    (r"pyramid\.", r"controlnet_cond_embedding."),
    (r"down_projections\.", r"controlnet_down_blocks."),
    (r"mid_projection\.", r"controlnet_mid_block."),
    (r"latent_heads\.down\.(\d+)\.", r"conv_degradation.\1.0."),
    (r"latent_heads\.mid\.", r"conv_degradation_mid.0."),
)
UNET_KEYS = (
    (r"attentions\.(\d+)\.text\.", r"attentions.\1."),
    (r"attentions\.(\d+)\.conditional\.", r"pixel_attentions.\1."),
    (r"attentions\.(\d+)\.reference\.", r"reference_attentions.\1."),  # ours; no published file has any
)

# Published config fields that are not varied here: the values accepted, the first being the one written.
Fixed = Mapping[str, tuple[Any, ...]]
_SHARED_FIXED = {
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
CONTROLNET_FIXED: Fixed = {
    **_SHARED_FIXED,
    "controlnet_conditioning_channel_order": ("rgb",),
    "global_pool_conditions": (False,),
}
UNET_FIXED: Fixed = {
    **_SHARED_FIXED,
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
_VARIED = {"addition_embed_type": (None, "text")}  # the published value first
_NEWER_FIXED = {"dropout": (0.0,), "reverse_transformer_layers_per_block": (None,)}  # of newer diffusers, not written
ACCEPTED: Fixed = {**UNET_FIXED, **CONTROLNET_FIXED, **_VARIED, **_NEWER_FIXED}
_WHOLE_NUMBERS = (
    "layers_per_block",
    "transformer_layers_per_block",
    "cross_attention_dim",
    "addition_embed_type_num_heads",
)  # diffusers takes lists too


def published_key(key: str, names: Sequence[tuple[str, str]]) -> str:
    """Our name of a weight as its published name; a name that nothing in the table touches is the same in both."""
    for pattern, replacement in names:
        renamed, count = re.subn(rf"(?<![^.]){pattern}", replacement, key, count=1)
        if count:
            return renamed
    return key


def check_config(config: Mapping[str, Any], class_name: str) -> None:
    """Raise :class:`WeightsError` naming field and value where a config asks for something that is not built."""
    refused = {field: config[field] for field in _WHOLE_NUMBERS if not isinstance(config.get(field, 0), int)}
    for field, allowed in ACCEPTED.items():
        value = config.get(field, allowed[0])
        values = value if isinstance(value, list | tuple) else [value]
        if any(v not in allowed for v in values):
            refused[field] = value
    for field, value in refused.items():
        wanted = f"{ACCEPTED[field][0]!r}" if field in ACCEPTED else "one whole number"
        raise WeightsError(
            f"The {class_name} config has {field} = {value!r}, which xpsr does not build.",
            f"Use weights of the published XPSR architecture, where {field} is {wanted}.",
        )
