"""Sliders in a real browser without a window: what is seen of which picture when the line, the zoom and keys move."""

import base64
import io

import numpy as np
import pytest
from headless_browser import Browser, find_browser
from PIL import Image

from xpsr_cli.evaluation.compare_page import write_comparison, write_comparisons
from xpsr_cli.evaluation.comparison import Subject
from xpsr_cli.evaluation.slider import page_assets, slider_html

WIDTH, HEIGHT = 200, 150
STAGE, HANDLE = ".xpsr-stage", ".xpsr-handle"


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    browser = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started):
    """The browser; whatever a test does, the console stays silent and nothing is fetched but the page itself."""
    yield started
    assert started.errors == []
    assert [url for url in started.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def coordinates(blue, step=1):
    """(HEIGHT, WIDTH, 3) uint8 in which red and green say where a pixel is, in steps of ``step`` pixels."""
    rows, columns = np.mgrid[0:HEIGHT:step, 0:WIDTH:step]
    return np.stack([columns, rows, np.full_like(rows, blue)], -1).astype(np.uint8)


@pytest.fixture
def page(tmp_path):
    """Writes a page with one slider over pictures, or several of them."""

    def write(*sliders):
        made = [slider_html([(name, pixels) for name, pixels in each.items()], title="test") for each in sliders]
        style = "<style>:root { color-scheme: light dark; } body { margin: 20px; }</style>"
        head = f'<meta charset="utf-8"><link rel="icon" href="data:,">{style}{page_assets()}'
        path = tmp_path / "page.html"
        path.write_text(f"<!DOCTYPE html><html><head>{head}</head><body>{''.join(made)}</body></html>", "utf-8")
        return path

    return write


@pytest.fixture
def two(page):
    return page({"a": coordinates(0), "b": coordinates(200)})


def seen(browser):
    """The stage as it looks; the line, its knob, the names, their shadows and the round corners are masked."""
    stage = np.ma.masked_array(browser.look(STAGE).astype(int), mask=False)
    at = browser.box(STAGE)
    for name in (HANDLE, ".xpsr-pane.shown .xpsr-name", ".xpsr-pane.shown.right .xpsr-name"):
        if browser.ask(f"document.querySelector('{name}')?.checkVisibility()"):
            box = browser.box(name)
            left, top = max(0, int(box["x"] - at["x"]) - 8), max(0, int(box["y"] - at["y"]) - 8)
            stage[top : top + int(box["height"]) + 17, left : left + int(box["width"]) + 17] = np.ma.masked
    for corner in (stage[:8, :8], stage[:8, -8:], stage[-8:, :8], stage[-8:, -8:]):
        corner[...] = np.ma.masked
    return stage


def where(browser, values):
    """Mean position in the window, across, of the pixels whose blue is ``values`` and which are of a picture."""
    stage = seen(browser)
    found = (stage[..., 2] == values) & (stage[..., 0] < WIDTH) & (stage[..., 1] < HEIGHT)
    columns = np.nonzero(found.filled(False))[1]
    return (int(columns.min()), int(columns.max())) if columns.size else None


def click(browser, mode):
    browser.ask(f"document.querySelector('button[data-mode={mode}]').click()")
    browser.settle()


def centre(browser, selector):
    box = browser.box(selector)
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_line_parts_the_pictures_and_moves_with_the_mouse(browser, two):
    browser.open(two)
    first, last = where(browser, 0)[0], where(browser, 200)[1]
    x, y = centre(browser, HANDLE)
    line = x - browser.box(STAGE)["x"]
    assert line == pytest.approx((first + last + 1) / 2, abs=1)
    assert where(browser, 0)[1] < line < where(browser, 200)[0]

    browser.drag((x, y), (x - 120, y))
    assert where(browser, 0)[1] < line - 100
    assert line - 140 < where(browser, 200)[0] < line - 90
    browser.drag((x + 100, y), (x + 150, y))  # from anywhere on the picture
    assert line + 100 < where(browser, 0)[1] < line + 150
    assert browser.ask("document.activeElement.className") == "xpsr-handle"


def test_keys_move_the_line(browser, two):
    browser.open(two)
    browser.ask(f"document.querySelector('{STAGE}').focus()")
    browser.press("Tab")
    assert browser.ask("document.activeElement.getAttribute('role')") == "slider"
    now = "Number(document.querySelector('[role=slider]').getAttribute('aria-valuenow'))"
    assert browser.ask(now) == 50
    before = where(browser, 200)[0]
    browser.press("ArrowRight")
    browser.press("ArrowRight", shift=True)
    assert browser.ask(now) == 61
    assert where(browser, 200)[0] > before + 30
    browser.press("ArrowLeft")
    assert browser.ask(now) == 60
    browser.press("Home")
    assert (browser.ask(now), where(browser, 0)) == (0, None)
    browser.press("End")
    assert (browser.ask(now), where(browser, 200)) == (100, None)
    assert browser.ask("document.querySelector('[role=slider]').getAttribute('aria-valuetext')") == "100 % a, 0 % b"


def test_the_focus_is_seen(browser, two):
    browser.open(two)
    before = browser.look(HANDLE)
    browser.ask(f"document.querySelector('{STAGE}').focus()")
    browser.press("Tab")
    assert (browser.look(HANDLE) != before).any()


def touch(browser, kind, *points):
    at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=at)


def test_a_finger_moves_the_line_and_two_zoom(browser, two):
    browser.open(two)
    x, y = centre(browser, HANDLE)
    before = where(browser, 200)[0]
    touch(browser, "touchStart", (x, y))
    touch(browser, "touchMove", (x - 60, y))
    touch(browser, "touchMove", (x - 120, y))
    touch(browser, "touchEnd")
    browser.settle()
    assert where(browser, 200)[0] < before - 100

    zoom = "parseFloat(document.querySelector('.xpsr-tools output').textContent)"
    before = browser.ask(zoom)
    touch(browser, "touchStart", (x - 40, y), (x + 40, y))
    for apart in (60, 80, 120):
        touch(browser, "touchMove", (x - apart, y), (x + apart, y))
    touch(browser, "touchEnd")
    browser.settle()
    assert browser.ask(zoom) == pytest.approx(3 * before, rel=0.05)


def assert_in_register(browser, steps):
    """Every pixel that is seen is one of a picture, unmixed, where one zoom and one offset say, in both pictures.

    ``steps`` are by blue how coarse a picture's own pixels are. Gives the zoom.
    """
    stage = seen(browser)
    box = browser.box(".xpsr-pane.shown .xpsr-picture")
    at = browser.box(STAGE)
    zoom = box["width"] / WIDTH
    rows, columns = np.mgrid[0 : stage.shape[0], 0 : stage.shape[1]]
    across = (columns + 0.5 + at["x"] - box["x"]) / zoom
    down = (rows + 0.5 + at["y"] - box["y"]) / zoom
    inside = (across > 0) & (across < WIDTH) & (down > 0) & (down < HEIGHT)
    for blue, step in steps.items():
        of_it = inside & (stage[..., 2] == blue).filled(False)
        assert of_it.sum() > 500
        for found, wanted in ((stage[..., 0], across), (stage[..., 1], down)):
            assert (found[of_it] == np.floor(wanted[of_it] / step) * step).all()
    others = inside & ~np.isin(stage[..., 2].filled(next(iter(steps))), list(steps))
    assert not others.any()
    return zoom


@pytest.mark.parametrize("step", [1, 5])
def test_zoom_and_pan_keep_both_pictures_in_register(browser, page, step):
    browser.open(page({"large": coordinates(0), "small": coordinates(200, step)}))
    steps = {0: 1, 200: step}
    fitted = assert_in_register(browser, steps)
    assert fitted == 4  # the whole number of pixels that fits into 800 x 600 and less
    box = browser.box(STAGE)
    x, y = box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.4
    for _ in range(2):
        browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120)
    browser.settle()
    assert assert_in_register(browser, steps) == 8
    browser.drag((x, y), (x - 90, y + 70))
    assert assert_in_register(browser, steps) == 8
    browser.press("+")
    assert assert_in_register(browser, steps) == 12
    browser.ask("document.querySelector('button[aria-label=\"100 %\"]').click()")
    browser.settle()
    assert browser.box(".xpsr-pane.shown .xpsr-picture")["width"] == WIDTH
    browser.press("0")
    assert assert_in_register(browser, steps) == fitted


def test_a_double_click_zooms_at_its_place_and_back(browser, two):
    browser.open(two)
    x, y = centre(browser, STAGE)
    x -= 100

    def double_click():
        for count in (1, 2):
            browser.mouse("mousePressed", x, y, buttons=1, clicks=count)
            browser.mouse("mouseReleased", x, y, clicks=count)
        browser.settle()

    fitted = assert_in_register(browser, {0: 1, 200: 1})
    picture = browser.box(".xpsr-picture")
    under = (x - picture["x"]) / fitted
    double_click()
    assert assert_in_register(browser, {0: 1, 200: 1}) == 2 * fitted
    assert (x - browser.box(".xpsr-picture")["x"]) / (2 * fitted) == pytest.approx(under, abs=0.5)
    double_click()
    assert assert_in_register(browser, {0: 1, 200: 1}) == fitted


def test_dragging_moves_what_is_magnified(browser, two):
    browser.open(two)
    browser.ask(f"document.querySelector('{STAGE}').focus()")
    for _ in range(3):
        browser.press("+")
    before = browser.box(".xpsr-picture")
    x, y = centre(browser, STAGE)
    browser.drag((x - 100, y), (x - 60, y - 50))
    after = browser.box(".xpsr-picture")
    assert (after["x"] - before["x"], after["y"] - before["y"]) == (40, -50)
    browser.press("ArrowRight")
    assert browser.box(".xpsr-picture")["x"] == after["x"] - 60


def test_the_difference_of_equal_pictures_is_black(browser, page):
    same = coordinates(7)
    browser.open(page({"a": same, "b": same}))
    click(browser, "difference")
    browser.wait_for("document.querySelector('.xpsr-slider').dataset.difference === '0'")
    browser.ask("document.querySelector('[aria-label^=Amplification]').value = 4")
    picture = browser.box("canvas.xpsr-picture")
    stage, at = seen(browser), browser.box(STAGE)
    left, top = int(picture["x"] - at["x"]), int(picture["y"] - at["y"])
    assert stage[top : top + int(picture["height"]), left : left + int(picture["width"])].max() == 0
    assert "every pixel is the same" in browser.ask("document.querySelector('.xpsr-readout').textContent")


def test_the_difference_is_absolute_and_amplified(browser, page):
    a = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    b = a + np.array([10, 0, 3], np.uint8)
    b[:, WIDTH // 2 :] = [92, 130, 100]
    browser.open(page({"a": a, "b": b}))
    click(browser, "difference")
    browser.wait_for("document.querySelector('.xpsr-slider').dataset.difference === '30'")
    box, at = browser.box("canvas.xpsr-picture"), browser.box(STAGE)

    def halves():
        stage, y = browser.look(STAGE), int(box["height"] / 2)
        x = box["x"] - at["x"]
        return [tuple(int(v) for v in stage[y, int(x + box["width"] * share)]) for share in (0.25, 0.75)]

    assert halves() == [(40, 0, 12), (32, 120, 0)]
    choice = "document.querySelector('[aria-label^=Amplification]')"
    browser.ask(f"{choice}.value = 4, {choice}.dispatchEvent(new Event('change'))")
    assert halves() == [(160, 0, 48), (128, 255, 0)]
    browser.ask(f"{choice}.value = 0, {choice}.dispatchEvent(new Event('change'))")
    assert halves() == [(10, 0, 3), (8, 30, 0)]


def test_any_two_of_three_are_chosen_and_all_stand_side_by_side(browser, page):
    browser.open(page({"a": coordinates(0), "b": coordinates(100), "c": coordinates(200)}), 1400, 900)
    assert where(browser, 200) is None
    browser.ask(
        "(e => { e.value = 2; e.dispatchEvent(new Event('change')); })(document.querySelectorAll('select')[2])"
    )
    assert (where(browser, 100), where(browser, 200) is None) == (None, False)
    click(browser, "side")
    stage = browser.look(STAGE)
    third = (stage.shape[1] + 4) // 3
    for number, blue in enumerate((0, 100, 200)):
        pane = stage[:, number * third : (number + 1) * third - 4]
        middle = pane[pane.shape[0] // 2, pane.shape[1] // 2]
        assert middle.tolist() == [pytest.approx(WIDTH // 2, abs=1), pytest.approx(HEIGHT // 2, abs=1), blue]
    browser.press("0")
    assert browser.ask("[...document.querySelectorAll('.xpsr-pane.shown')].length") == 3


def test_pointing_reads_the_pixels_of_all_that_are_seen(browser, page):
    browser.open(page({"large": coordinates(0), "small": coordinates(200, 5)}))
    box = browser.box(".xpsr-picture")
    browser.mouse("mouseMoved", box["x"] + 4 * 33 + 2, box["y"] + 4 * 71 + 2)
    browser.settle()
    words = browser.ask("document.querySelector('.xpsr-readout').textContent")
    assert " ".join(words.split()) == "(33, 71) large: 33 71 0 · small: 30 70 200"


def test_a_picture_of_another_shape_is_not_stretched(browser, page):
    browser.open(page({"wide": coordinates(0), "high": np.full((100, 50, 3), 90, np.uint8)}))
    wide, high = (browser.box(f".xpsr-pane:nth-child({n}) .xpsr-picture") for n in (1, 2))
    assert high["height"] == wide["height"]
    assert high["width"] == high["height"] / 2
    assert high["x"] + high["width"] / 2 == wide["x"] + wide["width"] / 2


def test_on_a_page_of_many_the_wheel_scrolls_until_one_is_clicked(browser, page):
    pictures = {"a": coordinates(0), "b": coordinates(200)}
    browser.open(page(pictures, pictures, pictures))
    x, y = centre(browser, STAGE)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120)
    browser.settle()
    assert browser.ask("document.querySelector('.xpsr-tools output').textContent") == "400 %"
    browser.mouse("mousePressed", x, y, buttons=1, clicks=1)
    browser.mouse("mouseReleased", x, y, clicks=1)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120)
    browser.settle()
    zooms = browser.ask("[...document.querySelectorAll('.xpsr-tools output')].map(each => each.textContent)")
    assert zooms == ["600 %", "400 %", "400 %"]


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("many", [False, True])
def test_nothing_is_wider_than_the_window(browser, tmp_path, width, many):
    files = []
    for number in range(3):
        path = tmp_path / f"a_name_{'that_is_very_long_' * 6}{number}.png"
        Image.fromarray(coordinates(number * 80)).resize((1500, 400)).save(path)
        files.append((path.name, path))
    target = tmp_path / "page.html"
    if many:
        write_comparisons([Subject(files[0][0], tuple(files))] * 3, target, title="many")
    else:
        write_comparison(files, target)
    browser.open(target, width, 900)
    for mode in ("slider", "side", "difference"):
        click(browser, mode)
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.box(STAGE)["width"] > 0.4 * width
    assert browser.ask("document.querySelectorAll('.xpsr-slider.ready').length") == (3 if many else 1)


def test_it_follows_the_window_when_its_size_changes(browser, two):
    browser.open(two, 1000, 800)
    browser.resize(420, 800)
    browser.wait_for(f"document.querySelector('{STAGE}').clientWidth < 420")
    browser.settle()
    assert assert_in_register(browser, {0: 1, 200: 1}) == 1
    x = centre(browser, HANDLE)[0]
    assert x == pytest.approx(centre(browser, ".xpsr-picture")[0], abs=1)


def test_without_scripts_all_pictures_are_seen(browser, two):
    browser.open(two, scripts=False)
    blues = browser.look()[..., 2]
    assert (blues == 0).sum() > 0.9 * WIDTH * HEIGHT
    assert (blues == 200).sum() > 0.9 * WIDTH * HEIGHT


def test_it_is_dark_where_the_page_is(browser, two):
    browser.open(two)
    light = browser.look(".xpsr-tools")
    browser.open(two, dark=True)
    dark = browser.look(".xpsr-tools")
    assert light.mean() > 200
    assert dark.mean() < 80


def test_a_photo_is_shown_in_the_colours_and_the_way_up_that_its_reader_says(browser, tmp_path):
    """A JPEG that lies on its side and is kept, and the same picture upright as 16-bit TIFF, which is converted."""
    import tifffile

    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:32, :, 0], upright[32:, :, 2] = 200, 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    tifffile.imwrite(tmp_path / "b.tif", upright.astype(np.uint16) * 257, photometric="rgb")
    target = tmp_path / "page.html"
    comparison = write_comparison([("a", tmp_path / "a.jpg"), ("b", tmp_path / "b.tif")], target)
    assert [picture.change for picture in comparison.pictures] == ["", "converted from 16 bits to 8-bit sRGB"]
    browser.open(target)
    natural = browser.ask("[...document.querySelectorAll('img')].map(i => [i.naturalWidth, i.naturalHeight])")
    assert natural == [[48, 64], [48, 64]]
    click(browser, "difference")
    browser.wait_for("document.querySelector('.xpsr-slider').dataset.difference !== undefined")
    assert int(browser.ask("document.querySelector('.xpsr-slider').dataset.difference")) < 60  # JPEG at the edge
    drawn = browser.ask("document.querySelector('img').src")
    kept = base64.b64decode(drawn.partition("base64,")[2])
    assert kept == (tmp_path / "a.jpg").read_bytes()
    assert Image.open(io.BytesIO(kept)).size == (64, 48)
