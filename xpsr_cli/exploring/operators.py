"""How a large picture becomes the small one, and the smallest change that makes it become exactly that one.

A resize filter is separable, so it is two small matrices: ``A(x) = R_v x R_h^T``. They are built and inverted in
float64 and applied in float32 whatever precision the networks have: half precision would lose the consistency again.
"""

# shapes: x (..., H, W) large, y (..., h, w) small; channels and batch lie before

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.options import ROUNDS, ResizeFilter

Size = tuple[int, int]
"""(height, width) in pixels."""

ENOUGH_DB = 60.0  # an 8-bit file differs from what was rounded by 58.9 dB


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys 1981 with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_KERNELS = {
    ResizeFilter.BICUBIC: (2.0, _cubic),
    ResizeFilter.AREA: (0.5, lambda x: ((x > -0.5) & (x <= 0.5)).astype(np.float64)),
    ResizeFilter.BILINEAR: (1.0, lambda x: np.maximum(1 - np.abs(x), 0.0)),
    ResizeFilter.LANCZOS: (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)),
}
"""Support in pixels of the smaller picture, and the kernel."""


def resize_matrix(large: int, small: int, kind: ResizeFilter) -> np.ndarray:
    """(small, large) float64: the filter along one axis, antialiased, its weights normalised within the picture."""
    support, kernel = _KERNELS[kind]
    ratio = large / small
    centres = (np.arange(small)[:, None] + 0.5) * ratio
    first = np.maximum(np.floor(centres - support * ratio + 0.5), 0)
    last = np.minimum(np.floor(centres + support * ratio + 0.5), large)
    place = np.arange(large)[None]
    weights = kernel((place + 0.5 - centres) / ratio) * ((place >= first) & (place < last))
    return weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Axis:
    """One axis of the operator: R, and the eigenvectors (n, n) and eigenvalues (n,) of R R^T."""

    matrix: Tensor
    vectors: Tensor
    values: Tensor

    @classmethod
    def of(cls, large: int, small: int, kind: ResizeFilter) -> _Axis:
        matrix = resize_matrix(large, small, kind)
        values, vectors = np.linalg.eigh(matrix @ matrix.T)
        return cls(*(torch.from_numpy(array) for array in (matrix, vectors, values)))


class Operator:
    """Reduces pictures from ``large`` to ``small``, both (height, width), any ratio that is not an enlargement.

    Raises :class:`~xpsr_cli.errors.UsageError` for a small size that is larger on an axis, or empty.
    """

    def __init__(self, large: Size, small: Size, kind: ResizeFilter = ResizeFilter.BICUBIC) -> None:
        if not all(0 < few <= many for few, many in zip(small, large, strict=True)):
            raise UsageError(
                f"{large[1]} x {large[0]} pixels cannot be reduced to {small[1]} x {small[0]}.",
                "Choose a larger scale.",
            )
        self.large = large
        self.small = small
        self.kind = kind
        self._rows, self._columns = (
            _Axis.of(many, few, ResizeFilter(kind)) for many, few in zip(large, small, strict=True)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """``A x``: (..., h, w) float32 of (..., H, W)."""
        rows, columns = self._matrices(x)
        return rows @ x.float() @ columns.T

    def correct(self, x: Tensor, y: Tensor, gamma: float = math.inf) -> Tensor:
        """The x' that minimises ``|x' - x|^2 + gamma |A x' - y|^2``, float32; with infinite ``gamma``, ``A x' = y``.

        ``x + A^T (A A^T + I / gamma)^-1 (y - A x)``: the projection of DDNM (Wang et al. 2023, eq. 13) at infinity,
        a proximal step below, and ``x`` at 0.
        """
        if gamma == 0:
            return x.float()
        return self.pull(x, y, self.squares / (self.squares + 1 / gamma))

    @cached_property
    def squares(self) -> Tensor:
        """Squares of the singular values of A, (h, w) float64, in the order of the directions of :meth:`pull`."""
        return self._rows.values[:, None] * self._columns.values[None]

    def pull(self, x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
        """``x`` moved a share of the way towards agreeing with ``y`` along each singular direction of A, float32.

        ``shares`` (h, w): 1 agrees, 0 stays. What A does not see never changes.
        """
        rows, columns = self._matrices(x)
        weights, left, right = (
            part.float().to(x.device) for part in (shares / self.squares, self._rows.vectors, self._columns.vectors)
        )
        residual = left.T @ (y.float() - rows @ x.float() @ columns.T) @ right
        return x.float() + rows.T @ (left @ (residual * weights) @ right.T) @ columns

    def inverse(self, y: Tensor) -> Tensor:
        """``A^+ y``: the smallest large picture (..., H, W) that is reduced to ``y``."""
        return self.correct(torch.zeros(*y.shape[:-2], *self.large, device=y.device), y)

    def finish(self, x_01: Tensor, y_01: Tensor, rounds: int = ROUNDS) -> Tensor:
        """``x_01`` as an 8-bit picture (..., H, W) uint8 whose reduction is as near to ``y_01`` as 8 bits allow.

        What projection pushes out of [0, 1] is clipped, which breaks consistency again; so both alternate until the
        rounded picture agrees with ``y_01`` by 60 dB, no longer comes nearer, or ``rounds`` have passed.
        """
        best, reached = _to_u8(x_01.float()), -math.inf
        x = x_01.float()
        for _ in range(rounds):
            x = self.correct(x, y_01).clamp(0, 1)
            rounded = _to_u8(x)
            agreement = self.agreement(rounded, y_01)
            if agreement <= reached + 0.01:
                break
            best, reached = rounded, agreement
            if agreement >= ENOUGH_DB:
                break
        return best

    def agreement(self, x_u8: Tensor, y_01: Tensor) -> float:
        """PSNR in dB between the reduction of an 8-bit picture and the small one in [0, 1]; peak 1, not rounded."""
        return self.agreement_01(x_u8.float() / 255, y_01)

    def agreement_01(self, x_01: Tensor, y_01: Tensor) -> float:
        """The same of a picture in [0, 1] that is not rounded."""
        error = float(((self(x_01) - y_01.float()) ** 2).mean(dtype=torch.float64))
        return math.inf if error == 0 else -10 * math.log10(error)

    def _matrices(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = self._float_matrices
        return rows.to(x.device), columns.to(x.device)

    @cached_property
    def _float_matrices(self) -> tuple[Tensor, Tensor]:
        return self._rows.matrix.float(), self._columns.matrix.float()


def _to_u8(x_01: Tensor) -> Tensor:
    return (x_01.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
