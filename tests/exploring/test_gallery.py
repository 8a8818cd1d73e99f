"""The page of answers: what it holds, and what it does in a real browser."""

import io
import math

import numpy as np
import pytest
from headless_browser import Browser, find_browser
from PIL import Image

from xpsr_cli.evaluation.slider import page_assets, slider_html
from xpsr_cli.exploring.gallery import Card, Slider, gallery_page
from xpsr_cli.exploring.records import Agreement

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
FIGURES = [(30, 61, 0.03), (50, 59, 0.02), (40, math.inf, 0.04), (35, 60, 0.01)]


def png(colour, side):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    cards = [
        Card(1 + n // 2, n % 2, f"prompt{1 + n // 2}-seed{n % 2}.png", Agreement(*figures), png((9, 9, 9), 4))
        for n, figures in enumerate(FIGURES)
    ]
    pictures = [("given", png((9, 9, 9), 4))]
    pictures += [(card.file, png(colour, 64)) for card, colour in zip(cards, COLOURS, strict=True)]
    slider = Slider(slider_html(pictures), page_assets())
    words = {"a <b>house</b> & $garden": "differ by 0.1", "a tree": "differ by 0.2"}
    text = gallery_page("tiny.png", "4 x 4 pixels", words, cards, png((9, 9, 9), 4), slider)
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_are_shown_as_they_are(page):
    text = page.read_text(encoding="utf-8")
    assert "a &lt;b&gt;house&lt;/b&gt; &amp; $garden" in text
    assert "<b>house" not in text
    assert "<li>a tree <span>differ by 0.2</span></li>" in text
    assert "no difference to the given picture; 40.0 dB before a repair of 0.0400" in text


def test_nothing_is_fetched(page):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "http://" not in text
    assert "https://" not in text


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    browser = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started, page):
    started.open(page, 1300, 900)
    yield started
    assert started.errors == []
    assert [url for url in started.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def seen(browser):
    return browser.ask("[...document.querySelectorAll('.answer')].filter(c => !c.hidden).map(c => +c.dataset.pane)")


def set_choice(browser, name, value):
    browser.ask(
        f"(() => {{ const s = document.querySelector('.tools').elements.{name}; s.value = '{value}';"
        " s.dispatchEvent(new Event('change')); })()"
    )


def test_cards_show_the_pictures_of_the_slider(browser):
    assert seen(browser) == [1, 2, 3, 4]
    shown = browser.ask(
        "[...document.querySelectorAll('.answer > img')].every((img, n) => img.naturalWidth === 64"
        " && img.src === document.querySelectorAll('.xpsr-pane img')[n + 1].src)"
    )
    assert shown is True


def test_answers_are_filtered_by_prompt(browser):
    set_choice(browser, "prompt", "2")
    assert seen(browser) == [3, 4]
    assert browser.ask("document.querySelector('.count').textContent") == "2 of 4"
    set_choice(browser, "prompt", "")
    assert seen(browser) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("pane", [1, 2, 3, 4]),
        ("seed", [1, 3, 2, 4]),
        ("agreement", [3, 1, 4, 2]),
        ("model", [2, 3, 4, 1]),
        ("repair", [4, 2, 1, 3]),
    ],
)
def test_answers_are_sorted(browser, key, order):
    set_choice(browser, "sort", key)
    assert seen(browser) == order


def test_the_two_that_were_clicked_last_are_compared(browser):
    for pane in (2, 4):
        browser.ask(f"document.querySelector('.card[data-pane=\"{pane}\"]').click()")
    sides = browser.ask(
        "[...document.querySelectorAll('.card[data-side]')].map(c => [+c.dataset.pane, c.dataset.side])"
    )
    assert sorted(sides) == [[2, "left"], [4, "right"]]
    stage = browser.look(".xpsr-stage")
    middle = stage[stage.shape[0] // 2]
    width = len(middle)
    assert np.abs(middle[width // 2 - 40].astype(int) - COLOURS[1]).max() < 8
    assert np.abs(middle[width // 2 + 40].astype(int) - COLOURS[3]).max() < 8


def test_what_is_chosen_in_the_slider_is_marked(browser):
    browser.ask(
        "(() => { const s = document.querySelector('select[title=\"Right picture\"]'); s.value = 3;"
        " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    assert browser.ask("document.querySelector('.card[data-side=right]').dataset.pane") == "3"


def test_without_scripts_all_pictures_are_seen(started, page):
    started.open(page, 1300, 900, scripts=False)
    picture = started.look()
    for colour in COLOURS:
        assert (np.abs(picture.astype(int) - colour).max(axis=-1) < 8).sum() > 1000
    started.open(page, 1300, 900)
