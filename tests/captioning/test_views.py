"""What a multimodal model sees of a photo."""

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.captioning.captions import Box
from xpsr_cli.captioning.views import DETAIL_PX, WHOLE_PX, on_square, take_view
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.source import open_photo


def smooth(width, height, channels=3):
    """A picture of slow changes, whose means are known wherever it is cut."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = [x / max(width - 1, 1), y / max(height - 1, 1), (x + y) / max(width + height - 2, 1)]
    return np.rint(np.stack(planes[:channels], axis=-1) * 255).astype(np.uint8)


class Windows(Photo):
    """A photo that notes which windows are read."""

    def read(self, top, left, height, width):
        self.__dict__.setdefault("sizes", []).append((height, width))
        return super().read(top, left, height, width)


@pytest.mark.parametrize("size", [(16, 16), (300, 200), (1024, 1), (WHOLE_PX, 700), (1400, 1500)])
def test_small_photos_are_one_picture(size):
    view = take_view(Photo(smooth(*size)))
    assert view.detail is view.whole
    if max(size) <= WHOLE_PX:
        assert np.array_equal(view.whole, smooth(*size))


@pytest.mark.parametrize("size", [(2500, 1700), (1700, 2500), (4097, 433), (1025, 1024), (2047, 2049)])
def test_the_whole_is_what_pillow_makes_of_it_in_one_go(size):
    width, height = size
    view = take_view(Photo(smooth(width, height)))
    shrink = WHOLE_PX / max(size)
    expected = Image.fromarray(smooth(width, height)).resize(
        (round(width * shrink), round(height * shrink)), Image.Resampling.BOX
    )
    assert view.whole.dtype == np.uint8
    assert view.whole.shape == np.asarray(expected).shape
    off = np.abs(view.whole.astype(int) - np.asarray(expected))
    assert off[:-1, :-1].max() <= 1
    assert off.max() <= 4  # the last blocks may be cut off, and count as if they were not


def test_a_wide_photo_is_never_in_memory_at_once():
    photo = Windows(np.broadcast_to(np.uint8(90), (3000, 32768, 3)))
    view = take_view(photo)
    assert view.whole.shape == (94, WHOLE_PX, 3)
    assert (view.whole == 90).all()
    assert max(height * width for height, width in photo.sizes) <= 2**21
    assert sum(height for height, width in photo.sizes if width == 32768) == 3000


@pytest.mark.parametrize("size", [(40000, 16), (16, 40000)])
def test_a_strip_keeps_one_pixel_at_least(size):
    view = take_view(Photo(np.full((size[1], size[0], 3), 7, np.uint8)))
    assert sorted(view.whole.shape[:2]) == [1, WHOLE_PX]
    assert sorted(view.detail.shape[:2]) == [16, DETAIL_PX]


def test_the_detail_is_the_liveliest_part_pixel_for_pixel():
    pixels = np.full((2400, 3200, 3), 128, np.uint8)
    texture = np.random.default_rng(0).integers(0, 255, (DETAIL_PX, DETAIL_PX, 3), np.uint8)
    top, left = 1800 - DETAIL_PX // 2, 800 - DETAIL_PX // 2  # around the middle of the lower left quarter
    pixels[top : top + DETAIL_PX, left : left + DETAIL_PX] = texture
    view = take_view(Photo(pixels))
    assert np.array_equal(view.detail, texture)
    assert view.whole.shape == (768, WHOLE_PX, 3)


def test_a_box_is_seen_alone():
    pixels = np.zeros((2000, 3000, 3), np.uint8)
    pixels[100:484, 200:600] = smooth(400, 384)
    view = take_view(Photo(pixels), Box(200, 100, 400, 384))
    assert np.array_equal(view.whole, smooth(400, 384))
    assert view.detail is view.whole
    large = take_view(Photo(pixels), Box(1000, 0, 2000, 2000))
    assert not large.whole.any()
    assert large.detail.shape == (DETAIL_PX, DETAIL_PX, 3)


def test_what_is_transparent_is_mid_grey():
    pixels = np.full((20, 30, 3), 255, np.uint8)
    alpha = np.zeros((20, 30), np.uint8)
    alpha[:, 15:] = 255
    view = take_view(Photo(pixels, alpha))
    assert (view.whole[:, :15] == 128).all()
    assert (view.whole[:, 15:] == 255).all()


def test_files_of_16_bits_and_one_channel_are_seen_in_8_and_three(tmp_path):
    Image.fromarray(smooth(50, 40)[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.png")
    with open_photo(tmp_path / "a.png") as photo:
        view = take_view(photo)
    assert np.array_equal(view.whole, np.repeat(smooth(50, 40)[..., :1], 3, axis=2))


def test_a_square_keeps_the_picture_in_its_middle():
    square = on_square(smooth(30, 10), (1, 2, 3))
    assert square.shape == (30, 30, 3)
    assert np.array_equal(square[10:20], smooth(30, 10))
    assert (square[:10] == (1, 2, 3)).all()
    assert (square[20:] == (1, 2, 3)).all()
