"""Fit what measured captions are chosen by: how likely a level of blur, noise or compression is, given the evidence.

    python benchmarks/fit_measured.py --photos FOLDER [--write]

Logistic regression on photos that xpsr-mini is trained on, degraded anew; those that its recipe holds out are left to
``benchmarks/measured.py``. ``--write`` replaces the coefficients in the package; raise the version of
``MEASURED_KEY`` with them.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
from degraded_photos import every_sample
from scipy.optimize import minimize
from scipy.special import log_softmax

from xpsr_cli.captioning.level_odds import FILE, Fit
from xpsr_cli.captioning.measures import measure_with_evidence
from xpsr_cli.photos.photo import Photo
from xpsr_cli.quality_words import BLUR, JPEG, NOISE, level_of
from xpsr_cli.training.dataset import TrainingPhoto, read_photos, split_photos
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.recipe import load_recipe

SHARES = {"light": 1.0, "xpsr": 1.0, "bicubic": 1.0, "noisy": 0.6, "camera": 1.5, "shrunk": 0.3}
"""How much each kind of photo counts."""
RIDGE = 5e-3
SEED = 1000
PHOTOS = 600
"""The first so many; in the order of names, further crops of the same photographs come after them."""
DIGITS = 4


def fit(values: np.ndarray, levels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(E, L) coefficients of logistic regression for (N, E) evidence and (N,) levels, the last row unpenalised."""
    right, penalty = np.eye(levels.max() + 1)[levels], np.full((values.shape[1], 1), RIDGE)
    penalty[-1] = 0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        of = flat.reshape(values.shape[1], -1)
        logs = log_softmax(values @ of, axis=1)
        slope = values.T @ (weights[:, None] * (np.exp(logs) - right)) + penalty * of
        return float((penalty * of**2).sum() / 2 - (weights * (logs * right).sum(axis=1)).sum()), slope.ravel()

    start = np.zeros(values.shape[1] * right.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return found.x.reshape(values.shape[1], -1)


def fit_all(evidence: np.ndarray, kinds: np.ndarray, truths: list[Degradation]) -> Fit:
    """The fit to (N, E) evidence of (N,) kinds of photos."""
    weights = np.zeros(len(kinds))
    for kind, share in SHARES.items():
        weights[kinds == kind] = share / max((kinds == kind).sum(), 1)
    weights /= weights.sum()
    camera = kinds == "camera"  # how sharp these are nobody knows, nor how they were saved before
    blur = np.array([BLUR.index(level_of(BLUR, truth.blur_px)) for truth in truths])
    noise = np.array([NOISE.index(level_of(NOISE, truth.noise)) for truth in truths])
    jpeg = np.array([JPEG.index(level_of(JPEG, truth.jpeg_quality)) for truth in truths])
    unfit = Fit(evidence.mean(axis=0), evidence.std(axis=0) + 0.05, *(np.empty(0),) * 3)
    values = unfit.standardized(evidence)
    return unfit._replace(
        blur=fit(values, np.where(camera, len(BLUR), blur), weights),
        noise=fit(values, noise, weights),
        jpeg=fit(values, jpeg, weights * ~camera),
    )


def collect(photos: list[TrainingPhoto], seed: int) -> tuple[np.ndarray, np.ndarray, list[Degradation]]:
    """(N, E) evidence, (N,) kinds and what was done, of all samples with anything to see in them."""
    evidence, kinds, truths = [], [], []
    for sample in every_sample(photos, seed):
        _, found = measure_with_evidence(Photo(sample.pixels))
        if found is not None:
            evidence.append(found)
            kinds.append(sample.kind)
            truths.append(sample.truth)
    return np.array(evidence), np.array(kinds), truths


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of large photos, as for training")
    parser.add_argument("--write", action="store_true", help="replace the coefficients in the package")
    options = parser.parse_args()

    photos, _ = split_photos(read_photos(options.photos), load_recipe("xpsr-mini"))
    evidence, kinds, truths = collect(photos[:PHOTOS], SEED)
    made = fit_all(evidence, kinds, truths)
    print(f"{len(kinds)} photos, {sum(of.size for of in made)} numbers")
    if options.write:
        Path(str(files("xpsr_cli.captioning").joinpath(FILE))).write_text(to_json(made), encoding="utf-8")


def to_json(made: Fit) -> str:
    """What the package reads: a line for each row of numbers."""
    tables = []
    for name, of in made._asdict().items():
        rows = _rounded(of) if of.ndim == 2 else [_rounded(of)]
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        tables.append(f'  "{name}": [\n{lines}\n  ]' if of.ndim == 2 else f'  "{name}":\n{lines}')
    return "{\n" + ",\n".join(tables) + "\n}\n"


def _rounded(numbers: np.ndarray) -> list:
    return [float(f"{value:.{DIGITS}g}") if np.isscalar(value) else _rounded(value) for value in numbers]


if __name__ == "__main__":
    main()
