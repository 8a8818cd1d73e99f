"""The libraries that publish learned metrics: which files each needs, how to get them, and how each is called.

pyiqa has them all, and the tables of the field were computed with it; its licence forbids commercial use. Where
another library publishes the same network it serves as well. No library is imported before it is used.
"""

# shapes: a picture is (1, 3, H, W) float32, RGB, in [0, 1] (``_01``); FID takes (n, 3, 299, 299) in [0, 255]

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.errors import OutOfMemoryError, PhotoError
from xpsr_cli.evaluation.learned_files import Home, MetricFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Network = Callable[..., Any]
"""Takes the result and, where the metric compares, the original; returns the score as a tensor of one value."""
Loader = Callable[["torch.device", Sequence[Path]], Network]


@dataclass(frozen=True)
class Library:
    """One way to compute one metric.

    ``modules`` are imported; the first is the library's own. ``files`` have to be there; ``fetch`` is the command
    that gets those that do not come with the library (``{path}`` stands for the place of such a file). ``load`` is
    given the device and the files in their order.
    """

    modules: tuple[str, ...]
    distribution: str
    licence: str
    files: tuple[MetricFile, ...]
    fetch: str
    load: Loader
    settings: Mapping[str, str]


def _torch(path: str, digits: str = "") -> MetricFile:
    return MetricFile(Home.TORCH, path, digits)


_ALEXNET = _torch("checkpoints/alexnet-owt-7be5be79.pth", "7be5be79")
_VGG16 = _torch("checkpoints/vgg16-397923af.pth", "397923af")
_VIT = MetricFile(Home.HUGGING_FACE, "timm/vit_base_patch8_224.augreg2_in21k_ft_in1k/model.safetensors")
_INCEPTION = _torch(
    "checkpoints/inception-2015-12-05.pt", "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
)
_INCEPTION_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
_LPIPS_DIGITS, _DISTS_DIGITS = "df73285e", "f5e65c96"


def _pyiqa(metric: str, files: tuple[MetricFile, ...], load: Loader, **settings: str) -> Library:
    fetch = f"python -c \"import pyiqa; pyiqa.create_metric('{metric}', device='cpu')\""
    licence = "PolyForm Noncommercial 1.0"
    return Library(("pyiqa",), "pyiqa", licence, files, fetch, load, {"metric": metric, **settings})


def _load_pyiqa(metric: str) -> Loader:
    def load(device: torch.device, files: Sequence[Path]) -> Network:
        network: Network = import_module("pyiqa").create_metric(metric, device=device)
        return network

    return load


def _load_pyiqa_inception(device: torch.device, files: Sequence[Path]) -> Network:
    inception = import_module("pyiqa").create_metric("fid", device=device).net.model

    def features(photos_255: Tensor) -> Any:
        return inception((photos_255 - 128) / 128, False, False)[0].flatten(1)

    return features


def _load_clean_fid(device: torch.device, files: Sequence[Path]) -> Network:
    module = import_module("cleanfid.inception_torchscript")
    network = module.InceptionV3W(str(files[0].parent), download=False, resize_inside=False)
    loaded: Network = network.to(device).eval()
    return loaded


def _load_lpips(device: torch.device, files: Sequence[Path]) -> Network:
    network = import_module("lpips").LPIPS(net="alex", version="0.1", verbose=False).to(device)
    return lambda result_01, original_01: network(result_01 * 2 - 1, original_01 * 2 - 1)


def _load_dists(device: torch.device, files: Sequence[Path]) -> Network:
    network: Network = import_module("DISTS_pytorch").DISTS().to(device).eval()
    return network


def _load_torchmetrics_lpips(device: torch.device, files: Sequence[Path]) -> Network:
    module = import_module("torchmetrics.image.lpip")
    metric: Network = module.LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)
    return metric


def _load_torchmetrics_dists(device: torch.device, files: Sequence[Path]) -> Network:
    module = import_module("torchmetrics.image.dists")
    metric: Network = module.DeepImageStructureAndTextureSimilarity().to(device)
    return metric


def _torchmetrics(
    module: str, weights: str, digits: str, backbone: MetricFile, load: Loader, fetch: str, **settings: str
) -> Library:
    own = MetricFile(Home.PACKAGE, f"torchmetrics/functional/image/{weights}", digits)
    modules = ("torchmetrics", "torchvision", f"torchmetrics.image.{module}")
    return Library(modules, "torchmetrics", "Apache-2.0", (backbone, own), fetch, load, settings)


_FETCH_BACKBONE = "python -c \"import torchvision; torchvision.models.{}(weights='IMAGENET1K_V1')\""
_FETCH_ALEXNET, _FETCH_VGG16 = _FETCH_BACKBONE.format("alexnet"), _FETCH_BACKBONE.format("vgg16")
_ALEX = {"network": "AlexNet, version 0.1"}

LIBRARIES: Mapping[str, tuple[Library, ...]] = {
    "lpips": (
        _pyiqa(
            "lpips",
            (_torch("pyiqa/LPIPS_v0.1_alex-df73285e.pth", _LPIPS_DIGITS), _ALEXNET),
            _load_pyiqa("lpips"),
            **_ALEX,
            inputs="0 to 1",
        ),
        _torchmetrics(
            "lpip",
            "lpips_models/alex.pth",
            _LPIPS_DIGITS,
            _ALEXNET,
            _load_torchmetrics_lpips,
            _FETCH_ALEXNET,
            **_ALEX,
            inputs="0 to 1",
        ),
        Library(
            ("lpips",),
            "lpips",
            "BSD-2-Clause",
            (_ALEXNET, MetricFile(Home.PACKAGE, "lpips/weights/v0.1/alex.pth", _LPIPS_DIGITS)),
            _FETCH_ALEXNET,
            _load_lpips,
            {**_ALEX, "inputs": "-1 to 1"},
        ),
    ),
    "dists": (
        _pyiqa(
            "dists",
            (_torch("pyiqa/DISTS_weights-f5e65c96.pth", _DISTS_DIGITS), _VGG16),
            _load_pyiqa("dists"),
            inputs="0 to 1, not resized",
        ),
        _torchmetrics(
            "dists",
            "dists_models/weights.pt",
            _DISTS_DIGITS,
            _VGG16,
            _load_torchmetrics_dists,
            _FETCH_VGG16,
            inputs="0 to 1, not resized",
        ),
        Library(
            ("DISTS_pytorch",),
            "DISTS_pytorch",
            "MIT",
            (_VGG16, MetricFile(Home.PYTHON, "weights.pt", _DISTS_DIGITS)),
            _FETCH_VGG16,
            _load_dists,
            {"inputs": "0 to 1, not resized"},
        ),
    ),
    "fid": (
        _pyiqa(
            "fid",
            (_torch("pyiqa/pt_inception-2015-12-05-6726825d.pth", "6726825d"),),
            _load_pyiqa_inception,
            mode="clean",
        ),
        Library(
            ("cleanfid", "cleanfid.inception_torchscript"),
            "clean-fid",
            "MIT",
            (_INCEPTION,),
            f'curl -L --create-dirs -o "{{path}}" {_INCEPTION_URL}',
            _load_clean_fid,
            {"mode": "clean"},
        ),
    ),
    "musiq": (
        _pyiqa(
            "musiq",
            (_torch("pyiqa/musiq_koniq_ckpt-e95806b9.pth", "e95806b9"),),
            _load_pyiqa("musiq"),
            trained_on="KonIQ-10k",
            inputs="0 to 1, not resized",
        ),
    ),
    "maniqa-koniq": (
        _pyiqa(
            "maniqa",
            (_torch("pyiqa/ckpt_koniq10k.pt"), _VIT),
            _load_pyiqa("maniqa"),
            trained_on="KonIQ-10k, scale 0.8",
        ),
    ),
    "maniqa-pipal": (
        _pyiqa(
            "maniqa-pipal",
            (_torch("pyiqa/MANIQA_PIPAL-ae6d356b.pth", "ae6d356b"), _VIT),
            _load_pyiqa("maniqa-pipal"),
            trained_on="PIPAL",
        ),
    ),
    "clipiqa": (
        _pyiqa(
            "clipiqa",
            (_torch("clip/RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),),
            _load_pyiqa("clipiqa"),
            network="CLIP RN50 without positional embedding, five pairs of prompts",
        ),
    ),
}
"""By metric, in the order in which they are tried; the last is the one that is recommended to who has none."""


@contextmanager
def refusals(label: str, name: str) -> Iterator[None]:
    """Turn what a library raises about a picture into one sentence."""
    from xpsr_cli.device import memory_errors

    try:
        with memory_errors(f"{label} of {name}", "Leave the metric out, or name another --device."):
            yield
    except OutOfMemoryError:
        raise
    except Exception as error:
        raise PhotoError(f"{label} of {name} cannot be computed: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What a library says is wrong, as one sentence."""
    lines: list[str] = str(error).strip().splitlines()
    return f"{lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."
