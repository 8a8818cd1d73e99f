"""The page of a report: valid, whole, safe, of a bearable size, and usable in a browser."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from headless_browser import Browser, find_browser
from PIL import Image
from small_evaluations import LPIPS, PSNR, evaluation_of, with_files

from xpsr_cli.evaluation import cases
from xpsr_cli.evaluation.report_page import MOST_ROWS, report_page
from xpsr_cli.evaluation.scores import Evaluation, EvaluationSet, Failure, Missing, Pair
from xpsr_cli.evaluation.statistics import summarise

VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}
NASTY = "<img src=x onerror=alert(1)>\"'&"


class Elements(HTMLParser):
    """Every element of a page; an assertion fails where one is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.ids = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def named(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def page_of(evaluation):
    return report_page(evaluation, summarise(evaluation))


def two_methods(count=30, methods=("old", "new"), **more):
    generator = np.random.default_rng(0)
    scores = {(method, facts): generator.random(count).tolist() for method in methods for facts in (PSNR, LPIPS)}
    return evaluation_of(scores, metrics=(PSNR, LPIPS), **more)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """A page with pictures, which have noise so that they do not compress to nothing."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    evaluation = two_methods(count=8, dataset="realsr")
    pairs, results = [], {}
    for pair in evaluation.set.pairs:
        files = {name: folder / f"{pair.name}_{name}.png" for name in ("old", "new", "hr", "lr")}
        for name, path in files.items():
            side = 24 if name == "lr" else 96
            Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        pairs.append(Pair(pair.name, files["lr"], files["hr"]))
        results |= {(method, 0, pair.name): files[method] for method in ("old", "new")}
    path = folder / "report.html"
    path.write_text(page_of(with_files(evaluation, pairs, results)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


def test_elements_are_nested_and_ids_are_there_once(pictured):
    elements = Elements(pictured.read_text(encoding="utf-8"))
    assert elements.found[0][0] == "html"
    assert elements.named("html")[0]["lang"] == "en"
    assert elements.ids
    assert len(elements.ids) == len(set(elements.ids))
    targets = [attrs["href"] for attrs in elements.named("a")]
    assert len(targets) >= 5
    assert all(target[0] == "#" and target[1:] in elements.ids for target in targets)


def test_nothing_is_loaded_from_elsewhere(pictured):
    text = pictured.read_text(encoding="utf-8")
    elements = Elements(text)
    assert all(attrs["href"].startswith("data:") for attrs in elements.named("link"))
    assert not any("src" in attrs for attrs in elements.named("script"))
    assert all(attrs["src"].startswith("data:image/") for attrs in elements.named("img"))
    assert not re.search(r"@import|url\(['\"]?http", text)
    assert "default-src 'none'" in text


def test_names_are_only_text():
    evaluation = two_methods(
        count=3,
        methods=(NASTY, "old"),
        pictures=[NASTY + str(index) for index in range(3)],
        dataset=NASTY,
        missing=(Missing(NASTY, NASTY, NASTY),),
        failures=(Failure(NASTY, 0, NASTY, NASTY),),
        provenance={NASTY: {NASTY: {NASTY: [NASTY]}}, "command": [NASTY], "protocols": {NASTY: NASTY}},
    )
    text = page_of(evaluation)
    elements = Elements(text)
    assert elements.named("img") == []
    assert not any("onerror" in attrs for _, attrs in elements.found)
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") > 20


def test_what_was_done_and_what_was_not_is_told():
    evaluation = two_methods(
        missing=(Missing("dists", "its weights are not here", "xpsr weights pull dists"),),
        failures=(Failure("new", 0, "picture_007", "it is 500 x 512 and its original 512 x 512"),),
        provenance={
            "command": ["xpsr", "eval", "--predictions", "my results"],
            "protocols": {"osediff": {"border": "not cut"}},
            "notes": ["one thing", "another"],
            "python": "3.11",
            "empty": {},
        },
    )
    text = page_of(evaluation)
    assert "xpsr eval --predictions &#x27;my results&#x27;" in text
    assert "<summary>osediff</summary>" in text
    assert "<dt>border</dt><dd>not cut</dd>" in text
    assert "<li>one thing</li><li>another</li>" in text
    assert '<h3>Program</h3>\n<dl class="pairs"><div><dt>python</dt><dd>3.11</dd></div></dl>' in text
    assert "Empty" not in text
    assert "<pre>xpsr weights pull dists</pre>" in text
    assert "1 picture could not be scored" in text
    assert "500 x 512" in text


def test_published_numbers_stand_apart_and_only_with_their_set():
    text = page_of(two_methods(dataset="realsr"))
    results, reported = text.split('id="as-reported-by-papers"')
    assert "SeeSR" not in results
    assert "These numbers were not computed here" in reported
    assert "SeeSR, 50 steps" in reported
    assert "as-reported-by-papers" not in page_of(two_methods())


def test_an_evaluation_of_little_has_a_page_too():
    Elements(page_of(evaluation_of({("only", PSNR): [20.0]})))
    nothing = evaluation_of({("only", PSNR): [None]})
    assert "Worst and best" not in page_of(nothing)
    nobody = Evaluation(EvaluationSet("x", (), None), ("m",), {"m": (0,)}, (PSNR,), {})
    Elements(page_of(nobody))


def test_the_table_of_pictures_has_an_end():
    text = page_of(two_methods(count=MOST_ROWS))
    table = text[text.index('<table class="tall sortable">') :]
    assert table.count("<tr>") == 1 + MOST_ROWS
    assert f"The first {MOST_ROWS:,} of {2 * MOST_ROWS:,} rows" in table


def test_pictures_come_as_sliders(pictured):
    text = pictured.read_text(encoding="utf-8")
    sliders = text.count('<figure class="xpsr-slider"')
    assert 4 <= sliders <= 8
    assert text.count('src="data:image/webp') == 3 * sliders  # two methods and the original
    assert text.count('src="data:image/png') == sliders  # the input


def test_a_page_weighs_no_more_than_it_may(tmp_path, monkeypatch):
    evaluation = two_methods(count=8)
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(path)
    results = {(method, 0, pair.name): path for method in ("old", "new") for pair in evaluation.set.pairs}
    pictured = with_files(evaluation, evaluation.set.pairs, results)
    whole = page_of(pictured).count('class="xpsr-slider"')
    (encoded,) = {len(data) for _, data in cases.case_pictures(pictured, summarise(pictured), choose(pictured)[0])}
    monkeypatch.setattr(cases, "BYTES", 2 * 3 * encoded + 1)  # two pictures in each of three sliders
    assert whole > 3
    assert page_of(pictured).count('class="xpsr-slider"') == 3


def choose(evaluation):
    return cases.choose_cases(evaluation, summarise(evaluation))


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_windows_of_both_sizes(browser, pictured, width, dark):
    browser.open(pictured, width, 900, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    plots = browser.ask("[...document.querySelectorAll('.plots svg')].map(e => e.getBoundingClientRect().width)")
    assert plots
    assert all(200 < each < width for each in plots)
    style = "getComputedStyle(document.querySelector('{}')).{}"
    page, ink = (browser.ask(style.format(*of)) for of in (("body", "backgroundColor"), (".plots svg", "color")))
    lightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (page, ink)]
    assert (lightness[0] < 60 < 180 < lightness[1]) if dark else (lightness[0] > 200 > 60 > lightness[1])
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_table_of_pictures_is_sorted_with_the_keyboard(browser, tmp_path):
    evaluation = evaluation_of({("m", PSNR): [9.5, None, 30.0, 10.25, float("inf")]})
    path = tmp_path / "report.html"
    path.write_text(page_of(evaluation), encoding="utf-8")
    browser.open(path)
    browser.ask("document.querySelector('#all-pictures details').open = true")
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[2].textContent)"
    button = "document.querySelectorAll('table.sortable th button')[2]"
    browser.ask(f"{button}.focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", windowsVirtualKeyCode=13, text="\r")
    assert browser.ask(column) == ["9.50", "10.25", "30.00", "∞", "–"]
    assert browser.ask(f"{button}.parentElement.getAttribute('aria-sort')") == "ascending"
    browser.ask(f"{button}.click()")
    assert browser.ask(column) == ["∞", "30.00", "10.25", "9.50", "–"]
    assert browser.errors == []
