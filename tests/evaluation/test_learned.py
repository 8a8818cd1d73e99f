"""Learned metrics: what is said when they cannot be computed, and what is handed to a library that is there.

The libraries are other people's and need gigabytes, so packages that write down how they were called stand in for
them; files of weights are real files, with hashes of their own.
"""

import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import scipy.linalg

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.learned import LearnedMetric, make_learned
from xpsr_cli.evaluation.learned_fid import FrechetDistance, frechet_distance, reduced
from xpsr_cli.evaluation.learned_files import Home, MetricFile, no_network, usual_torch_home
from xpsr_cli.evaluation.learned_libraries import LIBRARIES
from xpsr_cli.evaluation.metric import Metric, Sample
from xpsr_cli.evaluation.metrics import FACTS, make_metrics
from xpsr_cli.evaluation.scores import Missing

LEARNED = ["lpips", "dists", "fid", "musiq", "maniqa-koniq", "maniqa-pipal", "clipiqa"]


class Shelf:
    """A folder of packages that can be imported, and one of weights."""

    def __init__(self, packages: Path, torch_home: Path) -> None:
        self.packages = packages
        self.torch_home = torch_home

    def add_package(self, name: str, source: str, version: str | None = None, distribution: str = "") -> None:
        module = self.packages.joinpath(*name.split(".")).with_suffix(".py")
        if (folder := module.with_suffix("")).is_dir():
            module = folder / "__init__.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(dedent(source))
        if version:
            about = self.packages / f"{(distribution or name).replace('-', '_')}-{version}.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Name: {distribution or name}\nVersion: {version}\n")

    def add_weights(self, path: str, content: bytes = b"weights") -> str:
        file = self.torch_home / "hub" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def calls(self) -> list[dict]:
        return [json.loads(line) for line in (self.packages / "calls.jsonl").read_text().splitlines()]


WRITES_DOWN = """
import json, pathlib
NOTES = pathlib.Path(__file__).parent / "calls.jsonl"
def note(**values):
    with NOTES.open("a") as file:
        file.write(json.dumps(values) + "\\n")
def seen(x):
    return {"shape": list(x.shape), "low": float(x.min()), "high": float(x.max()), "red": float(x[0, 0, 0, 0])}
"""

PYIQA = """
import torch
from notes import note, seen
print("Welcome")
class Metric:
    def __init__(self, name): self.name = name
    def __call__(self, *photos):
        note(metric=self.name, photos=[seen(photo) for photo in photos], grad=torch.is_grad_enabled())
        return photos[0].mean().reshape(1, 1)
def create_metric(name, device=None):
    print("Loading pretrained model")
    note(created=name, device=str(device), hub=torch.hub.get_dir())
    return Metric(name)
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf(tmp_path / "packages", tmp_path / "torch")
    made.packages.mkdir()
    made.add_package("notes", WRITES_DOWN)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(made.packages))
    yield made
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if path.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def any_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of weights may have any hash, and those in folders of packages and of Python need not be there."""
    for name, libraries in list(LIBRARIES.items()):
        lenient = tuple(
            replace(library, files=tuple(replace(f, digits="") for f in library.files if f.home is Home.TORCH))
            for library in libraries
        )
        monkeypatch.setitem(LIBRARIES, name, lenient)


def make(name: str, shelf: Shelf, device: str = "cpu") -> Metric | Missing:
    return make_learned(FACTS[name], device, shelf.torch_home)


def photos() -> tuple[np.ndarray, np.ndarray]:
    """Two photos; the first pixels are (255, 0, 0) and (51, 0, 0)."""
    result, original = np.zeros((2, 40, 30, 3), np.uint8)
    result[0, 0, 0], original[0, 0, 0] = 255, 51
    return result, original


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpsr_cli.evaluation.learned.find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("name", LEARNED)
def test_without_the_libraries_each_is_missing_with_the_command_that_helps(name: str) -> None:
    metrics, missing = make_metrics([name], ["osediff"], scale=4)
    assert metrics == []
    assert [lack.name for lack in missing] == [name]
    assert re.search(r"(is not|neither .* nor .* is) installed", missing[0].reason)
    assert missing[0].command == f"pip install {LIBRARIES[name][-1].distribution}"


@pytest.mark.usefixtures("nothing_installed")
def test_a_licence_that_forbids_commercial_use_is_said_before_it_is_installed() -> None:
    _, (missing,) = make_metrics(["musiq"], ["osediff"], scale=4)
    assert "Noncommercial" in missing.reason


def test_weights_that_are_not_here_are_named_with_the_command_that_gets_them(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    missing = make("musiq", shelf)
    assert isinstance(missing, Missing)
    assert str(shelf.torch_home / "hub" / "pyiqa" / "musiq_koniq_ckpt-e95806b9.pth") in missing.reason
    command = (
        f"TORCH_HOME=\"{shelf.torch_home}\" python -c \"import pyiqa; pyiqa.create_metric('musiq', device='cpu')\""
    )
    assert missing.command == command
    assert not (shelf.packages / "calls.jsonl").exists()  # the library would have fetched them


def test_the_command_is_plain_for_the_usual_folder(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    monkeypatch.setenv("TORCH_HOME", str(shelf.torch_home))
    missing = make_learned(FACTS["musiq"], "cpu")
    assert isinstance(missing, Missing)
    assert missing.command.startswith("python -c")


def test_damaged_weights_are_refused(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    shelf.add_weights("pyiqa/musiq_koniq_ckpt-e95806b9.pth", b"half of it")
    missing = make("musiq", shelf)
    assert isinstance(missing, Missing)
    assert "musiq_koniq_ckpt-e95806b9.pth is damaged" in missing.reason


@pytest.mark.usefixtures("any_content")
def test_pyiqa_is_given_rgb_from_0_to_1_and_nothing_it_prints_is_seen(shelf: Shelf, capsys) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    digest = shelf.add_weights("pyiqa/musiq_koniq_ckpt-e95806b9.pth")
    metric = make("musiq", shelf)
    assert isinstance(metric, LearnedMetric)
    result, original = photos()
    (score,) = metric.score([Sample("a", result, original)])
    assert score == pytest.approx(1 / result.size)
    created, called = shelf.calls()
    assert created == {"created": "musiq", "device": "cpu", "hub": str(shelf.torch_home / "hub")}
    seen = {"shape": [1, 3, 40, 30], "low": 0.0, "high": 1.0, "red": 1.0}
    assert called == {"metric": "musiq", "photos": [seen], "grad": False}
    provenance = metric.provenance()
    assert provenance["package"] == "pyiqa 0.1.16"
    assert provenance["licence"] == "PolyForm Noncommercial 1.0"
    assert provenance["SHA-256 of musiq_koniq_ckpt-e95806b9.pth"] == digest
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("any_content")
def test_a_metric_that_compares_is_given_the_result_and_then_the_original(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    for path in ("pyiqa/DISTS_weights-f5e65c96.pth", "checkpoints/vgg16-397923af.pth"):
        shelf.add_weights(path)
    metric = make("dists", shelf)
    assert isinstance(metric, LearnedMetric)
    result, original = photos()
    metric.score([Sample("a", result, original), Sample("b", original, result)])
    reds = [[photo["red"] for photo in call["photos"]] for call in shelf.calls()[1:]]
    assert reds == [[1.0, pytest.approx(0.2)], [pytest.approx(0.2), 1.0]]  # one picture at a time
    with pytest.raises(PhotoError, match="b has no original"):
        metric.score([Sample("b", result)])


@pytest.mark.usefixtures("any_content")
def test_both_maniqas_are_told_apart(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    shelf.add_weights("pyiqa/ckpt_koniq10k.pt", b"koniq")
    shelf.add_weights("pyiqa/MANIQA_PIPAL-ae6d356b.pth", b"pipal")
    metrics = [make(name, shelf) for name in ("maniqa-koniq", "maniqa-pipal")]
    assert [call["created"] for call in shelf.calls()] == ["maniqa", "maniqa-pipal"]
    trained_on = [metric.provenance()["trained_on"] for metric in metrics if isinstance(metric, LearnedMetric)]
    assert trained_on == ["KonIQ-10k, scale 0.8", "PIPAL"]


LPIPS = """
import torch
from notes import note, seen
class LPIPS(torch.nn.Module):
    def __init__(self, net, version, verbose):
        super().__init__()
        note(net=net, version=version, verbose=verbose)
    def forward(self, a, b):
        note(photos=[seen(a), seen(b)])
        return (a - b).abs().mean().reshape(1, 1, 1, 1)
"""


@pytest.mark.usefixtures("any_content")
def test_lpips_is_given_minus_1_to_1(shelf: Shelf) -> None:
    shelf.add_package("lpips", LPIPS, "0.1.4")
    shelf.add_weights("checkpoints/alexnet-owt-7be5be79.pth")
    metric = make("lpips", shelf)
    assert isinstance(metric, LearnedMetric)
    assert metric.provenance()["package"] == "lpips 0.1.4"
    metric.score([Sample("a", *photos())])
    created, called = shelf.calls()
    assert created == {"net": "alex", "version": "0.1", "verbose": False}
    assert [(photo["low"], photo["red"]) for photo in called["photos"]] == [(-1.0, 1.0), (-1.0, pytest.approx(-0.6))]


@pytest.mark.usefixtures("any_content")
def test_a_library_that_does_not_work_leaves_it_to_the_next(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", "import a_package_that_nobody_has")
    shelf.add_package("lpips", LPIPS, "0.1.4")
    shelf.add_weights("checkpoints/alexnet-owt-7be5be79.pth")
    assert isinstance(make("lpips", shelf), LearnedMetric)
    missing = make("musiq", shelf)
    assert missing == Missing(
        "musiq", "pyiqa needs a_package_that_nobody_has.", "pip install a_package_that_nobody_has"
    )


def test_a_package_that_breaks_when_it_is_imported_is_missing(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", "raise RuntimeError('operator torchvision::nms does not exist\\nand more')")
    missing = make("clipiqa", shelf)
    assert isinstance(missing, Missing)
    assert missing.reason == "pyiqa cannot be imported: operator torchvision::nms does not exist."


@pytest.mark.usefixtures("any_content")
def test_a_library_that_would_fetch_something_is_refused(shelf: Shelf) -> None:
    source = """
    from urllib.request import urlopen
    def create_metric(name, device=None):
        return urlopen("https://weights.example/file.pth")
    """
    shelf.add_package("pyiqa", source, "0.1.16")
    shelf.add_weights("clip/RN50.pt")
    missing = make("clipiqa", shelf)
    assert isinstance(missing, Missing)
    assert "nothing is fetched from weights.example" in missing.reason


def test_looking_up_servers_works_again_afterwards() -> None:
    import socket

    before = socket.getaddrinfo
    with pytest.raises(OSError, match="without being asked for"), no_network():
        socket.getaddrinfo("localhost", 80)
    assert socket.getaddrinfo is before


@pytest.mark.usefixtures("any_content")
def test_a_photo_that_a_network_refuses_is_named(shelf: Shelf) -> None:
    source = """
    def create_metric(name, device=None):
        def refuse(photo):
            raise AssertionError("the crop of 224 pixels does not fit\\nTraceback")
        return refuse
    """
    shelf.add_package("pyiqa", source, "0.1.16")
    shelf.add_weights("pyiqa/ckpt_koniq10k.pt")
    metric = make("maniqa-koniq", shelf)
    assert isinstance(metric, LearnedMetric)
    with pytest.raises(PhotoError, match=r"of small.png cannot be computed: the crop of 224 pixels does not fit\.$"):
        metric.score([Sample("small.png", photos()[0])])


def test_a_device_that_is_not_there_is_refused(shelf: Shelf) -> None:
    shelf.add_package("pyiqa", PYIQA, "0.1.16")
    with pytest.raises(UsageError, match="abacus"):
        make("musiq", shelf, device="abacus")


CLEAN_FID = """
import torch
from notes import note
class InceptionV3W(torch.nn.Module):
    def __init__(self, path, download=True, resize_inside=False):
        super().__init__()
        note(path=path, download=download, resize_inside=resize_inside)
    def forward(self, x):
        note(shape=list(x.shape), high=float(x.max()))
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).reshape(len(x), 12)
"""


@pytest.mark.usefixtures("any_content")
def test_fid_is_one_value_of_clean_features(shelf: Shelf) -> None:
    shelf.packages.joinpath("cleanfid").mkdir()
    shelf.add_package("cleanfid", "", "0.1.35", "clean-fid")
    shelf.add_package("cleanfid.inception_torchscript", CLEAN_FID)
    shelf.add_weights("checkpoints/inception-2015-12-05.pt")
    metric = make("fid", shelf)
    assert isinstance(metric, FrechetDistance)
    assert metric.provenance()["package"] == "clean-fid 0.1.35"
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (5, 60, 50, 3), dtype=np.uint8)
    results = originals // 2
    pairs = [Sample(str(n), *pair) for n, pair in enumerate(zip(results, originals, strict=True))]
    (distance,) = metric.score(pairs)
    (itself,) = metric.score([replace(pair, result=pair.hr) for pair in pairs])
    assert distance > 100
    assert itself == pytest.approx(0, abs=1e-6)
    created, *calls = shelf.calls()
    folder = str(shelf.torch_home / "hub" / "checkpoints")
    assert created == {"path": folder, "download": False, "resize_inside": False}
    assert {tuple(call["shape"]) for call in calls} == {(1, 3, 299, 299)}
    assert len(calls) == 15  # the originals are looked at once
    assert np.isnan(metric.score(pairs[:1])[0])


def test_the_weights_of_clean_fid_come_with_one_command(shelf: Shelf) -> None:
    shelf.packages.joinpath("cleanfid").mkdir()
    shelf.add_package("cleanfid", "", "0.1.35", "clean-fid")
    shelf.add_package("cleanfid.inception_torchscript", CLEAN_FID)
    missing = make("fid", shelf)
    assert isinstance(missing, Missing)
    path = shelf.torch_home / "hub" / "checkpoints" / "inception-2015-12-05.pt"
    assert missing.command.startswith(f'curl -L --create-dirs -o "{path}" https://')


def test_the_frechet_distance_is_that_of_the_covariances() -> None:
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(6, 6))
    a, b = rng.normal(size=(60, 6)) @ mixing, rng.normal(1, 2, size=(50, 6))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    few = a[:4]
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)  # a covariance without full rank


def test_photos_are_reduced_for_fid_without_rounding_and_within_range() -> None:
    photo = np.random.default_rng(0).integers(0, 2, (400, 350, 3)).astype(np.uint8) * 255
    small = reduced(photo)
    assert small.shape == (299, 299, 3)
    assert small.dtype == np.float32
    assert small.min() == 0
    assert small.max() == 255
    assert np.any(small != np.round(small))


def test_where_files_of_weights_belong(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(shelf.torch_home))
    assert usual_torch_home() == shelf.torch_home
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(shelf.torch_home.parent))
    assert usual_torch_home() == shelf.torch_home.parent / "torch"
    shelf.packages.joinpath("lpips").mkdir()
    shelf.add_package("lpips", "")
    in_package = MetricFile(Home.PACKAGE, "lpips/weights/v0.1/alex.pth")
    assert in_package.place(shelf.torch_home) == shelf.packages / "lpips" / "weights" / "v0.1" / "alex.pth"
    assert MetricFile(Home.PACKAGE, "no_such_package/a.pth").place(shelf.torch_home) is None
    assert MetricFile(Home.PYTHON, "weights.pt").place(shelf.torch_home) == Path(sys.prefix) / "weights.pt"
    assert MetricFile(Home.HUGGING_FACE, "timm/some_model/model.safetensors").place(shelf.torch_home) is None
