"""Small photos of training pairs: one draw gives one photo in any company, and what was done to it is known."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from small_photos import refusal

from xpsr_cli.errors import UsageError
from xpsr_cli.training import degradation as d
from xpsr_cli.training.blur_kernels import Kernel
from xpsr_cli.training.degradation_steps import Blur, Jpeg, Noise, Resize, resize
from xpsr_cli.training.words import NEGATIVE_WORDS, low_prompt, negative_prompt

MIX = {"xpsr": 0.5, "light": 0.25, "bicubic": 0.25}


def picture(seed: int, width: int = 80, height: int = 80) -> torch.Tensor:
    """Soft coloured spots, (3, height, width) in [0, 1]."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return torch.from_numpy(np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))).permute(2, 0, 1) / 255


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.stack([picture(seed) for seed in range(8)])


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def one(photo: torch.Tensor, *steps) -> tuple[torch.Tensor, d.Degradation]:
    """What these steps make of one photo."""
    pairs = d.Degrader({"xpsr": 1.0})(photo[None], [d.Draw("xpsr", (steps,))])
    return pairs.small_01[0], pairs.drawn[0]


@pytest.mark.parametrize("sharpen", [False, True])
def test_a_sample_is_the_same_in_any_batch(photos: torch.Tensor, sharpen: bool) -> None:
    degrader = d.Degrader(MIX, sharpen=sharpen)
    draws = [degrader.draw([3, index]) for index in range(8)]
    assert {draw.preset for draw in draws} == set(MIX)
    batch = degrader(photos, draws)
    turned = degrader(photos.flip(0), draws[::-1])
    assert torch.equal(turned.small_01.flip(0), batch.small_01)
    assert turned.drawn[::-1] == batch.drawn
    for index in range(8):
        alone = degrader(photos[index : index + 1], [draws[index]])
        assert torch.equal(alone.small_01[0], batch.small_01[index])
        assert torch.equal(alone.target_01[0], batch.target_01[index])
        assert alone.drawn == [batch.drawn[index]]


def test_it_is_the_same_with_any_number_of_threads(threads) -> None:
    photos = torch.stack([picture(seed, 256, 256) for seed in range(4)])
    degrader = d.Degrader({"xpsr": 1.0}, sharpen=True)
    draws = [degrader.draw([index]) for index in range(4)]
    results = []
    for number in (1, 2, 3):
        threads(number)
        results.append(degrader(photos, draws))
    assert all(torch.equal(result.small_01, results[0].small_01) for result in results)
    assert all(torch.equal(result.target_01, results[0].target_01) for result in results)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_is_about_the_same_on_a_gpu(photos: torch.Tensor) -> None:
    degrader = d.Degrader(MIX, sharpen=True)
    draws = [degrader.draw([3, index]) for index in range(8)]
    here, there = degrader(photos, draws), degrader(photos.cuda(), draws)
    assert there.small_01.is_cuda
    assert (there.small_01.cpu() - here.small_01).abs().mean() < 1 / 255
    assert torch.allclose(there.target_01.cpu(), here.target_01, atol=1e-4)
    for gpu, cpu in zip(there.drawn, here.drawn, strict=True):
        assert (gpu.blur_px, gpu.jpeg_quality) == (cpu.blur_px, cpu.jpeg_quality)
        assert gpu.noise == pytest.approx(cpu.noise, rel=0.05, abs=0.05)


def test_draws_travel_between_processes() -> None:
    degrader = pickle.loads(pickle.dumps(d.Degrader(MIX)))
    for seed in range(20):
        draw = degrader.draw([seed, 7])
        assert pickle.loads(pickle.dumps(draw)) == draw == d.Degrader(MIX).draw([seed, 7])
        assert draw != degrader.draw([seed, 8])


def test_a_draw_does_not_depend_on_the_order_of_the_shares() -> None:
    turned = d.Degrader(dict(reversed(MIX.items())))
    assert all(turned.draw([seed]) == d.Degrader(MIX).draw([seed]) for seed in range(20))


@pytest.mark.parametrize("preset", d.PRESETS)
@pytest.mark.parametrize("size", [(4, 8), (64, 96), (126, 66)])
def test_small_photos_have_bytes_and_the_right_size(preset: str, size: tuple[int, int]) -> None:
    scale = 3 if size[0] % 4 else 4
    degrader = d.Degrader({preset: 1.0}, scale)
    for seed in range(5):
        small = degrader(picture(seed, *size)[None], [degrader.draw([seed])]).small_01
        assert small.shape == (1, 3, size[1] // scale, size[0] // scale)
        assert small.dtype == torch.float32
        assert torch.equal(small, (small * 255).round().clamp(0, 255) / 255)


def test_bicubic_is_that_of_pillow(photos: torch.Tensor) -> None:
    degrader = d.Degrader({"bicubic": 1.0})
    pairs = degrader(photos, [degrader.draw([index]) for index in range(8)])
    for photo, small in zip(photos, pairs.small_01, strict=True):
        image = Image.fromarray(d.to_u8(photo.permute(1, 2, 0).numpy())).resize((20, 20), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        assert (small - expected).abs().max() <= 1.01 / 255
        assert (small - expected).abs().mean() < 0.2 / 255  # Pillow rounds twice
    assert pairs.drawn == [d.Degradation()] * 8
    assert torch.equal(pairs.target_01, photos)


def test_sharpening_comes_first(photos: torch.Tensor) -> None:
    draws = [d.Degrader({"xpsr": 1.0}).draw([index]) for index in range(8)]
    sharpened = d.Degrader({"xpsr": 1.0}, sharpen=True)(photos, draws)
    assert not torch.equal(sharpened.target_01, photos)
    again = d.Degrader({"xpsr": 1.0})(sharpened.target_01, draws)
    assert torch.equal(again.small_01, sharpened.small_01)


def test_the_photos_are_left_as_they_were(photos: torch.Tensor) -> None:
    before, degrader = photos.clone(), d.Degrader(MIX, sharpen=True)
    degrader(photos, [degrader.draw([3, index]) for index in range(8)])
    assert torch.equal(photos, before)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"heavy": 1.0}, ("'heavy'", "xpsr, light, bicubic")),
        ({"light": 0.7}, ("0.7", "add up to 1")),
        ({"light": 1.5, "xpsr": -0.5}, ("-0.5", "add up to 1")),
        ({}, ("{}", "add up to 1")),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float], words: tuple[str, ...]) -> None:
    with refusal(UsageError, *words):
        d.Degrader(shares)


def test_sides_that_do_not_divide_are_refused() -> None:
    degrader = d.Degrader({"light": 1.0})
    with refusal(UsageError, "66 x 80 pixels", "multiples of 4"):
        degrader(picture(0, 66, 80)[None], [degrader.draw([0])])


def test_noise_is_known_as_it_stands_in_the_small_photo() -> None:
    grey = torch.full((3, 256, 256), 0.5)
    wide = Kernel("iso", 21, 1.5, 1.5)
    small = Resize("area", "keep", 1.0, of_small=True)
    half = Resize("area", "down", 0.5, of_small=False)
    for steps in (
        (small, Noise("gaussian", 12, False, 1)),
        (small, Noise("poisson", 1.5, True, 2)),
        (Noise("gaussian", 30, False, 3), small),
        (small, Noise("gaussian", 40, False, 4), Blur(wide), Noise("gaussian", 4, True, 5)),
        (Noise("poisson", 3, False, 6), half, Noise("gaussian", 10, False, 7), small),
    ):
        result, done = one(grey, *steps)
        assert done.noise == pytest.approx(float(result.std()) * 255, rel=0.2)


def test_poisson_noise_grows_with_the_light() -> None:
    dark, bright = torch.full((3, 64, 64), 0.1), torch.full((3, 64, 64), 0.4)
    noise = [
        one(photo, Resize("area", "keep", 1.0, True), Noise("poisson", 1.0, False, 1))[1].noise
        for photo in (dark, bright)
    ]
    assert noise == pytest.approx([255 * (0.1 / 256) ** 0.5, 255 * (0.4 / 256) ** 0.5], rel=0.1)


def test_grey_noise_has_no_colour() -> None:
    flat = torch.full((3, 64, 64), 0.5)
    for kind, strength in (("gaussian", 9.0), ("poisson", 1.0)):
        steps = [(Resize("area", "keep", 1.0, True), Noise(kind, strength, grey, 1)) for grey in (True, False)]
        (grey, _), (colour, _) = (one(flat, *pair) for pair in steps)
        assert (grey.std(dim=0) == 0).all()
        assert colour.std(dim=0).mean() > 2 / 255


def test_blur_is_known_in_pixels_of_the_large_photo() -> None:
    photo = picture(0, 128, 128)
    gaussian, small = Blur(Kernel("aniso", 21, 2.0, 1.0, 0.3)), Resize("area", "keep", 1.0, True)
    half = Resize("area", "down", 0.5, False)
    assert one(photo, small)[1].blur_px == 0
    assert one(photo, gaussian, small)[1].blur_px == pytest.approx(2**0.5, rel=0.01)
    assert one(photo, small, gaussian)[1].blur_px == pytest.approx(4 * 2**0.5, rel=0.01)
    assert one(photo, half, small)[1].blur_px == pytest.approx(1.0)
    assert one(photo, half, gaussian, small)[1].blur_px == pytest.approx((1 + 8) ** 0.5, rel=0.01)


def test_the_lowest_jpeg_quality_is_known() -> None:
    photo, small = picture(0, 128, 128), Resize("area", "keep", 1.0, True)
    result, done = one(photo, Jpeg(80.2), small, Jpeg(60.7))
    assert done.jpeg_quality == 61
    assert one(photo, Jpeg(40), small, Jpeg(90))[1].jpeg_quality == 40
    assert not torch.equal(result, one(photo, small)[0])


def test_the_small_photo_shows_the_large_one() -> None:
    photo, degrader = picture(1), d.Degrader({"light": 1.0})
    reduced = resize(photo, (20, 20), "bicubic", antialias=True)
    for seed in range(10):
        small = degrader(photo[None], [degrader.draw([seed])]).small_01[0]
        assert np.corrcoef(small.flatten(), reduced.flatten())[0, 1] > 0.6


def test_flat_photos_stay_flat() -> None:
    flat = np.full((40, 40, 3), 0.4, dtype=np.float32)
    assert d.blur(flat, d.gaussian_kernel(2, 1, 0.3)) == pytest.approx(flat, abs=1e-5)


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
