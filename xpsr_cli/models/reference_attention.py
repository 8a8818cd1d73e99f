"""Reference attention: the UNet's decoder looks at a picture that an activator made of the photo (CasSR's idea).

CasSR (Chen et al. 2024) is known by its abstract alone, so this is our form of it: a sibling of conditional attention
whose keys and values are the ControlNet's image features of the reference, their difference from the photo's, and the
pixels by which it differs. They do not depend on the timestep.
"""

# shapes: B batch, C channels of this level, h w its cells, N = h*w, R H W what is read of the reference (H >= h),
#         s side of a local window, k = s + 2*margin side of what it sees, G windows, d channels of a head

from __future__ import annotations

from enum import Enum

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.nn import functional as F

from xpsr_cli.models.residual_autoencoder import local_contrast
from xpsr_cli.models.semantic_fusion import pooled, tokens

MOST_TOKENS = 32
"""Side of the largest map of tokens that is attended to as a whole: what a query costs grows with its square."""


MOST_DETAIL = 8.0
"""Beyond this many contrasts of the photo a reference says no more, however much it differs."""


class ReferenceForm(str, Enum):
    """How the reference is read; ``separate`` is the identity until it is trained, the others are for comparison."""

    SEPARATE = "separate"  # an attention of its own behind the conditional one
    TOKENS = "tokens"  # further keys and values of the conditional attention
    FUSION = "fusion"  # further keys and values of the ControlNet's semantic fusion


def reference_detail(reference_01: Tensor, photo_01: Tensor, cell: int) -> Tensor:
    """What a reference adds to the photo, both (B, 3, f*h, f*w) in [0, 1]: the pixels of every cell, (B, 3*f*f, h, w).

    In units of the photo's local contrast, so that the same edge says the same in bright light and in dim.
    """
    difference = F.pixel_unshuffle(2 * (reference_01 - photo_01), cell)
    return (difference / local_contrast(2 * photo_01 - 1, cell)).clamp(-MOST_DETAIL, MOST_DETAIL)


def detail_channels(cell: int) -> int:
    """Channels of :func:`reference_detail`."""
    return 3 * cell**2


def blocks_within(levels: int, cells: int, most: int = MOST_TOKENS) -> list[bool]:
    """The up blocks, the coarsest first, whose map is ``most`` tokens wide at most for a window of ``cells`` cells."""
    return [cells / 2**level <= most for level in reversed(range(levels))]


class ReferenceAttention(nn.Module):
    """A transformer without self-attention over the tokens of the reference; its last layer starts at zero.

    A query attends to the whole map, by content alone, or, with a ``window`` of s cells, to the s x s cells around it
    that share its window and half as many on every side. Reference and photo lie on one canvas, so the place is known:
    a learned bias by distance begins as a Gaussian of one cell. That is what makes fine levels affordable, and what is
    learnt from small crops hold for large ones.
    """

    def __init__(self, channels: int, heads: int, context_channels: int, groups: int, window: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.window: int | None = window
        # without weights of its own, which proj_in makes up for: where they alone want a gradient, torch crashes
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6, affine=False)
        self.proj_in = nn.Linear(channels, channels)
        self.norm_query = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        self.norm_ff = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        self.bias = None if window is None else nn.Parameter(_nearness(heads, window))

    def forward(self, hidden_states: Tensor, reference: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape; ``reference`` (B or 1, R, H, W)."""
        height, width = hidden_states.shape[-2:]
        context = tokens(pooled(reference, height, width))
        x = self.proj_in(tokens(self.norm(hidden_states)))
        query, key, value = self.to_q(self.norm_query(x)), self.to_k(context), self.to_v(context)
        key, value = (part.expand(x.shape[0], -1, -1) for part in (key, value))
        x = x + self.to_out(self._attend(query, key, value, height, width))
        x = x + self.ff(self.norm_ff(x))
        return hidden_states + _as_map(self.proj_out(x), height, width)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, height: int, width: int) -> Tensor:
        """What the queries (B, N, C) read, (B, N, C)."""
        if self.window is None:
            heads = [self._by_head(part) for part in (query, key, value)]
            read = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
            return read.transpose(1, 2).flatten(2)
        side, margin = self.window, _margin(self.window)
        below, right = -height % side, -width % side
        maps = [_as_map(part, height, width) for part in (query, key, value)]
        maps = [F.pad(part, (0, right, 0, below), mode="replicate") for part in maps]
        around = [F.pad(part, (margin,) * 4, mode="replicate") for part in maps[1:]]
        queries = self._by_head(_windows(maps[0], side, side))
        keys, values = (self._by_head(_windows(part, side + 2 * margin, side)) for part in around)
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self._by_distance(side))
        whole = _put_together(read.transpose(1, 2).flatten(2), query.shape[0], height + below, width + right, side)
        return tokens(whole[..., :height, :width])

    def _by_head(self, sequence: Tensor) -> Tensor:
        """(B, N, C) as (B, heads, N, d)."""
        return sequence.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _by_distance(self, side: int) -> Tensor:
        """The bias of every pair of a query and a key in a window, (heads, s*s, k*k)."""
        assert self.bias is not None
        steps = _steps(side, self.bias.device)
        places = steps[:, None, :, None] * self.bias.shape[1] + steps[None, :, None, :]  # (s, s, k, k)
        return self.bias.flatten(1)[:, places.flatten()].view(self.heads, side**2, steps.shape[1] ** 2)


class ReferenceTokens(nn.Module):
    """The context of a conditional attention with the reference's tokens behind its own, both marked by their kind."""

    def __init__(self, context_channels: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(context_channels, channels)
        self.kinds = nn.Parameter(torch.zeros(2, channels))

    def forward(self, context: Tensor, reference: Tensor, height: int, width: int) -> Tensor:
        """(B, N, C) and features (B or 1, R, H, W) to (B, 2*N, C)."""
        further = self.project(tokens(pooled(reference, height, width))).expand(context.shape[0], -1, -1)
        return torch.cat([context + self.kinds[0], further + self.kinds[1]], dim=1)


def _margin(window: int) -> int:
    return window // 2


def _steps(window: int, device: torch.device | None = None) -> Tensor:
    """How far the keys of a window lie from its queries along one side, from 0 for the farthest, (s, k)."""
    margin = _margin(window)
    keys = torch.arange(window + 2 * margin, device=device)
    return keys[None, :] - torch.arange(window, device=device)[:, None] + window - 1


def _nearness(heads: int, window: int) -> Tensor:
    """The bias at the start, (heads, D, D) for D distances along each side."""
    farthest = window - 1 + _margin(window)
    distance = torch.arange(-farthest, farthest + 1)
    squares = distance[:, None] ** 2 + distance[None, :] ** 2
    return (-0.5 * squares.float()).expand(heads, -1, -1).clone()


def _as_map(sequence: Tensor, height: int, width: int) -> Tensor:
    """(B, N, C) as (B, C, h, w)."""
    return sequence.transpose(1, 2).unflatten(2, (height, width))


def _windows(features: Tensor, side: int, step: int) -> Tensor:
    """Windows of ``side`` that start every ``step`` cells of (B, C, h, w), (B*G, side*side, C)."""
    cut = features.unfold(2, side, step).unfold(3, side, step)  # (B, C, rows, columns, side, side)
    return cut.permute(0, 2, 3, 4, 5, 1).reshape(-1, side**2, features.shape[1])


def _put_together(windows: Tensor, batch: int, height: int, width: int, side: int) -> Tensor:
    """Windows side by side, (B*G, s*s, C), as (B, C, h, w)."""
    rows, columns = height // side, width // side
    grid = windows.view(batch, rows, columns, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    return grid.reshape(batch, -1, height, width)
