"""FID: the distance between the Inception features of two sets of pictures (Heusel et al. 2017), in the clean variant.

Clean (Parmar et al. 2022): every picture is brought to 299 x 299 pixels by Pillow's bicubic filter, channel by channel
and without rounding. The network is a library's, the arithmetic ours.
"""

# shapes: pictures are (H, W, 3) uint8; features are (n, 2048) float64

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.learned_libraries import Network, refusals
from xpsr_cli.evaluation.metric import MetricFacts, Sample
from xpsr_cli.photos.photo import Pixels

if TYPE_CHECKING:
    import torch

SIDE_PX = 299
Features = NDArray[np.float64]


class FrechetDistance:
    """FID of all results against all originals: one value; the fewer pictures, the more it is too large."""

    def __init__(
        self, facts: MetricFacts, network: Network, device: torch.device, provenance: Mapping[str, str]
    ) -> None:
        self.facts = facts
        self._network = network
        self._device = device
        self._provenance = provenance
        self._originals: dict[bytes, Features] = {}  # by their pixels: several methods have the same

    def provenance(self) -> Mapping[str, str]:
        """Package, version, licence and settings, and the SHA-256 of every file of weights."""
        return self._provenance

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """The distance, as the only value; NaN for less than two pictures.

        Raises:
            PhotoError: a picture without its original.
        """
        results, originals = [], []
        for sample in samples:
            if sample.hr is None:
                raise PhotoError(f"{sample.name} has no original.", "Check the folder of originals.")
            results.append(self._features(sample.result, sample.name))
            content = hashlib.sha256(repr(sample.hr.shape).encode() + sample.hr.tobytes()).digest()
            if content not in self._originals:
                self._originals[content] = self._features(sample.hr, sample.name)
            originals.append(self._originals[content])
        return [frechet_distance(np.array(results), np.array(originals)) if len(results) > 1 else math.nan]

    def _features(self, photo: Pixels, name: str) -> Features:
        """(2048,) of one picture."""
        import torch

        photo_255 = torch.from_numpy(reduced(photo)).to(self._device).permute(2, 0, 1)[None]
        with refusals(self.facts.label, name), torch.inference_mode():
            features: Features = self._network(photo_255).flatten().double().cpu().numpy()
        return features


def reduced(photo: Pixels) -> NDArray[np.float32]:
    """(299, 299, 3) float32 in [0, 255], not rounded."""
    channels = (Image.fromarray(photo[..., channel].astype(np.float32)) for channel in range(3))
    size = (SIDE_PX, SIDE_PX)
    planes = [np.asarray(channel.resize(size, Image.Resampling.BICUBIC)).clip(0, 255) for channel in channels]
    return np.stack(planes, axis=-1)


def frechet_distance(a: Features, b: Features) -> float:
    """Squared distance between the Gaussians fitted to two sets of features, (n, d) and (m, d).

    The trace of the root of the product of the covariances is the sum of the singular values of the product of the
    centred features, which is exact where there are fewer pictures than features and the covariances have no root.
    """
    centred_a, centred_b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale_a, scale_b = len(a) - 1, len(b) - 1
    traces = (centred_a**2).sum() / scale_a + (centred_b**2).sum() / scale_b
    common = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum() / math.sqrt(scale_a * scale_b)
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + traces - 2 * common)
