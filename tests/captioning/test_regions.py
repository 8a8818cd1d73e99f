"""Regions cover a photo once, are about as large as asked for, and small photos have none."""

import numpy as np
import pytest

from xpsr_cli.captioning.regions import region_boxes
from xpsr_cli.photos.photo import PhotoInfo


@pytest.mark.parametrize("size", [(1000, 700), (577, 100), (4032, 3024), (385, 1201), (768, 768)])
@pytest.mark.parametrize("side", [128, 384])
def test_every_pixel_is_in_one_region_of_about_the_size(size, side):
    boxes = region_boxes(PhotoInfo(*size), side)
    covered = np.zeros(size[::-1], dtype=int)
    for box in boxes:
        covered[box.top : box.top + box.height, box.left : box.left + box.width] += 1
        assert box.width <= 1.51 * side
        assert box.height <= 1.51 * side
    assert covered.min() == covered.max() == 1
    assert boxes == sorted(boxes, key=lambda box: (box.top, box.left))


@pytest.mark.parametrize("size", [(16, 16), (384, 384), (500, 300)])
def test_a_photo_of_one_region_has_none(size):
    assert region_boxes(PhotoInfo(*size)) == []
