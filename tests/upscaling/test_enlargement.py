"""How a canvas is cut for its autoencoder: rows that fit a share of memory, blocks that a device can take."""

from __future__ import annotations

import pytest

from xpsr_cli.upscaling.enlargement import HIGHEST_PX, STRIP_BYTES, WIDTH_PX, decoding_rows


@pytest.mark.parametrize(("factor", "lowest"), [(4, 16), (8, 64)])
@pytest.mark.parametrize("width_px", [256, 4096, 12000, 32768])
def test_blocks_stay_small_and_rows_as_low_as_is_worth_it(factor, lowest, width_px):
    cells = (2048 // factor, width_px // factor)
    rows = decoding_rows(cells, factor, lowest)
    blocks = [block for row in rows for block in row]
    assert sum(block.h * block.w for block in blocks) == cells[0] * cells[1]
    assert max(block.h for block in blocks) * factor <= HIGHEST_PX
    assert max(block.w for block in blocks) * factor <= WIDTH_PX
    highest = max(block.h for block in blocks)
    assert highest == lowest or highest * factor * width_px * 12 <= STRIP_BYTES
    assert highest >= lowest
