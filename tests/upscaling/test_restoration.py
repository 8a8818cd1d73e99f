"""Restorers as activators: any size, no seams, the photo's colours, rows from top to bottom."""

from __future__ import annotations

import json
import logging
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_photos import refusal
from torch import nn

from xpsr_cli.device import Placement
from xpsr_cli.errors import OutOfMemoryError, WeightsError
from xpsr_cli.photos.photo import Photo
from xpsr_cli.progress import SilentProgress
from xpsr_cli.settings import output_size
from xpsr_cli.upscaling import restoration
from xpsr_cli.upscaling.resample import Resized
from xpsr_cli.upscaling.restoration import Restored, Restorer, ramp, window_spans
from xpsr_cli.upscaling.seams import SeamMeter

FLOAT32 = Placement(torch.device("cpu"), torch.float32)


class Kept:
    """A tensor (3, H, W) as a picture."""

    def __init__(self, values):
        self.values = values
        self.height, self.width = values.shape[1:]

    def read(self, top, left, height, width):
        assert 0 <= top < top + height <= self.height
        assert 0 <= left < left + width <= self.width
        return self.values[:, top : top + height, left : left + width]


class Convolutions(nn.Module):
    """A small residual network that enlarges; what it makes of a pixel hangs on those ``blocks`` + 2 around it."""

    def __init__(self, scale, channels=3, blocks=2):
        super().__init__()
        self.first = nn.Conv2d(channels, 16, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(blocks))
        self.last = nn.Sequential(nn.Conv2d(16, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, image):
        features = self.first(image)
        for block in self.blocks:
            features = features + 0.3 * block(nn.functional.leaky_relu(features, 0.2))
        return torch.sigmoid(self.last(features))


class Tinted(nn.Module):
    """A photo as it is, with another colour."""

    def __init__(self, *tint):
        super().__init__()
        self.tint = nn.Parameter(torch.tensor(tint).view(1, 3, 1, 1))

    def forward(self, image):
        return (image + self.tint).clamp(0, 1)


class Overflowing(nn.Module):
    """The photo itself, by way of numbers that float16 does not have."""

    def __init__(self):
        super().__init__()
        self.large = nn.Parameter(1e6 * torch.eye(3).view(3, 3, 1, 1))

    def forward(self, image):
        return nn.functional.conv2d(image, self.large) / 1e6


class Noisy(nn.Module):
    """A photo with noise."""

    def forward(self, image):
        return image + 0.1 * torch.rand_like(image)


class Counting(nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(image)
        return image


class Failing(nn.Module):
    def forward(self, image):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")


def photo(height=150, width=210, dtype=np.uint8, grey=False):
    """Smooth shapes, fine ones and some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 13), np.cos(x * y / 700), np.sin((x + y) / 2.1)]
    pixels = 0.5 + 0.25 * np.stack(waves, axis=2) + 0.1 * rng.random((height, width, 3))
    pixels = pixels[..., :1].repeat(3, axis=2) if grey else pixels
    white = np.iinfo(dtype).max
    return Photo((pixels.clip(0, 1) * white).round().astype(dtype), grey=grey)


def tensor(source):
    return torch.from_numpy(source.read(0, 0, source.height, source.width).colour).permute(2, 0, 1).contiguous()


def made(restorer, source, scale):
    return np.concatenate(list(restorer.bands(source, scale, SilentProgress())))


def whole(restorer, picture):
    restored = Restored(restorer, picture)
    return restored.read(0, 0, restored.height, restored.width)


@pytest.mark.parametrize("own", [1, 2, 3, 4])
@pytest.mark.parametrize("wanted", [1.0, 2.0, 2.5, 4.0])
def test_any_scale_lands_on_the_size_asked_for(own, wanted):
    source = photo(41, 67)
    result = made(Restorer(Convolutions(own), own, FLOAT32, window_px=64), source, wanted)
    assert result.shape == (*reversed(output_size(67, 41, wanted)), 3)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 300), (129, 128), (192, 64), (333, 70)])
def test_any_photo_is_covered(height, width):
    picture = Kept(torch.rand(3, height, width))
    restored = Restored(Restorer(nn.Identity(), 1, FLOAT32, window_px=64), picture)
    torch.testing.assert_close(restored.read(0, 0, height, width), picture.values, rtol=0, atol=1e-6)
    for window in restored.windows():
        assert window.y % 64 == 0
        assert window.x % 64 == 0


@pytest.mark.parametrize("overlap", [64, 128])
def test_windows_cover_a_side_and_share_what_they_should(overlap):
    for length in range(1, 700):
        spans = window_spans(length, 192, overlap)
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        for (_, end), (start, last) in pairwise(spans):
            assert end - start == overlap
            assert last - start > overlap


def test_the_ramp_is_even_and_has_no_part_of_the_ends():
    rising = ramp(256)
    assert (rising[:64] == 0).all()
    assert (rising[-64:] == 1).all()
    torch.testing.assert_close(rising + rising.flip(0), torch.ones(256), rtol=0, atol=1e-6)
    assert (rising.diff() >= 0).all()


@pytest.mark.parametrize("own", [1, 2, 4])
@pytest.mark.parametrize("window_px", [64, 128])
def test_windows_make_what_the_whole_makes(own, window_px):
    """To the rounding of float32, for a network that sees less far than what is thrown away."""
    network, values = Convolutions(own, blocks=6), tensor(photo())
    restorer = Restorer(network, own, FLOAT32, window_px=window_px)
    at_once = network(values[None])[0]
    assert at_once.std() > 0.05
    assert (whole(restorer, Kept(values)) - at_once).abs().max() < 3e-6


def test_a_network_that_sees_farther_leaves_no_seam():
    """A reach of 32 pixels, where 16 are thrown away: far below a level of 8 bits."""
    network, source = Convolutions(2, blocks=30), photo(300, 300)
    restorer = Restorer(network, 2, FLOAT32, window_px=64)
    values = tensor(source)
    restored = whole(restorer, Kept(values))
    assert (restored - network(values[None])[0]).abs().max() < 0.05 / 255


def test_no_seam_is_found_even_of_a_network_that_looks_at_all_of_a_window():
    """It takes the mean of what it sees for grey, which is another one in every window."""

    class Balanced(nn.Module):
        def forward(self, image):
            return (image + 0.5 - image.mean(dim=(2, 3), keepdim=True)).clamp(0, 1)

    source = photo(420, 420)
    source.pixels[:, 210:] //= 2
    restorer = Restorer(Balanced(), 1, FLOAT32, window_px=64)
    windows = Restored(restorer, Kept(tensor(source))).windows()
    assert len(windows) == 36
    meter = SeamMeter(windows, 420, 420)
    meter.add(0, torch.from_numpy(made(restorer, source, 1.0)).permute(2, 0, 1), tensor(source))
    report = meter.report()
    assert report.index_low < 1.02
    assert report.brightness_step < 0.5


def test_rows_and_parts_do_not_change_a_bit(monkeypatch):
    source, restorer = photo(), Restorer(Convolutions(2), 2, FLOAT32, window_px=64)
    once = made(restorer, source, 2.5)
    assert np.array_equal(made(restorer, source, 2.5), once)
    monkeypatch.setattr(restoration, "BAND_BYTES", 1)
    monkeypatch.setattr(restoration, "PART_PX", 100)
    assert np.array_equal(made(restorer, source, 2.5), once)


def test_a_result_of_the_own_scale_keeps_what_the_network_made():
    """Only what is coarse comes from the photo: fine detail is the network's, pixel by pixel."""
    source, network = photo(), Convolutions(2)
    result = torch.from_numpy(made(Restorer(network, 2, FLOAT32), source, 2.0)).permute(2, 0, 1)
    added = network(tensor(source)[None])[0]
    enlarged = Resized(Kept(tensor(source)), (420, 300)).read(0, 0, 300, 420)

    def fine(picture):
        return (picture - nn.functional.avg_pool2d(picture, 5, 1, 2))[:, 8:-8, 8:-8].flatten()

    def likeness(one, other):
        return float(torch.corrcoef(torch.stack([fine(one), fine(other)]))[0, 1])

    assert likeness(result, added) > 0.95
    assert likeness(result, added) > likeness(result, enlarged)


def test_sixteen_bits_are_not_rounded():
    ramp_16 = np.linspace(20000, 21000, 200, dtype=np.uint16)[None, :, None].repeat(100, 0).repeat(3, 2)
    result = made(Restorer(nn.Identity(), 1, FLOAT32, window_px=64), Photo(ramp_16), 1.0)
    assert np.abs(result * 65535 - ramp_16).max() < 0.1


@pytest.mark.parametrize("own", [1, 2])
def test_colours_are_those_of_the_photo(own):
    source = photo()
    restorer = Restorer(nn.Sequential(Tinted(0.1, -0.05, -0.1), nn.Upsample(scale_factor=own)), own, FLOAT32)
    shift = made(restorer, source, own).mean(axis=(0, 1)) - tensor(source).mean(dim=(1, 2)).numpy()
    assert np.abs(shift).max() * 255 < 0.5


def test_a_network_of_one_channel_sees_one_after_the_other():
    network, values = Convolutions(2, channels=1), tensor(photo())
    wanted = torch.cat([network(values[None, channel : channel + 1])[0] for channel in range(3)])
    restorer = Restorer(network, 2, FLOAT32, channels=1)
    torch.testing.assert_close(whole(restorer, Kept(values)), wanted, rtol=0, atol=3e-6)


def test_a_photo_without_colour_stays_without_and_is_seen_once():
    source, network = photo(grey=True), Counting()
    result = made(Restorer(network, 1, FLOAT32, channels=1), source, 1.0)
    assert [tuple(seen.shape) for seen in network.seen] == [(1, 1, 150, 210)]
    assert np.ptp(result, axis=2).max() == 0
    assert np.ptp(made(Restorer(Convolutions(2), 2, FLOAT32), source, 2.0), axis=2).max() == 0


def test_hidden_colours_do_not_spread():
    source = photo()
    alpha = np.full((150, 210), 255, np.uint8)
    alpha[:, 100:] = 0
    hidden = source.pixels.copy()
    hidden[:, 100:] = (255, 0, 255)
    restorer = Restorer(Convolutions(2), 2, FLOAT32)
    plain, other = (made(restorer, Photo(pixels, alpha), 2.0)[:, :190] for pixels in (source.pixels, hidden))
    assert np.abs(plain - other).max() < 1e-5


def test_rows_are_made_as_they_are_asked_for(monkeypatch):
    """Neither the photo nor what was made of it is ever in memory as a whole."""
    monkeypatch.setattr(restoration, "BAND_BYTES", 1)
    lowest = []

    class Watched(Photo):
        def read(self, top, left, height, width):
            lowest.append(top + height)
            return super().read(top, left, height, width)

    source = Watched(photo(2000, 40).pixels)
    bottom = 0
    for band in Restorer(nn.Identity(), 1, FLOAT32, window_px=64).bands(source, 1.0, SilentProgress()):
        bottom += len(band)
        assert max(lowest) <= bottom + 64 + 64 + 2 * 31
    assert bottom == 2000
    restored = Restored(Restorer(nn.Identity(), 1, FLOAT32, window_px=64), Kept(torch.zeros(3, 2000, 40)))
    for top in range(0, 2000, 20):
        restored.read(top, 0, 20, 40)
        assert sum(strip.shape[1] for _, strip in restored._strips._kept) <= 192


@pytest.mark.parametrize(("width", "step"), [(300, 192), (6000, 128), (20000, 64)])
def test_wide_photos_go_in_flatter_rows(width, step):
    class Wide:
        height = 2000

    picture = Wide()
    picture.width = width
    windows = Restored(Restorer(nn.Identity(), 4, FLOAT32), picture).windows()
    assert min(window.y for window in windows if window.y) == step
    assert max(window.w for window in windows) == 256


def test_windows_are_counted():
    class Counter(SilentProgress):
        done = 0

        def advance(self, count=1):
            self.done += count

    counter, restorer = Counter(), Restorer(nn.Identity(), 1, FLOAT32, window_px=64)
    list(restorer.bands(photo(150, 210), 1.0, counter))
    assert counter.done == math.ceil((150 - 64) / 64) * math.ceil((210 - 64) / 64) == 6


def test_a_window_that_overflows_is_made_again(caplog):
    half = Placement(torch.device("cpu"), torch.float16)
    with caplog.at_level(logging.WARNING):
        result = Restorer(Overflowing(), 1, half).restore(torch.full((3, 8, 8), 0.7))
    torch.testing.assert_close(result, torch.full((3, 8, 8), 0.7))
    assert "float32" in caplog.text


def test_a_network_that_draws_noise_draws_the_same():
    restorer, values = Restorer(Noisy(), 1, FLOAT32), torch.rand(3, 20, 20)
    state = torch.random.get_rng_state()
    first = restorer.restore(values)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(restorer.restore(values), first)


def test_what_is_no_restorer_is_refused():
    values = torch.rand(3, 20, 20)
    with refusal(WeightsError, "(1, 3, 40, 40)"):
        Restorer(nn.Identity(), 2, FLOAT32).restore(values)
    with refusal(WeightsError, "no numbers"):
        Restorer(Tinted(math.nan, 0.0, 0.0), 1, FLOAT32).restore(values)
    with refusal(OutOfMemoryError, "20 x 20"):
        Restorer(Failing(), 1, FLOAT32).restore(values)


def test_identity_is_all_that_decides():
    one = Restorer(nn.Identity(), 1, FLOAT32, identity={"name": "spandrel", "weights": "12ab"})
    other = Restorer(nn.Identity(), 1, Placement(torch.device("cpu"), torch.bfloat16), window_px=64)
    assert json.loads(json.dumps(dict(one.identity))) == {
        "name": "spandrel",
        "weights": "12ab",
        "window": 192,
        "overlap": 64,
        "device": "cpu",
        "precision": "torch.float32",
    }
    assert other.identity == {
        "name": "Identity",
        "window": 64,
        "overlap": 64,
        "device": "cpu",
        "precision": "torch.bfloat16",
    }
