"""Metrics that are trained networks, through the libraries that publish them, where the user has these.

LPIPS, DISTS, FID, MUSIQ, MANIQA and CLIPIQA are their weights, so a metric says its package and version, its settings
and the SHA-256 of every file of weights. One that cannot be computed here says why, and which command helps.
"""

# shapes: pictures are (H, W, 3) uint8; networks take (1, 3, H, W) float32, RGB, in [0, 1]

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from xpsr_cli.errors import PhotoError
from xpsr_cli.evaluation.learned_fid import FrechetDistance
from xpsr_cli.evaluation.learned_files import Home, MetricFile, no_network, usual_torch_home
from xpsr_cli.evaluation.learned_libraries import LIBRARIES, Library, Network, first_line, refusals
from xpsr_cli.evaluation.metric import Metric, MetricFacts, Sample
from xpsr_cli.evaluation.scores import Missing
from xpsr_cli.integrity import hash_file
from xpsr_cli.photos.photo import Pixels

if TYPE_CHECKING:
    import torch


class LearnedMetric:
    """A network that scores one picture at a time: what else is in a batch must not count."""

    def __init__(
        self, facts: MetricFacts, network: Network, device: torch.device, provenance: Mapping[str, str]
    ) -> None:
        self.facts = facts
        self._network = network
        self._device = device
        self._provenance = provenance
        self._lock = threading.Lock()  # networks of these libraries keep notes while they run

    def provenance(self) -> Mapping[str, str]:
        """Package, version, licence and settings, and the SHA-256 of every file of weights."""
        return self._provenance

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """One value for each sample.

        Raises:
            PhotoError: the network refuses a picture.
            OutOfMemoryError: the device's memory does not hold one.
        """
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> float:
        import torch

        photos = [sample.result]
        if "hr" in self.facts.needs:
            if sample.hr is None or sample.hr.shape != sample.result.shape:
                raise PhotoError(f"{sample.name} has no original of its own size.", "Check the folder of originals.")
            photos.append(sample.hr)
        with self._lock, refusals(self.facts.label, sample.name), torch.inference_mode():
            return float(self._network(*(as_tensor(photo, self._device) for photo in photos)))


def as_tensor(photo: Pixels, device: torch.device) -> torch.Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(photo.copy()).to(device).permute(2, 0, 1)[None].float() / 255


def make_learned(facts: MetricFacts, device: str = "auto", folder: Path | None = None) -> Metric | Missing:
    """The metric by the first library that can compute it here, or why none can.

    Args:
        facts: of a name in :data:`~xpsr_cli.evaluation.learned_libraries.LIBRARIES`.
        device: as for ``--device``.
        folder: where torch keeps what it fetches, in place of ``TORCH_HOME``.

    Raises:
        UsageError: a device that this machine does not have.
    """
    libraries = LIBRARIES[facts.name]
    installed = [library for library in libraries if find_spec(library.modules[0]) is not None]
    if not installed:
        *others, last = dict.fromkeys(library.distribution for library in libraries)
        least = libraries[-1]
        absent = f"neither {', '.join(others)} nor {last} is installed" if others else f"{last} is not installed"
        reason = f"{absent} ({least.distribution}: {least.licence})."
        return Missing(facts.name, reason, f"pip install {least.distribution}")
    unusable = []
    for library in installed:
        made = _opened(facts, library, device, folder)
        if not isinstance(made, Missing):
            return made
        unusable.append(made)
    return unusable[0]


def _opened(facts: MetricFacts, library: Library, device: str, folder: Path | None) -> Metric | Missing:
    """The metric by one library that is installed, or why it cannot compute it."""
    from xpsr_cli.device import choose_placement

    torch_home = folder or usual_torch_home()
    chosen = choose_placement(device).device
    try:
        with _quietly(torch_home):
            for module in library.modules:
                import_module(module)
    except ModuleNotFoundError as error:
        needed = (error.name or library.distribution).partition(".")[0]
        return Missing(facts.name, f"{library.distribution} needs {needed}.", f"pip install {needed}")
    except Exception as error:
        command = f"pip install --upgrade {library.distribution}"
        return Missing(facts.name, f"{library.distribution} cannot be imported: {first_line(error)}", command)
    found = _found_files(facts, library, torch_home)
    if isinstance(found, Missing):
        return found
    try:
        with _quietly(torch_home):
            network = library.load(chosen, list(found.values()))
    except Exception as error:
        command = f"pip install --upgrade {library.distribution}"
        return Missing(facts.name, f"{library.distribution} cannot load it: {first_line(error)}", command)
    kind = FrechetDistance if facts.whole_set else LearnedMetric
    return kind(facts, network, chosen, _provenance(library, found, chosen))


def _found_files(facts: MetricFacts, library: Library, torch_home: Path) -> dict[str, Path] | Missing:
    """The files of weights by name, or which one is not there or not the published one."""
    found: dict[str, Path] = {}
    for file in library.files:
        path = file.place(torch_home)
        if path is None or not path.is_file():
            return Missing(
                facts.name, f"Its weights are not here: {path or file.path}.", _fetch(library, file, torch_home)
            )
        if not file.is_intact(path):
            reason = f"{path} is damaged: its SHA-256 does not begin with {file.digits[:8]}. Delete it first."
            return Missing(facts.name, reason, _fetch(library, file, torch_home))
        found[file.name] = path
    return found


def _fetch(library: Library, file: MetricFile, torch_home: Path) -> str:
    """The command that gets a file of weights where it is looked for."""
    if file.home in (Home.PACKAGE, Home.PYTHON):
        return f"pip install --force-reinstall --no-deps {library.distribution}"
    command = library.fetch.replace("{path}", str(file.place(torch_home)))
    elsewhere = torch_home != usual_torch_home() and "{path}" not in library.fetch
    return f'TORCH_HOME="{torch_home}" {command}' if elsewhere else command


def _provenance(library: Library, files: Mapping[str, Path], device: torch.device) -> dict[str, str]:
    try:
        number = version(library.distribution)
    except PackageNotFoundError:
        number = "of unknown version"
    hashes = {f"SHA-256 of {name}": hash_file(path) for name, path in files.items()}
    package = {"package": f"{library.distribution} {number}", "licence": library.licence}
    return {**package, **library.settings, "device": device.type, **hashes}


@contextmanager
def _quietly(torch_home: Path) -> Iterator[None]:
    """Libraries print, warn and fetch while they are loaded; inside the block they do none of it."""
    import torch
    from huggingface_hub import constants

    hub, offline = torch.hub.get_dir(), constants.HF_HUB_OFFLINE
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings(), no_network():
        warnings.simplefilter("ignore")
        torch.hub.set_dir(str(torch_home / "hub"))
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            torch.hub.set_dir(hub)
            constants.HF_HUB_OFFLINE = offline
