"""The way to the working size and back to exactly the size asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import Sizing
from xpsr_cli.upscaling.canvas import MULTIPLE_PX, make_canvas, output_size, to_image_01, to_pixels


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def there_and_back(photo, scale, sizing):
    canvas = make_canvas(photo, scale, sizing)
    return canvas, canvas.fit(to_pixels(canvas.visible(canvas.image_01)))


@pytest.mark.parametrize("size", [(16, 16), (33, 64), (301, 75), (129, 200)])
@pytest.mark.parametrize("scale", [1.0, 1.37, 2.5, 4.0])
@pytest.mark.parametrize("sizing", list(Sizing))
def test_sizes(size, scale, sizing):
    canvas, back = there_and_back(Photo(noise(*size)), scale, sizing)
    height, width = canvas.pixels.shape[:2]
    assert height % MULTIPLE_PX == width % MULTIPLE_PX == 0
    assert back.shape == (round(size[0] * scale), round(size[1] * scale), 3)
    assert canvas.size == output_size(size[1], size[0], scale) == back.shape[1::-1]


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.3])
def test_padding_leaves_pillows_bicubic_untouched(scale):
    photo = Photo(noise(37, 61))
    canvas, back = there_and_back(photo, scale, Sizing.PAD)
    wanted = np.asarray(Image.fromarray(photo.pixels).resize(canvas.size, Image.Resampling.BICUBIC))
    assert np.array_equal(back, wanted)
    assert np.array_equal(canvas.pixels[-1, -1], wanted[-1, -1])


def test_small_photos_are_padded_to_something_the_networks_can_see():
    assert make_canvas(Photo(noise(16, 20)), 1.0, Sizing.PAD).pixels.shape == (128, 128, 3)


def test_resizing_reaches_the_released_scripts_smallest_side():
    assert make_canvas(Photo(noise(100, 151)), 4.0, Sizing.RESIZE).pixels.shape == (512, 768, 3)
    assert make_canvas(Photo(noise(151, 100)), 4.0, Sizing.RESIZE).pixels.shape == (768, 512, 3)
    assert make_canvas(Photo(noise(201, 151)), 4.0, Sizing.RESIZE).pixels.shape == (800, 600, 3)


def test_colours_under_full_transparency_stay_there():
    pixels = np.full((40, 40, 3), 200, np.uint8)
    alpha = np.full((40, 40), 255, np.uint8)
    pixels[:, 20:], alpha[:, 20:] = 0, 0
    canvas = make_canvas(Photo(pixels, alpha), 4.0, Sizing.PAD)
    assert (canvas.pixels == 200).all()


@pytest.mark.parametrize("value", [0, 128])
def test_a_wholly_hidden_photo_and_a_half_transparent_one_are_left_alone(value):
    photo = Photo(noise(32, 32), np.full((32, 32), value, np.uint8))
    assert np.array_equal(
        make_canvas(photo, 4.0, Sizing.PAD).pixels, make_canvas(Photo(photo.pixels), 4.0, Sizing.PAD).pixels
    )


def test_pixels_and_values_are_inverses():
    pixels = noise(16, 24)
    assert np.array_equal(to_pixels(to_image_01(pixels)), pixels)


def test_values_are_rounded_and_clamped():
    values = torch.tensor([-0.2, 0.0, 0.6 / 255, 254.4 / 255, 1.0, 1.3]).repeat(3, 1).view(1, 3, 1, 6)
    assert to_pixels(values)[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]
