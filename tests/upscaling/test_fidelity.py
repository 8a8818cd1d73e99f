"""Fidelity: the projection of exploration, made in rows, and as near to the photo as the range allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xpsr_cli.exploring.operators import Operator
from xpsr_cli.photos.photo import Depth, PhotoInfo
from xpsr_cli.upscaling import fidelity as module
from xpsr_cli.upscaling.fidelity import AgreementMeter, Faithful

SIZES = [
    ((120, 160), (30, 40)),
    ((131, 90), (37, 31)),
    ((75, 200), (50, 66)),
    ((64, 101), (64, 100)),
    ((70, 40), (33, 16)),
]
LARGE_AND_SMALL = pytest.mark.parametrize(("large", "small"), SIZES)


class Kept:
    """A tensor (3, H, W) as a picture that is read from top to bottom."""

    def __init__(self, values):
        self.values, self._top = values, 0
        self.height, self.width = values.shape[1:]

    def read(self, top, left, height, width):
        assert self._top <= top <= top + height <= self.height
        assert 0 <= left <= left + width <= self.width
        self._top = top
        return self.values[:, top : top + height, left : left + width]


def random(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def in_parts(picture, rows, columns):
    """All of a picture, read a few rows and columns at a time."""
    bands = [
        torch.cat(
            [
                picture.read(top, left, min(rows, picture.height - top), min(columns, picture.width - left))
                for left in range(0, picture.width, columns)
            ],
            dim=2,
        )
        for top in range(0, picture.height, rows)
    ]
    return torch.cat(bands, dim=1)


def made(free, photo, fidelity, **options):
    picture = Faithful(Kept(free), Kept(photo), fidelity, **options)
    return picture.read(0, 0, picture.height, picture.width)


def middling(large, small):
    """A picture and a photo that agree about the tones, so that nothing is clipped."""
    return 0.4 + 0.2 * random(*large), 0.45 + 0.1 * random(*small, seed=1)


@LARGE_AND_SMALL
@pytest.mark.parametrize("fidelity", [0.3, 1.0])
def test_it_is_the_projection_of_exploration(large, small, fidelity):
    free, photo = middling(large, small)
    operator = Operator(large, small)
    wanted = operator.pull(free, photo, torch.full(small, 1 - (1 - fidelity) ** 2, dtype=torch.float64))
    assert (made(free, photo, fidelity) - wanted).abs().max() < 1e-5


@LARGE_AND_SMALL
@pytest.mark.parametrize("free", [0, 1], ids=["nothing clipped", "much clipped"])
def test_rows_and_windows_do_not_change_a_bit(monkeypatch, large, small, free):
    free, photo = (middling(large, small), (2 * random(*large) - 0.5, random(*small, seed=1)))[free]
    whole = made(free, photo, 1.0)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "PART_PX", 50)
    parts = in_parts(Faithful(Kept(free), Kept(photo), 1.0), 33, 29)
    assert torch.equal(parts, whole)


def test_a_window_needs_no_more_than_what_is_around_it():
    """What lies 100 pixels of the photo away has no say, so no more than that is kept."""
    free, photo = random(1200, 64), random(300, 16, seed=1)
    whole = made(free, photo, 1.0)
    free[:, 900:], photo[:, 225:] = 0, 1
    assert torch.equal(made(free, photo, 1.0)[:, : 4 * 125], whole[:, : 4 * 125])
    assert not torch.equal(made(free, photo, 1.0)[:, : 4 * 220], whole[:, : 4 * 220])
    picture = Faithful(Kept(random(2000, 16)), Kept(random(500, 4, seed=1)), 1.0)
    for top in range(0, 2000, 32):
        picture.read(top, 0, min(32, 2000 - top), 16)
        kept = sum(strip.shape[1] for _, strip in picture._free._kept)
        assert kept <= 4 * 130


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_what_is_clipped_is_made_up_for(scale):
    """The photo is of another picture than the one that is moved, with black and white in both."""
    side = 128 // scale
    operator = Operator((128, 128), (side, side))
    photo = operator((1.6 * random(128, 128) - 0.3).clamp(0, 1)).clamp(0, 1)
    free = (1.6 * random(128, 128, seed=5) - 0.3).clamp(0, 1)
    once = operator.correct(free, photo).clamp(0, 1)
    found = made(free, photo, 1.0)
    assert found.min() >= 0
    assert found.max() <= 1
    assert operator.agreement_01(once, photo) < 42
    assert operator.agreement_01(found, photo) > 50


def test_it_is_the_nearest_picture_that_agrees(monkeypatch):
    """Against projections in turns onto both sets, corrected as Dykstra has it, until nothing moves."""
    monkeypatch.setattr(module, "REPAIRS", 60)
    operator, free = Operator((48, 40), (12, 10)), random(48, 40)
    photo = operator((1.3 * random(48, 40, seed=5) - 0.15).clamp(0, 1))
    found, outside = free, torch.zeros_like(free)
    for _ in range(200):
        agreeing = operator.correct(found, photo)
        found = (agreeing + outside).clamp(0, 1)
        outside = agreeing + outside - found
    assert operator.agreement_01(found, photo) > 80
    assert (made(free, photo, 1.0) - found).abs().max() < 1e-3


def test_agreement_rises_with_fidelity():
    operator = Operator((120, 160), (30, 40))
    photo = operator((1.4 * random(120, 160) - 0.2).clamp(0, 1))
    free = 1.5 * random(120, 160, seed=5) - 0.25
    reached = [operator.agreement_01(made(free, photo, f), photo) for f in (0, 0.25, 0.5, 0.75, 1)]
    assert reached == sorted(reached)
    assert reached[2] - reached[0] == pytest.approx(20 * math.log10(4), abs=0.5)


def test_none_leaves_what_is_seen_and_grey_stays_grey():
    free, photo = 1.5 * random(40, 40) - 0.25, random(10, 10, seed=1)
    assert torch.equal(made(free, photo, 0.0), free.clamp(0, 1))
    grey = made(free, photo[:1].expand(3, -1, -1), 0.7, grey=True)
    assert (grey == grey[:1]).all()


def test_a_photo_that_no_picture_gives_is_come_near():
    photo = torch.zeros(3, 20, 20)
    photo[:, ::2] = 1  # sharper than the reduction lets through
    operator, free = Operator((80, 80), (20, 20)), random(80, 80)
    assert operator.agreement_01(made(free, photo, 1.0), photo) > operator.agreement_01(free, photo) + 3


@LARGE_AND_SMALL
@pytest.mark.parametrize("depth", [Depth.U8, Depth.U16, Depth.FLOAT])
def test_agreement_is_measured_in_bands(large, small, depth):
    result, photo = random(*large), random(*small, seed=1)
    meter = AgreementMeter(Kept(photo), PhotoInfo(large[1], large[0], depth))
    for top in range(0, large[0], 7):
        meter.add(result[:, top : top + 7].permute(1, 2, 0).numpy())
    white = depth.white if depth is not Depth.FLOAT else 2**24
    wanted = Operator(large, small).agreement_01((result * white).round() / white, photo)
    assert meter.report() == pytest.approx(wanted, abs=1e-3)


def test_a_perfect_agreement_is_a_number():
    meter = AgreementMeter(Kept(torch.zeros(3, 5, 5)), PhotoInfo(20, 20))
    meter.add(np.zeros((20, 20, 3), np.float32))
    assert meter.report() == 120
