"""The filters under the degradations against those of other libraries."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from scipy.ndimage import convolve as ndimage_convolve
from scipy.ndimage import gaussian_filter

from xpsr_cli.training.blur_kernels import Kernel
from xpsr_cli.training.degradation_steps import Degradation, Jpeg, Sizes, convolve, resize
from xpsr_cli.training.sharpening import sharpen

ANY = Sizes((64, 64), (16, 16))


@pytest.fixture
def photo() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((3, 47, 62), dtype=np.float32))


@pytest.mark.parametrize("family", ["aniso", "plateau_aniso", "sinc"])
@pytest.mark.parametrize("size", [(47, 62), (12, 8), (1, 5), (3, 2)])
def test_convolution_reflects_borders(photo, family, size):
    photo = photo[:, : size[0], : size[1]]
    kernel = Kernel(family, 15, 2.5, 0.7, 0.5, 1.2, 1.3).weights()
    expected = np.stack([ndimage_convolve(channel.numpy(), kernel, mode="mirror") for channel in photo])
    assert convolve(photo, kernel).numpy() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("size", [(47, 62), (13, 20), (70, 61), (1, 1)])
@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
def test_resizes_are_those_of_torch(photo, size, mode):
    assert resize(photo, size, mode).numpy() == pytest.approx(
        F.interpolate(photo[None], size, mode=mode)[0].numpy(), abs=5e-6
    )


def test_antialiased_resizes_are_those_of_pillow(photo):
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for mode, kind in filters.items():
        pillow = [np.asarray(Image.fromarray(channel.numpy()).resize((20, 13), kind)) for channel in photo]
        assert resize(photo, (13, 20), mode, antialias=True).numpy() == pytest.approx(np.stack(pillow), abs=1e-5)
    blocks = resize(photo[:, :44, :60], (11, 15), "area", antialias=True)
    assert torch.allclose(blocks, photo[:, :44, :60].reshape(3, 11, 4, 15, 4).mean(dim=(2, 4)), atol=1e-6)


@pytest.mark.parametrize("quality", [30, 95])
def test_jpeg_is_that_of_pillow(photo, quality):
    file = io.BytesIO()
    Image.fromarray((photo.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)).save(file, "JPEG", quality=quality)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    assert torch.equal(Jpeg(quality + 0.2).apply(photo, ANY, Degradation()), expected)


def test_sharpening_is_unsharp_masking_with_a_soft_mask():
    photo = np.random.default_rng(1).random((3, 90, 80), dtype=np.float32)
    photo[:, :, 40:] = 0.5 * photo[:, :, 40:] ** 4 + 0.2  # with less contrast
    expected = []
    for channel in photo:
        detail = channel - gaussian_filter(channel, 8.0, radius=25, mode="mirror")
        mask = gaussian_filter((np.abs(detail) * 255 > 10).astype(np.float32), 8.0, radius=25, mode="mirror")
        expected.append(mask * np.clip(channel + 0.5 * detail, 0, 1) + (1 - mask) * channel)
    assert sharpen(torch.from_numpy(photo)).numpy() == pytest.approx(np.stack(expected), abs=2e-5)


def test_sharpening_leaves_faint_detail_alone():
    faint = 0.5 + torch.from_numpy(np.random.default_rng(2).uniform(-0.03, 0.03, (3, 64, 64)).astype(np.float32))
    assert torch.equal(sharpen(faint), faint)
