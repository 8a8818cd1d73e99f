"""The prior that ships is whole, small, keeps to the picture, and does what its words say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli import weights
from xpsr_cli.device import choose_placement
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.prior_loading import load_prior
from xpsr_cli.exploring.priors import Request
from xpsr_cli.exploring.text_score import GUIDE, JUDGE
from xpsr_cli.settings import Precision
from xpsr_cli.training.detail_words import DETAIL_WORDS, DETAILED, SMOOTH
from xpsr_cli.weights import FileState

NAME = "xpsr-explore"
EXAMPLE = Path(__file__).parents[1] / "examples" / "photo.jpg"


@pytest.fixture(scope="module")
def prior():
    return load_prior(NAME, choose_placement("cpu", Precision.FP32))


@pytest.fixture(scope="module")
def small_01():
    picture = Image.open(EXAMPLE).convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)


def test_its_files_are_whole_and_small():
    entry = weights.entry_named(NAME)
    folder = weights.shipped_folder() / NAME
    assert weights.installed_folder(entry) == folder
    assert {check.state for check in weights.verify(entry, folder)} == {FileState.OK}
    assert entry.size <= 25e6


def test_it_says_which_words_it_knows(prior, xpsr):
    assert {*DETAIL_WORDS, "water", "building"} <= {*prior.vocabulary}
    assert weights.read_vocabulary(NAME) == list(prior.vocabulary)
    told = " ".join(xpsr("explore", "--help").out.split())
    assert all(word in told for word in prior.vocabulary)
    assert set(prior.scorers) == {GUIDE, JUDGE}


def test_words_decide_what_the_picture_leaves_open_and_nothing_else(prior, small_01):
    explorer = Explorer(prior)
    drawn = {
        word: [explorer.sample(small_01, (64, 64), Request(word, seed=seed)) for seed in (0, 1)]
        for word in (SMOOTH, DETAILED)
    }
    for sample in (*drawn[SMOOTH], *drawn[DETAILED]):
        assert sample.final_db >= 50
        assert sample.repair_rms <= 0.03
    for one, other in zip(drawn[SMOOTH], drawn[DETAILED], strict=True):
        assert smoothness(prior, one) > smoothness(prior, other) + 0.1
    rough = {word: np.mean([roughness(sample.pixels_u8) for sample in samples]) for word, samples in drawn.items()}
    assert rough[DETAILED] > 1.5 * rough[SMOOTH]


def smoothness(prior, sample):
    """How much better the judge finds that a picture fits the one word than the other."""
    smooth, detailed = prior.scorers[JUDGE].fit(sample.pixels_u8, [SMOOTH, DETAILED])
    return smooth - detailed


def roughness(pixels):
    """Mean difference between neighbours."""
    values = pixels.astype(np.float64)
    return np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean()


def test_the_refiner_goes_on_to_256_pixels(prior, small_01):
    larger = torch.nn.functional.interpolate(small_01[None], (64, 64), mode="bicubic", antialias=True)[0].clamp(0, 1)
    sample = Explorer(prior).sample(larger, (256, 256), Request(DETAILED))
    assert [stage.name for stage in sample.stages] == ["refiner"]
    assert sample.final_db >= 50
    assert sample.repair_rms <= 0.03
