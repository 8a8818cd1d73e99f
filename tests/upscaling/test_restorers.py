"""Files of restorers: real architectures of spandrel at their smallest, and everything that is refused.

What needs spandrel is skipped where it is not installed. Where it is, but torchvision is not (which has no CPU build
everywhere), a stand-in for the three names that spandrel imports of it takes its place while spandrel is imported;
none of them is ever called here.
"""

from __future__ import annotations

import logging
import os
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_photos import refusal
from torch import nn

from xpsr_cli.device import Placement
from xpsr_cli.errors import MissingExtraError, WeightsError
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.photo import Photo
from xpsr_cli.progress import SilentProgress
from xpsr_cli.settings import output_size
from xpsr_cli.upscaling.restoration import Restored
from xpsr_cli.upscaling.restorers import load_restorer

FLOAT32, FLOAT16 = (Placement(torch.device("cpu"), dtype) for dtype in (torch.float32, torch.float16))

needs_spandrel = pytest.mark.skipif(find_spec("spandrel") is None, reason="needs the extra activators")


def _stand_in():
    """torchvision.transforms.functional, as far as spandrel asks for it by name."""

    def never_called(*_, **__):
        raise NotImplementedError

    functional = types.ModuleType("torchvision.transforms.functional")
    functional.InterpolationMode = functional.rotate = functional.normalize = never_called
    parents = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.transforms")}
    return {**parents, functional.__name__: functional}


@pytest.fixture(scope="module")
def spandrel():
    pytest.importorskip("einops")
    with pytest.MonkeyPatch.context() as patch:
        if "spandrel" not in sys.modules and find_spec("torchvision") is None:
            for name, module in _stand_in().items():
                patch.setitem(sys.modules, name, module)
        import spandrel

        return spandrel


def _esrgan(scale, shuffle=None):
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=8, num_blocks=1, scale=scale, shuffle_factor=shuffle)


def _compact(channels=3, scale=2):
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=3, upscale=scale)


def _swinir():
    from spandrel.architectures.SwinIR import SwinIR

    return SwinIR(
        window_size=8, embed_dim=8, depths=[2], num_heads=[2], upscale=2, upsampler="pixelshuffle", mlp_ratio=2
    )


def _scunet():
    from spandrel.architectures.SCUNet import SCUNet

    return SCUNet(config=[1, 1, 1, 1, 1, 1, 1], dim=64)


NETWORKS = {
    "Real-ESRGAN x4": (lambda: _esrgan(4), 4, "ESRGAN"),
    "Real-ESRGAN x2, which folds pixels": (lambda: _esrgan(2, 2), 2, "ESRGAN"),
    "compact Real-ESRGAN x2": (_compact, 2, "Compact"),
    "SwinIR x2": (_swinir, 2, "SwinIR"),
    "SCUNet": (_scunet, 1, "SCUNet"),
}
SEES_FAR = "SCUNet"
KINDS = pytest.mark.parametrize("kind", NETWORKS)


def saved(network, path):
    """A file of the network's weights, as restorers are given away."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"params_ema": weights}, path)
    return path


def photo(height, width, dtype=np.uint8):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    pixels = 0.5 + 0.2 * np.stack([np.sin(x / 9 + y / 13), np.cos(x * y / 700), np.sin((x + y) / 2.1)], axis=2)
    pixels += 0.2 * rng.random((height, width, 3))
    return Photo((pixels.clip(0, 1) * np.iinfo(dtype).max).round().astype(dtype))


def tensor(source):
    return torch.from_numpy(source.read(0, 0, source.height, source.width).colour).permute(2, 0, 1).contiguous()


class Kept:
    """A tensor (3, H, W) as a picture."""

    def __init__(self, values):
        self.values = values
        self.height, self.width = values.shape[1:]

    def read(self, top, left, height, width):
        return self.values[:, top : top + height, left : left + width]


@needs_spandrel
@KINDS
@pytest.mark.parametrize("wanted", [1.0, 2.5])
def test_restorers_of_any_scale_make_the_size_asked_for(spandrel, tmp_path, kind, wanted):
    build, own, architecture = NETWORKS[kind]
    file = saved(build(), tmp_path / "restorer.safetensors")
    restorer = load_restorer(file, FLOAT32)
    source = photo(51, 77, np.uint16)
    result, again = (np.concatenate(list(restorer.bands(source, wanted, SilentProgress()))) for _ in range(2))
    assert restorer.scale == own
    assert result.shape == (*reversed(output_size(77, 51, wanted)), 3)
    assert result.min() >= 0
    assert result.max() <= 1
    assert np.array_equal(result, again)
    shift = result.mean(axis=(0, 1)) - tensor(source).mean(dim=(1, 2)).numpy()
    assert np.abs(shift).max() * 255 < 4  # of noise that is cut at black and white
    assert restorer.identity["name"] == "spandrel"
    assert restorer.identity["weights"] == hash_file(file)
    assert restorer.identity["architecture"] == architecture
    assert restorer.identity["spandrel"] == spandrel.__version__


@needs_spandrel
@KINDS
def test_windows_make_what_the_whole_makes(spandrel, tmp_path, kind):
    """Sides that fit no network's cells; far below a level of 8 bits even where cells of 64 pixels look around."""
    torch.manual_seed(3)
    restorer = load_restorer(saved(NETWORKS[kind][0](), tmp_path / "r.safetensors"), FLOAT32, window_px=64)
    values = tensor(photo(150, 203))
    restored = Restored(restorer, Kept(values))
    assert len(restored.windows()) > 1
    difference = restored.read(0, 0, restored.height, restored.width) - restorer.restore(values)
    assert difference.abs().max() * 255 < (0.2 if kind == SEES_FAR else 0.01)


@needs_spandrel
def test_windows_share_more_where_tiling_is_discouraged(spandrel, tmp_path):
    wide = load_restorer(saved(_swinir(), tmp_path / "wide.safetensors"), FLOAT32)
    usual = load_restorer(saved(_compact(), tmp_path / "usual.safetensors"), FLOAT32)
    assert (wide.overlap_px, usual.overlap_px) == (128, 64)


@needs_spandrel
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_a_pickle_of_weights_is_as_good(spandrel, tmp_path, suffix):
    network, values = _compact(), torch.rand(3, 20, 20)
    one, other = (load_restorer(saved(network, tmp_path / f"a{end}"), FLOAT32) for end in (suffix, ".safetensors"))
    assert torch.equal(one.restore(values), other.restore(values))
    assert one.identity["weights"] != other.identity["weights"]


@needs_spandrel
def test_a_network_without_colour_restores_each(spandrel, tmp_path):
    network = _compact(channels=1)
    restorer, values = load_restorer(saved(network, tmp_path / "grey.safetensors"), FLOAT32), torch.rand(3, 20, 20)
    with torch.no_grad():
        wanted = network(values[:, None])[:, 0].clamp(0, 1)
    assert restorer.channels == 1
    torch.testing.assert_close(restorer.restore(values), wanted, rtol=0, atol=1e-6)


@needs_spandrel
def test_photos_smaller_than_a_network_takes(spandrel, tmp_path):
    """SCUNet takes 40 pixels at least."""
    restorer = load_restorer(saved(_scunet(), tmp_path / "r.safetensors"), FLOAT32)
    bands = list(restorer.bands(photo(16, 17), 4.0, SilentProgress()))
    assert np.concatenate(bands).shape == (64, 68, 3)


@needs_spandrel
def test_half_precision_only_where_a_network_bears_it(spandrel, tmp_path, caplog):
    assert load_restorer(saved(_compact(), tmp_path / "a.safetensors"), FLOAT16).placement.dtype is torch.float16
    with caplog.at_level(logging.INFO):
        restorer = load_restorer(saved(_swinir(), tmp_path / "b.safetensors"), FLOAT16)
    assert restorer.placement.dtype is torch.float32
    assert "b.safetensors does not bear torch.float16" in caplog.text


@needs_spandrel
@KINDS
def test_half_precision_is_near(spandrel, tmp_path, kind):
    file, values = saved(NETWORKS[kind][0](), tmp_path / "r.safetensors"), tensor(photo(48, 56))
    exact, half = (load_restorer(file, Placement(torch.device("cpu"), t)) for t in (torch.float32, torch.bfloat16))
    difference = (half.restore(values) - exact.restore(values)).abs()
    assert half.identity["precision"] == "torch.bfloat16"
    assert 0 < difference.max() < 8 / 255
    assert difference.mean() < 1 / 255


@needs_spandrel
def test_an_overflow_is_no_white(spandrel, tmp_path, caplog):
    """spandrel clamps what a network makes, and infinity would come out of that as 1."""
    network = _compact()
    with torch.no_grad():
        network.body[-1].weight.mul_(1e8)
    exact, half = (load_restorer(saved(network, tmp_path / "a.safetensors"), place) for place in (FLOAT32, FLOAT16))
    values = torch.rand(3, 20, 20)
    wanted = exact.restore(values)
    assert not caplog.text
    assert torch.equal(half.restore(values), wanted)
    assert "restored again in float32" in caplog.text


@needs_spandrel
@pytest.mark.parametrize(
    ("purpose", "channels", "words"),
    [
        ("Inpainting", (3, 3), "what a mask hides"),
        ("FaceSR", (3, 3), "single faces"),
        ("SR", (4, 4), "4 channels of 4"),
    ],
)
def test_what_is_no_restorer_of_photos_is_refused(spandrel, tmp_path, monkeypatch, purpose, channels, words):
    class Other(spandrel.Architecture):
        def __init__(self):
            super().__init__(id="Other", detect=lambda weights: "other.weight" in weights)

        def load(self, state_dict):
            network = nn.Sequential()
            network.add_module("other", nn.Conv2d(channels[0], channels[1], 1))
            known = {"supports_half": True, "supports_bfloat16": True, "tags": [], "purpose": purpose}
            known |= dict(zip(("input_channels", "output_channels"), channels, strict=True))
            if purpose == "Inpainting":
                return spandrel.MaskedImageModelDescriptor(network, state_dict, self, **known)
            return spandrel.ImageModelDescriptor(network, state_dict, self, scale=1, **known)

    registry = spandrel.ArchRegistry()
    registry.add(spandrel.ArchSupport.from_architecture(Other()))
    monkeypatch.setattr(spandrel.ModelLoader.__init__, "__defaults__", (None, registry))
    file = tmp_path / "other.safetensors"
    save_file({"other.weight": torch.zeros(*channels, 1, 1), "other.bias": torch.zeros(channels[0])}, file)
    with refusal(WeightsError, file, words):
        load_restorer(file, FLOAT32)


@needs_spandrel
def test_four_channels_are_refused(spandrel, tmp_path):
    with refusal(WeightsError, "makes 4 channels of 4"):
        load_restorer(saved(_compact(channels=4), tmp_path / "a.safetensors"), FLOAT32)


@needs_spandrel
def test_weights_of_no_restorer_are_refused(spandrel, tmp_path):
    with refusal(WeightsError, "no architecture", spandrel.__version__):
        load_restorer(saved(nn.Linear(3, 3), tmp_path / "a.safetensors"), FLOAT32)


@needs_spandrel
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"what is this?", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(100)])
def test_files_that_hold_no_weights_are_refused(spandrel, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refusal(WeightsError, tmp_path / name):
        load_restorer(tmp_path / name, FLOAT32)


@needs_spandrel
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_a_file_is_refused(spandrel, tmp_path, suffix):
    file = saved(_compact(), tmp_path / f"a{suffix}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with refusal(WeightsError, file):
        load_restorer(file, FLOAT32)


class _Program:
    """What a pickle makes of this is a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@needs_spandrel
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_programs_are_not_run(spandrel, tmp_path, suffix, zipped):
    file, folder = tmp_path / f"a{suffix}", tmp_path / "made"
    torch.save({"params": _Program(folder)}, file, _use_new_zipfile_serialization=zipped)
    with refusal(WeightsError, file, "more than weights"):
        load_restorer(file, FLOAT32)
    assert not folder.exists()


@needs_spandrel
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_archives_of_torchscript_are_refused(spandrel, tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    torch.jit.trace(_compact(), torch.rand(1, 3, 8, 8)).save(file)
    with refusal(WeightsError, file):
        load_restorer(file, FLOAT32)


def test_files_that_are_not_there_or_of_another_kind_are_refused(tmp_path):
    with refusal(WeightsError, tmp_path / "a.pth", "is not there"):
        load_restorer(tmp_path / "a.pth", FLOAT32)
    with refusal(WeightsError, tmp_path, "no file"):
        load_restorer(tmp_path, FLOAT32)
    (tmp_path / "a.onnx").write_bytes(b"weights")
    with refusal(WeightsError, "a.onnx", ".safetensors"):
        load_restorer(tmp_path / "a.onnx", FLOAT32)


def test_without_spandrel_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingExtraError, match="needs? spandrel, which is not installed") as caught:
        load_restorer(tmp_path / "a.pth", FLOAT32)
    assert caught.value.hint == "Run: pip install 'xpsr[activators]'"


def test_a_spandrel_that_lacks_something_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "spandrel.py").write_text("import torchvision_of_another_torch\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="cannot be imported .*torchvision_of_another_torch"):
        load_restorer(tmp_path / "a.pth", FLOAT32)
