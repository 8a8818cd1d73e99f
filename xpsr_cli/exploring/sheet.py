"""A contact sheet of answers to one small picture: a row for each prompt, a column for each seed.

Under each answer stands what it is reduced to, and in front of each row the given picture: the two must look the same.
"""

# shapes: pictures are (H, W, 3) uint8, reduced ones (h, w, 3)

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from xpsr_cli.photos.photo import Pixels

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MOST_COLUMNS = 8
"""Answers beside each other; a row of more goes on below."""
CELL_PX = 320
"""Longer side of an answer on the sheet at most; larger ones are reduced, and all of them where there are many."""
_LEAST_CELL_PX = 128
_SHEET_PIXELS = 50_000_000
_GAP_PX = 12
_LINE_PX = 17
_FONT_PX = 13
_TEXT_PX = 92  # beside a reduced picture: as wide as "repair 0.0123"
_GREY = (96, 96, 96)
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf", "arial.ttf")
"""Fonts of many alphabets that Linux, macOS and Windows have."""


@dataclass(frozen=True, eq=False)
class SheetSample:
    """One answer: its pixels, what they are reduced to, and a few short lines of text."""

    picture: Pixels
    reduced: Pixels
    lines: Sequence[str]


@dataclass(frozen=True, eq=False)
class SheetRow:
    """All answers to one prompt, which ``heading`` says."""

    heading: str
    samples: Sequence[SheetSample]


def draw_sheet(given: Pixels, rows: Sequence[SheetRow], *, title: str) -> Image.Image:
    """The sheet, on white. All answers are of one size; ``given`` is the small picture that they answer."""
    across = min(MOST_COLUMNS, max(len(row.samples) for row in rows))
    cells = sum((across + 1) * -(-len(row.samples) // across) for row in rows)
    height, width = rows[0].samples[0].picture.shape[:2]
    shown = _shown_size(width, height, cells)
    thumb = _thumb_size(given.shape[1], given.shape[0], shown)
    cell = max(shown[0], thumb[0] + _GAP_PX // 2 + _TEXT_PX)
    font, legible = _font_for(title, *(row.heading for row in rows))
    wide = (across + 1) * (cell + _GAP_PX) - _GAP_PX
    small = SheetSample(given, given, ["given", f"{given.shape[1]} x {given.shape[0]}"])

    blocks = [_text(legible(title), wide, font, _GREY)]
    for row in rows:
        blocks.append(_text(legible(row.heading), wide, font))
        for start in range(0, len(row.samples), across):
            line = [_cell(small, shown, thumb, cell, font, smooth=False)]
            line += [_cell(each, shown, thumb, cell, font) for each in row.samples[start : start + across]]
            blocks.append(_beside(line, cell))
    return _below(blocks, wide)


def wrapped(text: str, wide: float, font: Font) -> list[str]:
    """Lines of ``text`` that are no wider than ``wide`` pixels; a word that is longer is broken."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= wide:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > wide:
                lines.append("")
            lines[-1] += letter
    return lines


def _font_for(*texts: str) -> tuple[Font, Callable[[str], str]]:
    """A font, and what makes a text legible in it: the one that comes with Pillow has no letters beyond ASCII."""
    if not all(text.isascii() for text in texts):
        for name in _WIDE_FONTS:
            with suppress(OSError):
                return ImageFont.truetype(name, _FONT_PX), str
    return ImageFont.load_default(_FONT_PX), without_accents


def without_accents(text: str) -> str:
    """The text in ASCII: letters without their accents, and question marks for what has no such letter."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def _shown_size(width: int, height: int, cells: int) -> tuple[int, int]:
    """How large answers are shown: in their own pixels, or whole multiples of them, or reduced."""
    most = min(CELL_PX, max(_LEAST_CELL_PX, int(math.sqrt(_SHEET_PIXELS / cells))))
    longest = max(width, height)
    if longest > most:
        return max(1, round(width * most / longest)), max(1, round(height * most / longest))
    grow = max(1, _LEAST_CELL_PX // longest)
    return width * grow, height * grow


def _thumb_size(width: int, height: int, shown: tuple[int, int]) -> tuple[int, int]:
    """How large small pictures are shown under answers."""
    most = max(max(shown) // 3, 48)
    longest = max(width, height)
    if longest > most:
        return max(1, round(width * most / longest)), max(1, round(height * most / longest))
    return width * (most // longest), height * (most // longest)


def _cell(
    sample: SheetSample, shown: tuple[int, int], thumb: tuple[int, int], wide: int, font: Font, *, smooth: bool = True
) -> Image.Image:
    lines = [part for line in sample.lines for part in wrapped(line, wide - thumb[0] - _GAP_PX // 2, font)]
    below = max(thumb[1], _LINE_PX * len(lines))
    made = Image.new("RGB", (wide, shown[1] + _GAP_PX // 2 + below), "white")
    made.paste(_resized(sample.picture, shown, smooth=smooth), (0, 0))
    top = shown[1] + _GAP_PX // 2
    made.paste(_resized(sample.reduced, thumb, smooth=False), (0, top))
    draw = ImageDraw.Draw(made)
    for number, line in enumerate(lines):
        draw.text((thumb[0] + _GAP_PX // 2, top + _LINE_PX * number), line, fill="black", font=font)
    return made


def _resized(picture: Pixels, size: tuple[int, int], *, smooth: bool) -> Image.Image:
    """Enlarged pixels stay squares; what is reduced is smoothed. ``smooth`` is for pictures of any factor."""
    image = Image.fromarray(picture)
    grows = size[0] >= image.width
    whole = size[0] % image.width == 0 and size[1] % image.height == 0
    nearest = grows and (whole or not smooth)
    return image.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS)


def _text(text: str, wide: int, font: Font, fill: str | tuple[int, int, int] = "black") -> Image.Image:
    lines = wrapped(text, wide, font)
    made = Image.new("RGB", (wide, _LINE_PX * len(lines)), "white")
    draw = ImageDraw.Draw(made)
    for number, line in enumerate(lines):
        draw.text((0, _LINE_PX * number), line, fill=fill, font=font)
    return made


def _beside(cells: Sequence[Image.Image], wide: int) -> Image.Image:
    made = Image.new("RGB", (len(cells) * (wide + _GAP_PX), max(cell.height for cell in cells)), "white")
    for number, cell in enumerate(cells):
        made.paste(cell, (number * (wide + _GAP_PX), 0))
    return made


def _below(blocks: Sequence[Image.Image], wide: int) -> Image.Image:
    page = Image.new("RGB", (wide + 2 * _GAP_PX, sum(block.height + _GAP_PX for block in blocks) + _GAP_PX), "white")
    top = _GAP_PX
    for block in blocks:
        page.paste(block, (_GAP_PX, top))
        top += block.height + _GAP_PX
    return page
