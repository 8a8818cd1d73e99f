"""Stable Diffusion's autoencoder on a canvas of any size, equal to running it whole.

Its group norms and its attention look at the whole canvas, so running it window by window is another function. Here
the *network* is cut up: into stages of a few layers. A stage is run over the canvas in blocks with enough context
around them to be exact, and before each of its group norms the statistics are gathered over all blocks; attention
gets the keys and values of the whole canvas. Only a stage's input and output exist at full size, in memory.
"""

# shapes: C channels, G groups, H W cells of a feature canvas, N tokens (latent cells)

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from torch import Tensor, nn

from xpsr_cli.device import Placement
from xpsr_cli.sampling.tiles import Window, blocks

BLOCK = 96
"""Latent cells along the side of a block."""
CONTEXT = 8
"""Cells of a stage's input around a block that are read with it: the encoder's first stage reaches six, with two
layers per block. Even, so that halving the resolution stays aligned."""
ATTENDED = 2**16
"""Tokens that attention reads; a canvas of more (2048 x 2048 pixels) is thinned to every second, third, ... row and
column for its keys and values, which keeps the cost proportional to the canvas."""
IN_MEMORY_BYTES = 4 * 2**30
"""Feature canvases larger than this lie in a temporary file."""

Stage = list[nn.Module]


def encoder_stages(vae: AutoencoderKL) -> Iterator[Stage]:
    """The layers of the encoder, in order; a stage ends where the features get smaller."""
    encoder = vae.encoder
    stage: Stage = [encoder.conv_in]
    for block in encoder.down_blocks:
        yield [*stage, *block.resnets, *(block.downsamplers or ())]
        stage = []
    yield from _middle_stages(encoder.mid_block, before=[])
    yield _present(encoder.conv_norm_out, encoder.conv_act, encoder.conv_out, vae.quant_conv)


def decoder_stages(vae: AutoencoderKL) -> Iterator[Stage]:
    """The layers of the decoder, in order; the last and largest block is one stage, which saves its features."""
    decoder = vae.decoder
    yield from _middle_stages(decoder.mid_block, before=_present(vae.post_quant_conv, decoder.conv_in))
    *smaller, largest = decoder.up_blocks
    upsamplers: Stage = []
    for block in smaller:
        for resnet in block.resnets:
            yield [*upsamplers, resnet]
            upsamplers = []
        upsamplers = list(block.upsamplers or ())
    yield [*upsamplers, *largest.resnets, decoder.conv_norm_out, decoder.conv_act, decoder.conv_out]


def _middle_stages(block: UNetMidBlock2D, before: Stage) -> Iterator[Stage]:
    yield [*before, block.resnets[0]]
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        if attention is not None:
            yield [attention]
        yield [resnet]


def _present(*modules: nn.Module | None) -> Stage:
    return [module for module in modules if module is not None]


@torch.inference_mode()
def run_stages(stages: Iterator[Stage], canvas: Tensor, height: int, placement: Placement) -> Tensor:
    """What ``stages`` make of ``canvas`` (1, C, H, W), float32 in memory, which is ``height`` latent cells high."""
    latent_width = canvas.shape[-1] * height // canvas.shape[-2]
    for stage in stages:
        cells = canvas.shape[-2] // height  # of the stage's input, per latent cell
        places = [_Place.at(core.scaled(cells), canvas) for core in blocks(height, latent_width, BLOCK)]
        run = _attend if isinstance(stage[0], Attention) else _run_stage
        canvas = run(stage, canvas, places, placement)
    return canvas.float()


@dataclass(frozen=True)
class _Place:
    """A block of a stage's input, and the larger part that the stage reads for it."""

    core: Window
    outer: Window

    @classmethod
    def at(cls, core: Window, canvas: Tensor) -> _Place:
        return cls(core, core.grown(CONTEXT, *canvas.shape[-2:]))

    def own(self, features: Tensor) -> Tensor:
        """The block's part of features (1, C, .., ..) that cover ``outer`` at any resolution."""
        return self.core.within(self.outer).scaled(features.shape[-1], self.outer.w).crop(features)


def _call(stage: Stage, features: Tensor) -> Tensor:
    for module in stage:
        features = module(features, None) if isinstance(module, ResnetBlock2D) else module(features)
    return features


def _run_stage(stage: Stage, canvas: Tensor, places: Sequence[_Place], placement: Placement) -> Tensor:
    """One pass over the canvas for every group norm of the stage, up to that norm, and one for the result."""

    def run(place: _Place) -> Tensor:
        return _call(stage, placement.put(place.outer.crop(canvas)))

    with ExitStack() as fixed:
        for norm in (module for part in stage for module in part.modules() if isinstance(module, nn.GroupNorm)):
            pool = _Pool(norm.num_groups)
            for place in places:
                with _forward_of(norm, _gather(pool, place)), suppress(_Gathered):
                    run(place)
            fixed.enter_context(_forward_of(norm, _affine(norm, pool)))
        return _assemble(run, canvas, places)


def _assemble(run: Callable[[_Place], Tensor], canvas: Tensor, places: Sequence[_Place]) -> Tensor:
    """The results of ``run`` for every block, put side by side on a canvas of their own resolution."""
    result: Tensor | None = None
    for place in places:
        features = run(place)
        size = features.shape[-1], place.outer.w
        if result is None:
            height, width = (side * size[0] // size[1] for side in canvas.shape[-2:])
            result = _scratch(features.shape[1], height, width, features.dtype)
        place.core.scaled(*size).crop(result).copy_(place.own(features))
    assert result is not None
    return result


def _attend(stage: Stage, canvas: Tensor, places: Sequence[_Place], placement: Placement) -> Tensor:
    """Attention with the queries of a block and the keys and values of the canvas."""
    (attention,) = stage
    assert isinstance(attention, Attention)
    norm, pool = attention.group_norm, _Pool(attention.group_norm.num_groups)
    for place in places:
        pool.add(place.core.crop(canvas))
    thinning = math.ceil(math.sqrt(canvas.shape[-2] * canvas.shape[-1] / ATTENDED))
    with _forward_of(norm, _affine(norm, pool)):
        read = placement.put(canvas[..., ::thinning, ::thinning].flatten(2))  # (1, C, N)
        tokens = norm(read).transpose(1, 2)
        return _assemble(
            lambda place: attention(placement.put(place.outer.crop(canvas)), encoder_hidden_states=tokens),
            canvas,
            [_Place(place.core, place.core) for place in places],
        )


class _Gathered(Exception):  # noqa: N818 - not an error: the rest of the stage is not needed yet
    """A group norm has seen its input."""


class _Pool:
    """Count, mean and summed squared deviations of everything added, per group (Chan et al. 1979), in float64."""

    def __init__(self, groups: int) -> None:
        self.count = 0
        self.mean = torch.zeros(groups, dtype=torch.float64)
        self.squares = torch.zeros(groups, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """(1, C, .., ..) features."""
        values = features.reshape(len(self.mean), -1).float()
        count, total = values.shape[1], self.count + values.shape[1]
        variance, mean = (x.double().cpu() for x in torch.var_mean(values, dim=1, correction=0))
        delta = mean - self.mean
        self.squares += variance * count + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total


def _gather(pool: _Pool, place: _Place) -> Callable[[Tensor], Tensor]:
    def forward(features: Tensor) -> Tensor:
        pool.add(place.own(features))
        raise _Gathered

    return forward


def _affine(norm: nn.GroupNorm, pool: _Pool) -> Callable[[Tensor], Tensor]:
    """The norm with the statistics of the whole canvas: one factor and one offset per channel."""
    repeats, device = norm.num_channels // norm.num_groups, norm.weight.device
    deviation = (pool.squares / pool.count + norm.eps).sqrt().repeat_interleave(repeats)
    scale = norm.weight.double().cpu() / deviation
    shift = norm.bias.double().cpu() - pool.mean.repeat_interleave(repeats) * scale
    scale, shift = scale.float().to(device), shift.float().to(device)

    def forward(features: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (features.ndim - 2)
        return (features.float() * scale.view(shape) + shift.view(shape)).to(features.dtype)

    return forward


@contextmanager
def _forward_of(norm: nn.GroupNorm, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block ``norm`` computes ``forward``."""
    setattr(norm, "forward", forward)  # noqa: B010 - an instance attribute, over the method of the class
    try:
        yield
    finally:
        del norm.forward  # uncovers the class' own


def _scratch(channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """An uninitialised canvas (1, C, H, W), in memory or, if it is large, in a temporary file."""
    shape = (1, channels, height, width)
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY_BYTES:
        return torch.empty(shape, dtype=dtype)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the map that holds it
    return torch.from_numpy(np.memmap(file, np.uint8, shape=(size,))).view(dtype).view(shape)
