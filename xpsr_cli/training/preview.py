"""A contact sheet of training pairs: small photo | large photo, the words under each pair as they are trained on."""

# shapes: pictures are (H, W, 3) uint8

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.formats import reason
from xpsr_cli.photos.whole_file import whole_or_absent

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LINE_PX = 14
GAP_PX = 6
SHEET_PX = 1600  # wide, about
PICTURE_PX = 128  # wide at least, so that a title fits over it


@dataclass(frozen=True)
class Row:
    """Pictures of one size side by side, and what is said of them."""

    pictures: Sequence[np.ndarray]
    words: Sequence[str]


def draw_sheet(rows: Sequence[Row], *, titles: Sequence[str] = (), columns: int = 1) -> Image.Image:
    """``rows`` on white, ``columns`` of them beside each other; ``titles`` stand over the pictures of the first."""
    blocks = [_block(row) for row in rows]
    columns = min(columns, len(blocks))
    width = max(block.width for block in blocks) + GAP_PX
    head = LINE_PX + GAP_PX if titles else 0
    bands = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    heights = [max(block.height for block in band) + GAP_PX for band in bands]
    page = Image.new("RGB", (columns * width + GAP_PX, head + sum(heights) + GAP_PX), "white")
    draw = ImageDraw.Draw(page)
    for column in range(columns):
        for index, title in enumerate(titles):
            across = rows[0].pictures[0].shape[1] + GAP_PX
            draw.text((GAP_PX + column * width + index * across, GAP_PX), title, fill="black", font=_font())
    top = head + GAP_PX
    for band, height in zip(bands, heights, strict=True):
        for column, block in enumerate(band):
            page.paste(block, (GAP_PX + column * width, top))
        top += height
    return page


def draw_pairs(pairs: Iterable[dict[str, Tensor | str]]) -> Image.Image:
    """Items of :class:`~xpsr_cli.training.dataset.TrainingPairs` as a contact sheet, small crops enlarged."""
    rows = [
        Row(
            [_visible(to_u8(item["enlarged_pm1"])), _visible(to_u8(item["target_pm1"]))],  # type: ignore[arg-type]
            [f"content: {item['high'] or '-'}", f"quality: {item['low'] or '-'}"],
        )
        for item in pairs
    ]
    side = rows[0].pictures[0].shape[1]
    return draw_sheet(rows, titles=("small, enlarged", "large"), columns=max(1, SHEET_PX // (2 * side)))


def _visible(picture: np.ndarray) -> np.ndarray:
    factor = -(-PICTURE_PX // picture.shape[1])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def to_u8(photo_pm1: Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1] as a picture."""
    return ((photo_pm1.permute(1, 2, 0).numpy() + 1) * 127.5 + 0.5).clip(0, 255).astype(np.uint8)


def check_picture(path: Path) -> str:
    """The format that the ending of ``path`` means; :class:`PhotoError` where it means none that can be written."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise PhotoError(f"{path} has no ending of a picture.", "Call it something.png.")
    return kind


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture, its folder too, whole or not at all; :class:`PhotoError` where that cannot be."""
    kind = check_picture(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhotoError(f"{path} cannot be written: {reason(error)}.", "Name another place.") from error
    with whole_or_absent(path) as file:
        picture.save(file, format=kind)


def _block(row: Row) -> Image.Image:
    height, width = row.pictures[0].shape[:2]
    wide = len(row.pictures) * (width + GAP_PX) - GAP_PX
    font = _font()
    lines = [line for words in row.words for line in _wrapped(words, wide, font)]
    block = Image.new("RGB", (wide, height + LINE_PX * len(lines) + GAP_PX), "white")
    for index, picture in enumerate(row.pictures):
        block.paste(Image.fromarray(picture), (index * (width + GAP_PX), 0))
    draw = ImageDraw.Draw(block)
    for index, line in enumerate(lines):
        draw.text((0, height + 2 + LINE_PX * index), line, fill="black", font=font)
    return block


def _wrapped(words: str, wide: int, font: Font) -> list[str]:
    """Lines that are no wider than the pictures over them, but of one word at least."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > wide:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _font() -> Font:
    return ImageFont.load_default(11)
