"""How well a picture fits words, by a CLIP: what judges answers, and what can pull them towards a prompt."""

# shapes: H W pixels of a picture, S side that the CLIP sees, n texts

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import read_json
from xpsr_cli.models.loading import load_pretrained, load_tokenizer
from xpsr_cli.photos.photo import Pixels
from xpsr_cli.weights import hub_folder

GUIDE, JUDGE = "scorer", "judge"
"""Who steers and who judges: never the same network, which would be pleased with its own work."""
PUBLISHED_CLIPS = ("openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14")
"""What judges answers of published priors, the first that is whole in the local Hugging Face cache."""
_PREPROCESSOR = "preprocessor_config.json"
_CENTRE = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation of the colours of small CLIPs: they see values in [-1, 1]."""


class TextScorer:
    """A CLIP and its tokenizer, computing in float32.

    Args:
        clip: in eval mode, on the device it is to compute on.
        tokenizer: that of its texts.
        name: who it is, for records.
        colours: mean and standard deviation (R, G, B), of values in [0, 1], that it was trained with.
    """

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        name: str = "",
        colours: tuple[Sequence[float], Sequence[float]] = _CENTRE,
    ) -> None:
        self.name = name
        self._clip = clip.float()
        self._tokenizer = tokenizer
        self._mean, self._std = (torch.tensor(values)[:, None, None] for values in colours)
        self._side: int = clip.config.vision_config.image_size
        self._texts: dict[str, Tensor] = {}

    @torch.no_grad()
    def fit(self, picture: Pixels, texts: Sequence[str]) -> list[float]:
        """The cosines (n) in [-1, 1] between the embeddings of a picture (H, W, 3) uint8 and of ``texts``."""
        pixels_01 = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        seen = self._of_picture(pixels_01)
        return [float(seen @ self._of_text(text)) for text in texts]

    def energy(self, text: str) -> Callable[[Tensor], Tensor]:
        """1 - cosine, for :class:`~.consistency.EnergyGuidance`: of pixels (1, 3, H, W) in [-1, 1], differentiable."""
        wanted = self._of_text(text)
        return lambda pixels: 1 - self._of_picture(pixels.clamp(-1, 1) / 2 + 0.5) @ wanted

    def _of_picture(self, pixels_01: Tensor) -> Tensor:
        """(1, d) of length 1."""
        side = (self._side, self._side)
        seen = F.interpolate(pixels_01.float(), side, mode="bicubic", antialias=True, align_corners=False)
        normal = (seen.clamp(0, 1) - self._mean) / self._std
        embedded = self._clip.visual_projection(self._clip.vision_model(normal.to(self._clip.device)).pooler_output)
        return F.normalize(embedded, dim=-1).cpu()

    def _of_text(self, text: str) -> Tensor:
        """(d,) of length 1, computed once."""
        if text not in self._texts:
            tokens = self._tokenizer([text], truncation=True, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                pooled = self._clip.text_model(tokens.to(self._clip.device)).pooler_output
                self._texts[text] = F.normalize(self._clip.text_projection(pooled), dim=-1)[0].cpu()
        return self._texts[text]


def published_scorer(device: torch.device) -> TextScorer | None:
    """The first of :data:`PUBLISHED_CLIPS` that is whole on this machine; nothing is downloaded.

    One that is there in part, or as a pickle alone, is passed by: answers are not held up by who would judge them.
    """
    for name in PUBLISHED_CLIPS:
        folder = hub_folder(name)
        with suppress(WeightsError):
            if folder is not None:
                return load_scorer(folder, device, name)
    return None


def load_scorer(folder: Path, device: torch.device, name: str = "") -> TextScorer:
    """The CLIP in a folder in transformers' layout, called ``name``. Raises :class:`WeightsError`."""
    clip = load_pretrained(CLIPModel, folder).eval().requires_grad_(False)
    tokenizer = load_tokenizer(folder, clip.text_model)
    said = read_json(folder / _PREPROCESSOR) if (folder / _PREPROCESSOR).is_file() else {}
    colours = said.get("image_mean", _CENTRE[0]), said.get("image_std", _CENTRE[1])
    return TextScorer(clip.to(device), tokenizer, name, colours)
