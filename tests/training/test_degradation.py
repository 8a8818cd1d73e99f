"""The degradations: seeded, bounded, and doing what their words say."""

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.training import degradation as d
from xpsr_cli.training.words import NEGATIVE_WORDS, low_prompt, negative_prompt


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((80, 80), Image.Resampling.BICUBIC), dtype=np.float32) / 255


@pytest.mark.parametrize("second_order", [0.0, 1.0])
def test_one_seed_one_small_photo(photo: np.ndarray, second_order: float) -> None:
    def make(seed: int) -> np.ndarray:
        return d.degrade(photo, np.random.default_rng(seed), second_order_probability=second_order)[0]

    assert make(5).shape == (20, 20, 3)
    assert make(5).dtype == np.uint8
    assert np.array_equal(make(5), make(5))
    assert not np.array_equal(make(5), make(6))


def test_the_small_photo_shows_the_large_one(photo: np.ndarray) -> None:
    reduced = d.to_u8(d.resize(photo, 20, 20, "bicubic")).astype(float)
    for seed in range(10):
        small, _ = d.degrade(photo, np.random.default_rng(seed), second_order_probability=0.0)
        assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.6


def test_kernels_sum_to_one_and_keep_a_flat_photo_flat() -> None:
    flat = np.full((40, 40, 3), 0.4, dtype=np.float32)
    for kernel in (d.gaussian_kernel(2, 1, 0.3), d.gaussian_kernel(1, 1, 0, shape=0.8), d.sinc_kernel(1.5)):
        assert kernel.shape == (21, 21)
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert d.blur(flat, kernel) == pytest.approx(flat, abs=1e-5)


def test_gaussian_kernel_has_the_spread_it_says() -> None:
    kernel = d.gaussian_kernel(2.0, 1.0, 0.0)
    span = np.arange(21) - 10
    assert (kernel.sum(axis=0) * span**2).sum() == pytest.approx(4.0, abs=0.05)  # along x
    assert (kernel.sum(axis=1) * span**2).sum() == pytest.approx(1.0, abs=0.05)  # along y


def test_what_was_drawn_is_known(photo: np.ndarray) -> None:
    drawn = [d.degrade(photo, np.random.default_rng(seed), second_order_probability=1.0)[1] for seed in range(20)]
    light = [d.degrade(photo, np.random.default_rng(seed), second_order_probability=0.0)[1] for seed in range(20)]
    assert all(30 <= item.jpeg_quality <= 95 for item in drawn)
    assert np.mean([item.noise for item in drawn]) > np.mean([item.noise for item in light])


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (d.Degradation(0.5, 0.2, 100), [("sharp", "crisp", "in focus"), ("no compression", "uncompressed")]),
        (d.Degradation(3.0, 20.0, 40), [("very blurred", "strongly blurred", "heavy blur"), ("strong compression",
                                        "heavy JPEG artifacts", "blocky")]),
    ],
)  # fmt: skip
def test_low_prompt_says_what_happened(drawn: d.Degradation, words: list[tuple[str, ...]]) -> None:
    for seed in range(8):
        prompt = low_prompt(drawn, np.random.default_rng(seed))
        assert len(prompt.split(", ")) == 3
        assert all(any(word in prompt.split(", ") for word in choice) for choice in words)


def test_negative_prompt_uses_the_published_words() -> None:
    prompt = negative_prompt(np.random.default_rng(0))
    assert set(prompt.rstrip(".").split(", ")) <= set(NEGATIVE_WORDS)
