"""The way to the working size, window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli.photos.photo import Photo
from xpsr_cli.sampling.tiles import Window, window_grid
from xpsr_cli.settings import Sizing, output_size
from xpsr_cli.upscaling.canvas import MULTIPLE_PX, Canvas


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image(canvas):
    return canvas.image(Window(0, 0, canvas.height, canvas.width))


@pytest.mark.parametrize("size", [(16, 16), (33, 64), (301, 75), (129, 200)])
@pytest.mark.parametrize("scale", [1.0, 1.37, 2.5, 4.0])
@pytest.mark.parametrize("sizing", list(Sizing))
def test_sizes(size, scale, sizing):
    canvas = Canvas(Photo(noise(*size)), scale, sizing)
    assert canvas.height % MULTIPLE_PX == canvas.width % MULTIPLE_PX == 0
    assert image(canvas).shape == (1, 3, canvas.height, canvas.width)
    assert canvas.size == output_size(size[1], size[0], scale) == (round(size[1] * scale), round(size[0] * scale))
    assert canvas.enlarged(3, 5).shape == (3, 5, canvas.size[0])


@pytest.mark.parametrize("sizing", list(Sizing))
@pytest.mark.parametrize("scale", [1.0, 2.3, 4.0])
def test_a_window_is_the_crop_of_the_canvas_to_the_last_bit(sizing, scale, monkeypatch):
    monkeypatch.setattr("xpsr_cli.upscaling.canvas.PROCESS_SIZE_PX", 128)
    alpha = (np.arange(61) % 7 > 2)[None].repeat(37, axis=0).astype(np.uint8) * 255
    canvas = Canvas(Photo(noise(37, 61), alpha), scale, sizing)
    whole = image(canvas)
    for window in [*window_grid(canvas.height, canvas.width, 50, 13), Window(0, canvas.width - 1, 3, 1)]:
        assert torch.equal(canvas.image(window), window.crop(whole))


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.3])
def test_a_padded_canvas_is_pillows_bicubic_but_for_its_rounding(scale):
    photo = Photo(64 + noise(37, 61) // 2)  # nothing overshoots, which Pillow cuts off between its two passes
    canvas = Canvas(photo, scale, Sizing.PAD)
    width, height = canvas.size
    wanted = np.asarray(Image.fromarray(photo.pixels).resize(canvas.size, Image.Resampling.BICUBIC))
    ours = image(canvas)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(ours[:height, :width] - wanted).max() < 1.2
    assert (ours[height:] == ours[height - 1]).all()
    assert (ours[:, width:] == ours[:, width - 1 : width]).all()


def test_small_photos_are_padded_to_something_the_networks_can_see():
    canvas = Canvas(Photo(noise(16, 20)), 1.0, Sizing.PAD)
    assert (canvas.width, canvas.height) == (128, 128)


def test_resizing_reaches_the_released_scripts_smallest_side():
    sizes = {(100, 151): (768, 512), (151, 100): (512, 768), (201, 151): (600, 800)}
    for (height, width), wanted in sizes.items():
        canvas = Canvas(Photo(noise(height, width)), 4.0, Sizing.RESIZE)
        assert (canvas.width, canvas.height) == wanted


def test_sixteen_bits_are_seen():
    pixels = np.full((32, 32, 3), 30001, np.uint16)
    values = image(Canvas(Photo(pixels), 4.0, Sizing.PAD))
    torch.testing.assert_close(values, torch.full_like(values, 30001 / 65535), rtol=0, atol=1e-7)


@pytest.mark.parametrize("almost_hidden", [0, 1, 7])
def test_colours_under_full_transparency_stay_there(almost_hidden):
    pixels, alpha = np.full((40, 60, 3), 200, np.uint8), np.full((40, 60), 255, np.uint8)
    pixels[:, 20:], alpha[:, 20:] = 0, almost_hidden
    values = image(Canvas(Photo(pixels, alpha), 4.0, Sizing.PAD))
    near = values[..., : 4 * (20 + 13)]
    torch.testing.assert_close(near, torch.full_like(near, 200 / 255))


@pytest.mark.parametrize("value", [0, 128])
def test_a_wholly_hidden_photo_and_a_half_transparent_one_are_left_alone(value):
    photo = Photo(noise(32, 32), np.full((32, 32), value, np.uint8))
    bare = Photo(photo.pixels)
    assert torch.equal(image(Canvas(photo, 4.0, Sizing.PAD)), image(Canvas(bare, 4.0, Sizing.PAD)))


def test_transparency_has_the_size_asked_for():
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:, 30:] = 0
    rows = Canvas(Photo(noise(40, 60), alpha), 2.5, Sizing.PAD).alpha(10, 7)
    assert rows.shape == (7, 150)
    torch.testing.assert_close(rows[:, :70], torch.ones(7, 70))
    assert (rows[:, 80:] == 0).all()
    assert Canvas(Photo(noise(40, 60)), 2.5, Sizing.PAD).alpha(0, 1) is None
