"""The small picture as it is read, and the size of its answers."""

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.given import large_size, read_given, remarks, scale_of
from xpsr_cli.exploring.options import ResizeFilter
from xpsr_cli.photos.photo import Photo, PhotoInfo


def given(tmp_path, alpha=None, dtype=np.uint8, **how):
    pixels = np.random.default_rng(0).integers(0, 250, (16, 20, 3)).astype(dtype)
    file = tmp_path / "tiny.png"
    Image.fromarray(pixels.astype(np.uint8)).save(file)
    return read_given(Photo(pixels, alpha, name="tiny.png", **how), file), pixels


def test_it_is_read_as_it_is(tmp_path):
    made, pixels = given(tmp_path)
    assert made.size == (16, 20)
    assert made.colour_01.shape == (3, 16, 20)
    assert np.array_equal(made.pixels, pixels)
    assert made.large_alpha((32, 40), ResizeFilter.BICUBIC) is None
    assert remarks(made) == []


@pytest.mark.parametrize("operator", list(ResizeFilter))
def test_transparency_is_enlarged(tmp_path, operator):
    alpha = np.zeros((16, 20), np.uint8)
    alpha[:, 10:] = 255
    made, _ = given(tmp_path, alpha)
    large = made.large_alpha((48, 60), operator)
    assert (large.shape, large.dtype) == ((48, 60), np.uint8)
    assert (large[:, :20] == 0).all()
    assert (large[:, 40:] == 255).all()
    assert remarks(made) == [
        "the picture is transparent in places: answers are drawn without regard to it, and are too"
    ]


def test_an_alpha_channel_that_is_opaque_everywhere_is_none(tmp_path):
    made, _ = given(tmp_path, np.full((16, 20), 255, np.uint8))
    assert made.alpha is None
    assert remarks(made) == []


def test_what_answers_do_not_keep_is_said(tmp_path):
    assert "16-bit" in remarks(given(tmp_path, dtype=np.uint16)[0])[0]
    assert "grey" in remarks(given(tmp_path, grey=True)[0])[0]
    assert "CMYK" in remarks(given(tmp_path, cmyk=True)[0])[0]


@pytest.mark.parametrize(("scale", "size"), [(2, (24, 34)), (3.1, (37, 53)), (32, (384, 544))])
def test_sizes_are_rounded(scale, size):
    info = PhotoInfo(17, 12)
    assert large_size(info, scale, None) == size
    assert large_size(info, scale, PhotoInfo(size[1], size[0])) == size
    assert large_size(info, None, PhotoInfo(size[1], size[0])) == size
    assert scale_of((12, 17), size) == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize(
    ("scale", "other"),
    [(2, (35, 24)), (None, (16, 24)), (None, (40, 11)), (None, (17, 12)), (None, (60, 20)), (None, (561, 396))],
)
def test_a_picture_to_walk_on_from_must_fit(scale, other):
    with pytest.raises(UsageError, match="pick.png has"):
        large_size(PhotoInfo(17, 12), scale, PhotoInfo(*other, name="pick.png"))
