"""Colour fixes beyond the recorded values."""

from __future__ import annotations

import pytest
import torch

from xpsr_cli.upscaling.color import WAVELET_REACH_PX, Moments, adain, wavelet, wavelet_chroma


def moments(*bands):
    result = Moments()
    for band in bands:
        result.add(band)
    return result


def matched(photo, reference):
    return adain(photo, moments(photo), moments(reference))


def test_moments_are_those_of_all_bands():
    photo = torch.rand(3, 40, 50) * torch.tensor([1.0, 0.01, 10.0]).view(3, 1, 1)
    pooled = moments(photo[:, :1], photo[:, 1:25], photo[:, 25:])
    variance, mean = torch.var_mean(photo.double(), dim=(1, 2), keepdim=True)
    torch.testing.assert_close(pooled.mean, mean, rtol=1e-9, atol=0)
    torch.testing.assert_close(pooled.variance, variance, rtol=1e-9, atol=0)


def test_adain_takes_mean_and_deviation_of_the_reference():
    photo, reference = torch.rand(3, 40, 50) * 0.3, torch.rand(3, 40, 50)
    fixed = matched(photo, reference)
    for statistic in (torch.mean, torch.std):
        ours, wanted = (statistic(image, dim=(1, 2)) for image in (fixed, reference))
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fix", [wavelet, wavelet_chroma])
def test_wavelet_keeps_detail_and_drops_a_cast(fix):
    detail = torch.rand(3, 64, 64) * 0.1
    cast = torch.tensor([0.3, -0.1, 0.2]).view(3, 1, 1)
    fixed = fix(0.4 + detail + cast, 0.4 + detail)
    torch.testing.assert_close(fixed, 0.4 + detail, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", [matched, wavelet, wavelet_chroma])
def test_a_photo_that_is_its_own_reference_stays(fix):
    photo = torch.rand(3, 33, 20)
    torch.testing.assert_close(fix(photo, photo), photo, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", [matched, wavelet, wavelet_chroma])
def test_a_flat_photo_survives(fix):
    flat = torch.full((3, 16, 16), 0.25)
    assert fix(flat, flat).isfinite().all()


def test_small_saturated_things_keep_their_colour_and_what_was_added_to_them_in_brightness():
    spot = torch.zeros(3, 65, 65)
    spot[1, 24:41, 24:41] = 0.5
    added = torch.zeros(3, 65, 65)
    added[:, 32, 20:45] = 0.1  # a line, grey
    tinted = spot + added + 0.2 * (spot[1:2] > 0) * torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
    middle = (slice(None), 28, 32)
    errors = {fix: (fix(tinted, spot) - spot - added)[middle] for fix in (wavelet, wavelet_chroma)}
    chroma = {
        fix: (error - (error * torch.tensor([0.299, 0.587, 0.114])).sum()).abs().max() for fix, error in errors.items()
    }
    assert chroma[wavelet_chroma] < 0.5 * chroma[wavelet]
    grey = 0.3 + added
    torch.testing.assert_close(
        wavelet_chroma(grey, torch.full_like(grey, 0.3)), wavelet(grey, torch.full_like(grey, 0.3))
    )


@pytest.mark.parametrize("fix", [wavelet, wavelet_chroma])
def test_the_wavelet_fix_reaches_as_far_as_it_says(fix):
    photo, reference = torch.rand(3, 200, 40), torch.rand(3, 200, 40)
    whole, cut = fix(photo, reference), fix(photo[:, 50:150], reference[:, 50:150])
    inner = slice(WAVELET_REACH_PX, 100 - WAVELET_REACH_PX)
    torch.testing.assert_close(cut[:, inner], whole[:, 50:150][:, inner], rtol=0, atol=1e-6)
    assert (cut[:, 0] - whole[:, 50]).abs().max() > 1e-3
