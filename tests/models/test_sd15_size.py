"""At Stable Diffusion 1.5 size the networks have exactly the published weights. Built without memory: no values."""

import json
from pathlib import Path

import pytest
import torch

from xpsr_cli.models.controlnet import XpsrControlNet
from xpsr_cli.models.encoder import LatentEncoder
from xpsr_cli.models.folders import published_config, published_keys
from xpsr_cli.models.unet import XpsrUNet

SD15 = Path(__file__).parents[1] / "golden" / "sd15"


def config_of(part: str) -> dict[str, object]:
    return json.loads((SD15 / f"{part}_config.json").read_text())


def empty(cls: type[LatentEncoder], part: str) -> LatentEncoder:
    with torch.device("meta"):
        return cls(**cls.options_from(config_of(part)))


@pytest.mark.parametrize(
    ("cls", "part", "parameters"),
    [(XpsrUNet, "unet", 1_107_755_524), (XpsrControlNet, "controlnet", 620_216_909)],
)
def test_names_shapes_and_counts_are_the_published_ones(cls: type[LatentEncoder], part: str, parameters: int) -> None:
    network = empty(cls, part)
    published = {key: tuple(shape) for key, shape in json.loads((SD15 / f"{part}_keys.json").read_text()).items()}
    assert published_keys(network) == published
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_what_training_changes_is_the_published_share() -> None:
    unet = empty(XpsrUNet, "unet")
    conditional = [parameter for key, parameter in unet.named_parameters() if ".conditional." in key]
    assert len(conditional) == 312
    assert sum(parameter.numel() for parameter in conditional) == 248_234_560


@pytest.mark.parametrize(("cls", "part"), [(XpsrUNet, "unet"), (XpsrControlNet, "controlnet")])
def test_the_published_config_is_read_and_written_field_by_field(cls: type[LatentEncoder], part: str) -> None:
    ours, theirs = published_config(empty(cls, part)), config_of(part)
    theirs.pop("_diffusers_version")
    assert json.loads(json.dumps(ours)) == theirs


@pytest.mark.parametrize(("cls", "part"), [(XpsrUNet, "unet"), (XpsrControlNet, "controlnet")])
def test_the_defaults_are_the_published_architecture(cls: type[LatentEncoder], part: str) -> None:
    with torch.device("meta"):
        network = cls()
    assert published_keys(network) == published_keys(empty(cls, part))
