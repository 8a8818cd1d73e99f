"""Colour fixes beyond the recorded values."""

from __future__ import annotations

import pytest
import torch

from xpsr_cli.settings import ColorFix
from xpsr_cli.upscaling.color import fix_color


def test_adain_takes_mean_and_deviation_of_the_reference():
    photo, reference = torch.rand(1, 3, 40, 50) * 0.3, torch.rand(1, 3, 40, 50)
    fixed = fix_color(photo, reference, ColorFix.ADAIN)
    for statistic in (torch.mean, torch.std):
        ours, wanted = (statistic(image, dim=(2, 3)) for image in (fixed, reference))
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


def test_wavelet_keeps_detail_and_drops_a_cast():
    detail = torch.rand(1, 3, 64, 64) * 0.1
    cast = torch.tensor([0.3, -0.1, 0.2]).view(1, 3, 1, 1)
    fixed = fix_color(0.4 + detail + cast, 0.4 + detail, ColorFix.WAVELET)
    torch.testing.assert_close(fixed, 0.4 + detail, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", list(ColorFix))
def test_a_photo_that_is_its_own_reference_stays(fix):
    photo = torch.rand(1, 3, 33, 20)
    torch.testing.assert_close(fix_color(photo, photo, fix), photo, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", list(ColorFix))
def test_a_flat_photo_survives(fix):
    flat = torch.full((1, 3, 16, 16), 0.25)
    assert fix_color(flat, flat, fix).isfinite().all()


def test_none_is_none():
    photo = torch.rand(1, 3, 8, 8)
    assert fix_color(photo, torch.rand(1, 3, 8, 8), ColorFix.NONE) is photo
