"""Stable Diffusion's autoencoder window by window, on a canvas too large for one call.

Its group norms and the attention in its middle look at the whole canvas. Here they look at a *sample* of it instead:
a few crops, spread evenly at places that depend on nothing but the size of the canvas, go through the network
together, once. Every norm takes its mean and variance over all of them and keeps these; attention keeps what it read.
From then on the network is a function of a cell's surroundings alone, the same at every place. A window with a halo
as wide as the network sees is therefore exact: no window leaves a trace, however the canvas is cut up, and memory
does not grow with the canvas.

What it costs: the photo is not quite that of one call over the whole canvas. With a narrow autoencoder of this kind,
briefly trained, they agreed to 50 to 60 dB on canvases of two to three megapixels (separate calls on windows of 512
pixels: 25 to 28 dB). With random weights, whose statistics hang on a few extreme cells, they agreed to 17 dB only. The
published weights have not been measured.
"""

# shapes: B windows at once, C channels, G groups, h w cells of features, N tokens (latent cells of the sample)

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from xpsr_cli.sampling.tiles import Window

SAMPLE_COUNT = 144
"""Most crops in the sample. Many small ones tell more than a few large ones: with 36 of twice the side, which show as
many cells, the result was 10 dB further from that of one call."""
SAMPLE_CORE = 8
"""Latent cells along the side of the part of a crop that counts."""
SAMPLE_MARGIN = 2
"""Most cells around that part, which keep the zeros beyond a crop's border away from it; more change nothing."""

Forward = Callable[[Tensor], Tensor]


def encoder_layers(vae: AutoencoderKL) -> list[nn.Module]:
    """What the encoder computes one after another, from a photo to the moments of its latents."""
    encoder = vae.encoder
    blocks = [part for block in encoder.down_blocks for part in (*block.resnets, *(block.downsamplers or ()))]
    end = (encoder.conv_norm_out, encoder.conv_act, encoder.conv_out, vae.quant_conv)
    return _present(encoder.conv_in, *blocks, *_middle(encoder.mid_block), *end)


def decoder_layers(vae: AutoencoderKL) -> list[nn.Module]:
    """What the decoder computes one after another, from latents to a photo."""
    decoder = vae.decoder
    blocks = [part for block in decoder.up_blocks for part in (*block.resnets, *(block.upsamplers or ()))]
    end = (decoder.conv_norm_out, decoder.conv_act, decoder.conv_out)
    return _present(vae.post_quant_conv, decoder.conv_in, *_middle(decoder.mid_block), *blocks, *end)


def _middle(block: UNetMidBlock2D) -> list[nn.Module | None]:
    pairs = zip(block.attentions, block.resnets[1:], strict=True)
    return [block.resnets[0], *(part for pair in pairs for part in pair)]


def _present(*modules: nn.Module | None) -> list[nn.Module]:
    return [module for module in modules if module is not None]


def halos(layers: Sequence[nn.Module], scale: int) -> list[int]:
    """Latent cells around a window that each layer's input must show, and at last zero, for the result.

    Counted from the convolutions, last to first; ``scale`` is how many cells of the result a latent cell has along
    its side. Norms and attention count for nothing: they are frozen.
    """
    needed, cells = [0], 0  # around the result, then around the input of the layer at hand
    for layer in reversed(layers):
        for module in reversed(list(layer.modules())):
            if isinstance(module, nn.Conv2d):
                cells = cells * module.stride[0] + module.kernel_size[0] // 2
                scale *= module.stride[0]
            elif isinstance(module, Upsample2D):
                cells, scale = math.ceil(cells / 2), scale // 2
        needed.append(math.ceil(cells / scale))
    return needed[::-1]


def sample_cores(height: int, width: int) -> list[Window]:
    """At most ``SAMPLE_COUNT`` windows of one size, spread evenly over a canvas of that many latent cells."""
    most_rows, most_columns = math.ceil(height / SAMPLE_CORE), math.ceil(width / SAMPLE_CORE)
    rows = min(max(round(math.sqrt(SAMPLE_COUNT * height / width)), 1), most_rows, SAMPLE_COUNT)
    columns = min(SAMPLE_COUNT // rows, most_columns)
    rows = min(SAMPLE_COUNT // columns, most_rows)
    return [Window(y, x, h, w) for y, h in _spread(height, rows) for x, w in _spread(width, columns)]


def _spread(length: int, count: int) -> list[tuple[int, int]]:
    """Starts and lengths of ``count`` pieces along a side, each in the middle of its share, within the side."""
    core = min(SAMPLE_CORE, math.ceil(length / count))
    starts = (round((index + 0.5) * length / count - core / 2) for index in range(count))
    return [(min(max(start, 0), length - core), core) for start in starts]


class FrozenLayers:
    """Layers of the autoencoder whose norms and attention know a sample of the canvas, taken when this is made.

    Args:
        layers: :func:`encoder_layers` or :func:`decoder_layers`, on their device.
        read: gives the layers' input under a window of latent cells, (1, C, .., ..), on their device.
        height: latent cells of the canvas.
        width: latent cells of the canvas.
        scale: cells of the result per latent cell, along a side.
    """

    def __init__(
        self, layers: Sequence[nn.Module], read: Callable[[Window], Tensor], height: int, width: int, scale: int
    ) -> None:
        self.layers = layers
        self.read = read
        self.size = height, width
        self.halos = halos(layers, scale)
        self._frozen: dict[nn.Module, Forward] = {}
        self._cores: Sequence[Window] = []  # the windows being computed, and what their features show
        self._shown: Sequence[Window] = []
        cores = sample_cores(height, width)
        with _replaced(self._watching()):
            self._run(cores, [min(halo, SAMPLE_MARGIN) for halo in self.halos])

    @torch.inference_mode()
    def __call__(self, window: Window) -> Tensor:
        """The result under a window of latent cells, (1, C, .., ..), on the device."""
        with _replaced(self._frozen):
            return self._run([window], self.halos)

    @torch.inference_mode()
    def _run(self, cores: Sequence[Window], margins: Sequence[int]) -> Tensor:
        """The result under windows of one size, (B, C, .., ..). What is no longer needed around them goes."""
        self._cores, self._shown = cores, [self._around(core, margins[0]) for core in cores]
        features = torch.cat([self.read(shown) for shown in self._shown])
        for layer, margin in zip(self.layers, margins[1:], strict=True):
            features = layer(features, None) if isinstance(layer, ResnetBlock2D) else layer(features)
            inner = [self._around(core, margin) for core in cores]
            if inner != self._shown:
                features = torch.stack(self._parts(inner, features))
                self._shown = inner
        return features

    def _around(self, core: Window, margin: int) -> Window:
        """The window with a margin; at the canvas' border it is moved inwards, which keeps its size."""
        (y, h), (x, w) = (
            (min(max(start - margin, 0), max(length - side - 2 * margin, 0)), min(side + 2 * margin, length))
            for start, side, length in zip((core.y, core.x), (core.h, core.w), self.size, strict=True)
        )
        return Window(y, x, h, w)

    def _parts(self, windows: Sequence[Window], features: Tensor) -> list[Tensor]:
        """What features (B, C, .., ..) show of each window, (C, .., ..), at any resolution."""
        return [
            window.within(shown).scaled(features.shape[-1], shown.w).crop(part)
            for window, shown, part in zip(windows, self._shown, features, strict=True)
        ]

    def _watching(self) -> dict[nn.Module, Forward]:
        """For the sample: norms and attention that freeze themselves when they are reached."""
        parts = [part for layer in self.layers for part in layer.modules()]
        attentions = [part for part in parts if isinstance(part, Attention)]
        inside = {part for attention in attentions for part in attention.modules()}
        norms = [part for part in parts if isinstance(part, nn.GroupNorm) and part not in inside]
        watching = {part: self._freezing(part, partial(_fixed_attention, part)) for part in attentions}
        return watching | {part: self._freezing(part, partial(_fixed_norm, part)) for part in norms}

    def _freezing(self, module: nn.Module, fix: Callable[[Sequence[Tensor]], Forward]) -> Forward:
        def forward(features: Tensor) -> Tensor:
            self._frozen[module] = fix(self._parts(self._cores, features))
            return self._frozen[module](features)

        return forward


def _fixed_norm(norm: nn.GroupNorm, cores: Sequence[Tensor]) -> Forward:
    """The norm with the statistics of all ``cores`` (C, .., ..) together: one factor and one offset per channel."""
    grouped = (core.reshape(norm.num_groups, -1).float() for core in cores)
    variances, means = zip(*(torch.var_mean(values, dim=1, correction=0) for values in grouped), strict=True)
    each = torch.stack(means).cpu().double()  # (B, G); all cores have the same number of cells
    variance = torch.stack(variances).cpu().double().mean(0) + each.var(0, correction=0)

    repeats, device = norm.num_channels // norm.num_groups, norm.weight.device
    factor = norm.weight.cpu().double() / (variance + norm.eps).sqrt().repeat_interleave(repeats)
    offset = norm.bias.cpu().double() - each.mean(0).repeat_interleave(repeats) * factor
    factor, offset = factor.float().to(device), offset.float().to(device)

    def forward(features: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (features.ndim - 2)
        return torch.addcmul(offset.view(shape), features, factor.view(shape)).to(features.dtype)

    return forward


def _fixed_attention(attention: Attention, cores: Sequence[Tensor]) -> Forward:
    """Attention that reads ``cores`` (C, h, w) instead of what it is given."""
    norm = _fixed_norm(attention.group_norm, cores)
    read = norm(torch.cat([core.flatten(1) for core in cores], dim=1)[None]).transpose(1, 2)  # (1, N, C)

    def forward(features: Tensor) -> Tensor:
        # Places mean nothing to attention: the windows of a batch may as well stand side by side.
        beside = features.transpose(0, 1).flatten(1, 2)[None]  # (1, C, B h, w)
        with _replaced({attention.group_norm: norm}):
            result = type(attention).forward(attention, beside, encoder_hidden_states=read)
        return result[0].unflatten(1, (len(features), -1)).transpose(0, 1)

    return forward


@contextmanager
def _replaced(forwards: dict[nn.Module, Forward]) -> Iterator[None]:
    """Inside the block each module computes what is given for it."""
    with ExitStack() as undo:
        for module, forward in forwards.items():
            setattr(module, "forward", forward)  # noqa: B010 - an instance attribute, over the method of the class
            undo.callback(delattr, module, "forward")  # uncovers the class' own
        yield
