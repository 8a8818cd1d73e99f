"""Each measure follows the degradation it is for, whatever the picture, and finds about its amount."""

import numpy as np
import pytest
import torch
from measured_pictures import blurred, compressed, dead_leaves, enlarged, noisy, page_of_text, to_bytes
from PIL import Image
from scipy.stats import spearmanr

from xpsr_cli.captioning.jpeg_quality import file_table, quality_of, quantisation
from xpsr_cli.captioning.measured import MeasuredCaptioner
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import open_photo
from xpsr_cli.quality_words import NOISE, level_of
from xpsr_cli.training.degradation import Degrader

PICTURES = [(dead_leaves, 0), (dead_leaves, 1), (dead_leaves, 2), (page_of_text, 3)]


@pytest.fixture(params=PICTURES, ids=lambda made: f"{made[0].__name__}-{made[1]}", scope="module")
def picture(request):
    """A sharp clean picture."""
    make, seed = request.param
    return make(384, 320, seed)


@pytest.fixture(scope="module")
def leaves():
    """Many dead leaves."""
    return dead_leaves(512, 384, 9)


def look(pixels):
    """All measurements."""
    return MeasuredCaptioner().look(Photo(pixels))


def rises(values, least=0.0):
    """Whether each value is above the one before by more than ``least``."""
    return bool((np.diff(values) > least).all())


@pytest.mark.parametrize("noise", [0, 3])
def test_blur_is_followed(picture, noise):
    measured = [look(noisy(blurred(picture, sigma), noise)).sigma_px for sigma in (0, 0.5, 0.8, 1.2, 2, 3)]
    assert rises(measured, 0.02)
    assert measured[2] == pytest.approx(0.8, abs=0.25)


def test_blur_is_found_through_jpeg(picture):
    assert rises([look(compressed(blurred(picture, sigma), 85)).sigma_px for sigma in (0, 0.6, 1.0, 1.6)], 0.05)


def test_enlarging_is_blur(picture):
    assert rises([look(enlarged(picture, factor)).sigma_px for factor in (1, 1.5, 2, 3)], 0.05)


@pytest.mark.parametrize("grey", [False, True])
def test_noise_is_measured(picture, grey):
    sigmas = (0, 1, 2, 4, 8, 16, 25)
    measured = [look(noisy(picture, sigma, seed, grey)).noise for seed, sigma in enumerate(sigmas)]
    assert rises(measured)
    assert measured == pytest.approx(sigmas, rel=0.2, abs=0.3)


def test_noise_is_measured_in_blurred_pictures(picture):
    measured = [look(noisy(blurred(picture, 1.5), sigma)).noise for sigma in (1, 5, 12)]
    assert measured == pytest.approx([1, 5, 12], rel=0.15)


@pytest.mark.parametrize("quality", [95, 85, 70])
def test_noise_is_found_through_jpeg(picture, quality):
    measured = [look(compressed(noisy(picture, sigma), quality)).noise for sigma in (0, 6, 12, 24)]
    assert rises(measured, 0.5)
    assert level_of(NOISE, measured[-1]).words[0] == "heavy noise"


def test_noise_that_depends_on_brightness_is_noise(leaves):
    generator = np.random.default_rng(0)
    measured = []
    for photons in (2000, 400, 80):
        grainy = generator.poisson(leaves / 255 * photons) / photons * 255
        measured.append(look(to_bytes(grainy)).noise)
        assert measured[-1] == pytest.approx((grainy - leaves).std(), rel=0.35)
    assert rises(measured)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_the_quality_of_a_former_jpeg_is_found(picture, options):
    qualities = [20, 45, 60, 75, 85, 92, 97]
    measured = [look(compressed(picture, quality, **options)).jpeg_quality for quality in qualities]
    assert measured == pytest.approx(qualities, abs=1)
    assert look(picture).jpeg_quality == 100


@pytest.mark.parametrize("cut", [(0, 3), (5, 0), (7, 6)])
def test_it_is_found_wherever_the_blocks_lie(leaves, cut):
    down, right = cut
    assert look(compressed(leaves, 60)[down:, right:]).jpeg_quality == 60


def test_it_is_found_in_turned_photos(leaves):
    turned = np.rot90(compressed(leaves[:-4, :-3], 70)).copy()
    assert look(turned).jpeg_quality == pytest.approx(70, abs=3)


@pytest.mark.parametrize(("first", "second"), [(50, 90), (75, 95), (90, 60)])
def test_the_lower_of_two_qualities_counts(leaves, first, second):
    assert look(compressed(compressed(leaves, first), second)).jpeg_quality == pytest.approx(min(first, second), abs=1)


def test_blocks_are_seen_after_brightness_was_changed(leaves):
    measured = [look(to_bytes(compressed(leaves, quality) * 1.07 + 3)).jpeg_quality for quality in (30, 60, 100)]
    assert measured[0] <= measured[1] < 80
    assert measured[2] == 100


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_leaves_no_blocks(leaves, factor):
    small = compressed(leaves[:160, :200], 95)
    assert look(enlarged(small, factor)).jpeg_quality == 100
    assert look(small.repeat(factor, axis=0).repeat(factor, axis=1)).jpeg_quality == 100


def test_a_jpeg_file_tells_its_quality(tmp_path):
    smooth = np.linspace(100, 140, 64).astype(np.uint8).repeat(64 * 3).reshape(64, 64, 3)
    for quality in (30, 80, 96):
        for name, options in (("a.jpg", {}), ("a.png", {})):
            Image.fromarray(smooth).save(tmp_path / name, quality=quality, **options)
        with open_photo(tmp_path / "a.jpg") as jpeg, open_photo(tmp_path / "a.png") as png:
            assert MeasuredCaptioner().look(jpeg).jpeg_quality == quality
            assert MeasuredCaptioner().look(png).jpeg_quality == 100
    assert file_table(tmp_path / "a.png") is None
    assert file_table(tmp_path / "gone.jpg") is None
    assert file_table(None) is None


def test_steps_of_a_camera_are_compared_by_size(leaves, tmp_path):
    steps = [max(1, round(0.3 * step)) for step in np.random.default_rng(0).permutation(quantisation(50)).tolist()]
    Image.fromarray(leaves).save(tmp_path / "camera.jpg", qtables=[steps, steps])
    with open_photo(tmp_path / "camera.jpg") as photo:
        measured = MeasuredCaptioner().look(photo)
    assert measured.jpeg_quality == quality_of(np.array(steps, np.float32)) == pytest.approx(85, abs=4)


def test_every_quality_is_told_from_its_steps(tmp_path):
    for quality in range(1, 101):
        Image.new("L", (8, 8)).save(tmp_path / "q.jpg", quality=quality)
        assert np.array_equal(file_table(tmp_path / "q.jpg"), quantisation(quality))
        assert quality_of(quantisation(quality)) <= quality
        assert np.array_equal(quantisation(quality_of(quantisation(quality))), quantisation(quality))


def test_measures_agree_with_what_training_pairs_were_told(leaves):
    generator, degrader = np.random.default_rng(0), Degrader({"light": 1.0})
    measured, true = [], []
    for index in range(30):
        source = dead_leaves(512, 512, int(generator.integers(2**31)), count=400).astype(np.float32) / 255
        pair = degrader(torch.from_numpy(source).permute(2, 0, 1)[None], [degrader.draw([index])])
        found, drawn = look(to_bytes(pair.small_01[0].permute(1, 2, 0).numpy() * 255)), pair.drawn[0]
        measured.append((found.blur_px, found.noise, found.jpeg_quality))
        true.append((drawn.blur_px, drawn.noise, drawn.jpeg_quality))
    ranks = [spearmanr(*pair).statistic for pair in zip(np.transpose(measured), np.transpose(true), strict=True)]
    assert ranks[0] > 0.6
    assert ranks[1] > 0.8
    assert ranks[2] > 0.95
