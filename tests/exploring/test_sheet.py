"""Contact sheets: what is where, and that words and pictures stay within the page."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from xpsr_cli.exploring.sheet import CELL_PX, MOST_COLUMNS, SheetRow, SheetSample, draw_sheet, without_accents, wrapped

GIVEN = np.full((4, 6, 3), (10, 200, 30), np.uint8)


def flat(colour, height=128, width=192):
    return np.full((height, width, 3), colour, np.uint8)


def sample(colour, reduced=(10, 200, 30), lines=("seed 0", "61.0 dB"), size=(128, 192)):
    return SheetSample(flat(colour, *size), flat(reduced, 4, 6), lines)


def area_of(sheet, colour):
    return int((np.asarray(sheet) == np.array(colour, np.uint8)).all(axis=-1).sum())


def test_every_picture_is_there_at_its_size():
    rows = [
        SheetRow("red and blue", [sample((255, 0, 0)), sample((0, 0, 255), reduced=(9, 9, 90))]),
        SheetRow("yellow", [sample((255, 255, 0))]),
    ]
    sheet = draw_sheet(GIVEN, rows, title="tiny.png")
    for colour in ((255, 0, 0), (0, 0, 255), (255, 255, 0)):
        assert area_of(sheet, colour) == 128 * 192
    thumb = area_of(sheet, (9, 9, 90))
    assert thumb >= 48 * 32
    # the given picture in front of both rows, large and small, and under the two answers that agree with it
    assert area_of(sheet, (10, 200, 30)) == 2 * 128 * 192 + 4 * thumb


def test_small_answers_are_enlarged_to_whole_squares_and_large_ones_reduced():
    small = draw_sheet(GIVEN, [SheetRow("", [sample((255, 0, 0), size=(20, 30))])], title="")
    assert area_of(small, (255, 0, 0)) == 80 * 120
    large = draw_sheet(GIVEN, [SheetRow("", [sample((255, 0, 0), size=(1000, 1500))])], title="")
    assert area_of(large, (255, 0, 0)) == CELL_PX * round(CELL_PX * 1000 / 1500)


def test_long_rows_go_on_below():
    row = SheetRow("many", [sample((255, 0, 0)) for _ in range(MOST_COLUMNS + 3)])
    sheet = draw_sheet(GIVEN, [row], title="")
    assert area_of(sheet, (255, 0, 0)) == (MOST_COLUMNS + 3) * 128 * 192
    assert sheet.width < (MOST_COLUMNS + 2) * 300


def test_hundreds_of_answers_make_no_picture_of_gigabytes():
    row = SheetRow("many", [sample((255, 0, 0), size=(320, 320)) for _ in range(40)])
    sheet = draw_sheet(GIVEN, [row] * 40, title="")
    assert sheet.width * sheet.height < 120_000_000


def test_a_tall_given_picture_fits_its_cell():
    given = flat((10, 200, 30), 40, 3)
    tall = SheetSample(flat((255, 0, 0), 160, 12), given, ["seed 0"])
    sheet = draw_sheet(given, [SheetRow("tall", [tall])], title="")
    assert area_of(sheet, (255, 0, 0)) == 160 * 12
    assert area_of(sheet, (10, 200, 30)) > 0


def test_prompts_without_spaces_are_broken_within_the_page():
    rows = [SheetRow("x" * 2000, [sample((255, 0, 0))])]
    sheet = np.asarray(draw_sheet(GIVEN, rows, title="t" * 2000))
    assert (sheet[:, -8:] == 255).all()  # the margin is free
    assert sheet.shape[0] > 600


@pytest.mark.parametrize("text", ["", "one", "several words of a prompt in a narrow column", "incomprehensibilities"])
def test_wrapped_lines_hold_all_of_the_text(text):
    font = ImageFont.load_default(13)
    lines = wrapped(text, 60, font)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= 60 for line in lines)


def test_the_sheet_is_a_picture_without_transparency():
    assert isinstance(made := draw_sheet(GIVEN, [SheetRow("a", [sample((1, 2, 3))])], title="t"), Image.Image)
    assert made.mode == "RGB"


def test_prompts_of_any_alphabet_are_drawn():
    rows = [SheetRow("H\u00e4user, \u0414\u043e\u043c, \u5bb6", [sample((255, 0, 0))])]
    assert area_of(draw_sheet(GIVEN, rows, title=""), (0, 0, 0)) > 20


def test_without_a_font_for_it_a_text_becomes_ascii():
    assert without_accents("H\u00e4user, \u00f1and\u00fa, \u0414\u043e\u043c") == "Hauser, nandu, ???"


def test_a_sheet_is_drawn_where_no_font_is_installed(monkeypatch):
    asked = []
    truetype = ImageFont.truetype

    def only_pillows(font, *size, **more):
        if isinstance(font, str):
            asked.append(font)
            raise OSError("no such font")
        return truetype(font, *size, **more)

    monkeypatch.setattr(ImageFont, "truetype", only_pillows)
    rows = [SheetRow("H\u00e4user", [sample((255, 0, 0))])]
    plain = [SheetRow("Hauser", [sample((255, 0, 0))])]
    assert np.array_equal(draw_sheet(GIVEN, rows, title=""), draw_sheet(GIVEN, plain, title=""))
    assert len(asked) > 1
