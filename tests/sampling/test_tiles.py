"""Windows cover every canvas, and their weights make one picture of them."""

from __future__ import annotations

import pytest
import torch

from xpsr_cli.sampling.tiles import Blend, Centre, Window, block_rows, window_grid, window_weights

GRIDS = [(8, 0), (8, 3), (8, 4), (5, 2), (16, 4)]


@pytest.mark.parametrize(("tile", "overlap"), GRIDS)
def test_windows_cover_every_size(tile, overlap):
    for height in range(1, 38):
        for width in (1, 4, 7, 8, 9, 15, 16, 17, 31):
            windows = window_grid(height, width, tile, overlap)
            seen = torch.zeros(height, width)
            for window in windows:
                window.crop(seen).add_(1)
                assert window.crop(seen).shape == (window.h, window.w)
            assert seen.min() >= 1
            assert len({(window.h, window.w) for window in windows}) == 1
            assert windows == sorted(set(windows))
            assert windows[0].h * windows[0].w <= tile**2


@pytest.mark.parametrize(("tile", "overlap"), GRIDS)
def test_neighbours_overlap_by_at_least_what_was_asked(tile, overlap):
    for length in range(tile + 1, 6 * tile):
        starts = sorted({window.x for window in window_grid(tile, length, tile, overlap)})
        assert all(0 < b - a <= tile - overlap for a, b in zip(starts, starts[1:], strict=False))


def test_a_canvas_of_a_tiles_area_is_one_window():
    assert window_grid(4, 16, 8, 2) == [Window(0, 0, 4, 16)]
    assert len(window_grid(4, 17, 8, 2)) == 3


def test_a_canvas_lower_than_the_overlap_still_has_windows():
    windows = window_grid(3, 100, 16, 8)
    assert {(window.y, window.h, window.w) for window in windows} == {(0, 3, 16)}


@pytest.mark.parametrize(("tile", "overlap"), [(8, 8), (8, 9), (8, -1)])
def test_impossible_grids_are_refused(tile, overlap):
    with pytest.raises(ValueError, match="grid"):
        window_grid(20, 20, tile, overlap)


def test_blocks_cover_every_cell_once():
    for height, width in [(1, 1), (7, 8), (8, 8), (17, 25)]:
        seen = torch.zeros(height, width)
        for row in block_rows(height, width, (8, 5)):
            assert len({(window.y, window.h) for window in row}) == 1
            for window in row:
                window.crop(seen).add_(1)
        assert (seen == 1).all()


def test_places():
    window = Window(2, 6, 4, 8)
    assert window.scaled(8) == Window(16, 48, 32, 64)
    assert window.scaled(1, 2) == Window(1, 3, 2, 4)
    outer = window.grown(3, 10, 15)
    assert outer == Window(0, 3, 9, 12)
    canvas = torch.arange(150).view(10, 15)
    assert torch.equal(window.within(outer).crop(outer.crop(canvas)), window.crop(canvas))


@pytest.mark.parametrize("centre", list(Centre))
@pytest.mark.parametrize("size", [(8, 8), (20, 30), (7, 41)])
def test_shares_add_up_to_one(centre, size):
    windows = window_grid(*size, 8, 3)
    blend, total = Blend(windows, centre), torch.zeros(size)
    for window in windows:
        share = blend.share(window)
        assert share.min() >= 0
        window.crop(total).add_(share)
    torch.testing.assert_close(total, torch.ones(size))


def test_a_share_is_the_windows_weight_over_all_weights():
    windows, total = window_grid(20, 30, 8, 3), torch.zeros(20, 30)
    for window in windows:
        window.crop(total).add_(window_weights(window))
    for window in windows:
        torch.testing.assert_close(Blend(windows).share(window), window_weights(window) / window.crop(total))


def test_one_window_has_it_all():
    whole = Window(0, 0, 9, 11)
    assert torch.equal(Blend([whole]).share(whole), torch.ones(9, 11))


def test_windows_that_are_no_grid_are_refused():
    with pytest.raises(ValueError, match="grid"):
        Blend([Window(0, 0, 8, 8), Window(4, 4, 8, 8)])


def test_weights_fall_off_evenly_from_the_middle():
    weights = window_weights(Window(0, 0, 6, 9))
    assert torch.equal(weights, weights.flip(0, 1))
    assert weights.argmax() in (2 * 9 + 4, 3 * 9 + 4)


def test_windows_that_disagree_are_joined_without_a_step():
    """Neighbours whose answers differ by 1 meet in a slope, not an edge."""
    windows, canvas = window_grid(64, 160, 64, 16), torch.zeros(64, 160)
    blend = Blend(windows)
    for index, window in enumerate(windows):
        window.crop(canvas).add_(blend.share(window) * (index % 2))
    assert canvas.diff(dim=1).abs().max() < 0.35
    assert canvas.min() == 0
    assert canvas.max() == 1
