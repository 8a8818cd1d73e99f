"""Add-ons of the real classes at their smallest, with random weights, so that a reference is seen in every result."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from xpsr_cli.models.loading import load_components
from xpsr_cli.models.reference_attention import ReferenceForm
from xpsr_cli.models.reference_loading import ReferenceShape, add_reference, new_weights, save_reference
from xpsr_cli.models.tuner_loading import save_tuner, tuner_for

SHAPE = ReferenceShape(ReferenceForm.SEPARATE, (True, True, True), 4)


def make_add_on(model: Path, folder: Path, *, activator: str = "dfc", tuned: bool = False, seed: int = 0) -> Path:
    """An add-on for the model in a folder; with ``tuned`` it brings an activator of its own."""
    torch.manual_seed(seed)
    base = load_components(model)
    made = add_reference(base, SHAPE)
    weights = {**new_weights(made.unet), **new_weights(made.controlnet)}
    weights = {name: torch.randn_like(value) * 0.3 for name, value in weights.items()}
    told = {"base": base.name, "base_weights": base.fingerprint}
    save_reference(folder, weights, SHAPE, name="tiny-cassr", reference={"activator": activator, "steps": 2}, **told)
    if tuned:
        make_tuner(model, folder / "activator", seed=seed)
    return folder


def make_tuner(model: Path, folder: Path, *, seed: int = 0) -> Path:
    """A skip tuner for the model in a folder."""
    torch.manual_seed(seed)
    base = load_components(model)
    hints = [4] * base.controlnet.pyramid.downscale.bit_length()
    tuner = tuner_for(base, hints)
    for parameter in tuner.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_tuner(folder, tuner, name="tiny-scedit", base=base.name, base_weights=base.fingerprint, steps=2)
    return folder


def change_card(folder: Path, **values: object) -> None:
    """Other values in the card of a folder."""
    card = json.loads((folder / "xpsr.json").read_text(encoding="utf-8"))
    (folder / "xpsr.json").write_text(json.dumps({**card, **values}), encoding="utf-8")
