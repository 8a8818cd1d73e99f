"""What model a run uses, told from its files alone: loading them takes much longer."""

from __future__ import annotations

import hashlib
from pathlib import Path

from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import hash_file
from xpsr_cli.weights import MODEL_CARD

_PARTS = ("unet", "controlnet", "vae", "text_encoder", "tokenizer", "scheduler")
_READ = ("*.json", "*.txt", "model.safetensors", "diffusion_pytorch_model.safetensors")
"""What is read of a part: configurations, vocabularies and weights; folders may hold other copies of the weights."""


def hash_of_model(folder: Path, base: Path | None) -> str:
    """SHA-256 over all that is read of a model: networks, tokenizer, noise schedule and sampling preset.

    Parts that ``folder`` lacks are those of ``base``.
    """
    files = {MODEL_CARD: folder / MODEL_CARD} if (folder / MODEL_CARD).is_file() else {}
    for part in _PARTS:
        home = folder / part if base is None or (folder / part).is_dir() else base / part
        files |= {f"{part}/{path.name}": path for pattern in _READ for path in home.glob(pattern)}
    try:
        lines = (f"{hash_file(path)}  {name}\n" for name, path in sorted(files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}.", "Check its permissions.") from error
