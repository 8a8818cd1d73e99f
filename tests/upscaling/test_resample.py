"""Resizing is Pillow's in floating point, and the same for every window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from xpsr_cli.upscaling.resample import Padded, Resized, bicubic, bilinear

FILTERS = {bicubic: Image.Resampling.BICUBIC, bilinear: Image.Resampling.BILINEAR}


class Picture:
    """A tensor (1, H, W) as a picture."""

    def __init__(self, values):
        self.values = values
        self.height, self.width = values.shape[1:]

    def read(self, top, left, height, width):
        assert top >= 0
        assert left >= 0
        part = self.values[:, top : top + height, left : left + width]
        assert part.shape[1:] == (height, width)
        return part


def all_of(picture):
    return picture.read(0, 0, picture.height, picture.width)


@pytest.mark.parametrize("filter_", FILTERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [(61, 37), (122, 74), (200, 50), (30, 17), (61, 9), (1, 1)])
def test_it_is_pillows(filter_, size):
    values = torch.rand(1, 37, 61)
    ours = all_of(Resized(Picture(values), size, filter_))[0].numpy()
    wanted = np.asarray(Image.fromarray(values[0].numpy()).resize(size, FILTERS[filter_]))
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(122, 74), (91, 50), (30, 17)])
def test_windows_are_crops_to_the_last_bit(size):
    resized = Resized(Picture(torch.rand(3, 37, 61)), size)
    whole = all_of(resized)
    for top, left, height, width in [(0, 0, 5, 7), (9, 13, 8, 17), (size[1] - 1, size[0] - 3, 1, 3)]:
        assert torch.equal(resized.read(top, left, height, width), whole[:, top : top + height, left : left + width])


def test_the_same_size_is_the_same_picture():
    values = torch.rand(3, 20, 30)
    assert torch.equal(all_of(Resized(Picture(values), (30, 20))), values)


def test_flat_stays_flat():
    flat = all_of(Resized(Picture(torch.full((1, 20, 30), 0.3)), (77, 51)))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3), rtol=2e-7, atol=0)


def test_padding_repeats_the_last_row_and_column():
    values = torch.rand(1, 5, 6)
    padded = Padded(Picture(values), (9, 8))
    whole = all_of(padded)
    wanted = torch.nn.functional.pad(values, (0, 3, 0, 3), mode="replicate")
    assert torch.equal(whole, wanted)
    for top, left, height, width in [(0, 0, 2, 2), (6, 7, 2, 2), (3, 0, 4, 9), (0, 8, 8, 1)]:
        window = padded.read(top, left, height, width)
        assert torch.equal(window, wanted[:, top : top + height, left : left + width])
