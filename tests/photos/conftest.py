from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageCms
from small_photos import camera_exif


@pytest.fixture
def pixels():
    """(24, 40, 3) of noise, different in every corner."""
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def icc():
    """A real sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(params=["II", "MM"])
def exif(request):
    """A camera's EXIF block in either byte order."""
    return camera_exif(request.param)
