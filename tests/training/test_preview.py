"""The contact sheet: pairs where they belong, and words under them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.training.preview import (
    GAP_PX,
    LINE_PX,
    PICTURE_PX,
    Row,
    check_picture,
    draw_pairs,
    draw_sheet,
    save_picture,
)


def pair(level: float, side: int = PICTURE_PX, high: str = "a house", low: str = "blurred") -> dict:
    target = torch.full((3, side, side), 2 * level - 1)
    return {"target_pm1": target, "enlarged_pm1": -target, "high": high, "low": low}


def test_small_stands_left_of_large() -> None:
    page = np.asarray(draw_pairs([pair(1.0)]))
    top = LINE_PX + 2 * GAP_PX
    assert (page[top : top + PICTURE_PX, GAP_PX : GAP_PX + PICTURE_PX] == 0).all()
    large = GAP_PX + PICTURE_PX + GAP_PX
    assert (page[top : top + PICTURE_PX, large : large + PICTURE_PX] == 255).all()


@pytest.mark.parametrize("side", [16, 48, 64])
def test_small_crops_are_drawn_with_larger_pixels(side: int) -> None:
    page = np.asarray(draw_pairs([pair(0.5, side)]))
    large = -(-PICTURE_PX // side) * side
    top = LINE_PX + 2 * GAP_PX
    assert (page[top : top + large] == 128).all(axis=2).sum() == 2 * large**2
    title = (page[: LINE_PX + GAP_PX] < 255).any(axis=(0, 2)).nonzero()[0]
    assert title.max() < GAP_PX + 2 * PICTURE_PX


def test_every_pair_is_there_and_words_are_wrapped() -> None:
    short, long = draw_pairs([pair(0.5)] * 30), draw_pairs([pair(0.5, high="many words " * 20)] * 30)
    assert short.width == long.width
    assert long.height > short.height
    grey = (np.asarray(short) == 128).all(axis=2).sum() / PICTURE_PX**2
    assert grey == pytest.approx(60, abs=0.1)  # both halves of a pair


def test_words_change_the_picture() -> None:
    one, other = draw_pairs([pair(0.5, low="sharp")]), draw_pairs([pair(0.5, low="noisy")])
    assert one.size == other.size
    assert one.tobytes() != other.tobytes()


def test_no_word_stands_beside_its_pictures() -> None:
    page = np.asarray(
        draw_pairs([pair(0.5, high="many words of very different lengths, internationalisation too " * 3)])
    )
    right = GAP_PX + 2 * PICTURE_PX + GAP_PX
    assert (page[LINE_PX + 2 * GAP_PX :, right + 1 :] == 255).all()


def test_rows_of_pictures_of_other_sizes_fit() -> None:
    rows = [Row([np.zeros((size, size, 3), np.uint8)] * 3, ["words"]) for size in (32, 48)]
    page = draw_sheet(rows, titles=("a", "b", "c"))
    assert page.width >= 3 * 48
    assert (np.asarray(page) == 0).all(axis=2).sum() >= 3 * (32**2 + 48**2)


def test_a_picture_is_written_whole_with_its_folder_or_refused(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    save_picture(picture, tmp_path / "deep" / "sheet.png")
    assert Image.open(tmp_path / "deep" / "sheet.png").size == (4, 4)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["sheet.png"]
    with refusal(PhotoError, "sheet.png"):
        save_picture(picture, tmp_path / "deep" / "sheet.png" / "sheet.png")
    with refusal(PhotoError, "sheet.doc"):
        save_picture(picture, tmp_path / "sheet.doc")


@pytest.mark.parametrize("name", ["sheet", "sheet.doc", "sheet.psd", "sheet.fits"])
def test_what_cannot_be_written_is_known_before(name: str) -> None:
    with refusal(PhotoError, name, "something.png"):
        check_picture(Path(name))
