"""What a slider is as HTML, before any script runs, and that its style and script travel with the package."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xpsr_cli.evaluation
from xpsr_cli.evaluation.slider import page_assets, slider_html

PIXELS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
VOID = {"img", "link", "meta", "br"}


class Tags(HTMLParser):
    """All elements with their attributes; every one must be closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def held(image):
    """The bytes that an ``<img>`` holds."""
    head, _, data = image["src"].partition(";base64,")
    assert head.startswith("data:image/")
    return base64.b64decode(data)


def test_pictures_are_in_the_page_with_their_names_and_sizes(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(PIXELS).save(path)
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "WEBP", lossless=True)
    tags = Tags(slider_html([("pixels", PIXELS), ("file", path), ("bytes", stream.getvalue())], title="All kinds"))
    images = tags.of("img")
    assert [image["alt"] for image in images] == ["pixels", "file", "bytes"]
    assert {(image["width"], image["height"]) for image in images} == {("30", "20")}
    assert (np.asarray(Image.open(io.BytesIO(held(images[0])))) == PIXELS).all()
    assert held(images[1]) == path.read_bytes()
    assert held(images[2]) == stream.getvalue()
    assert tags.of("figure") == [{"class": "xpsr-slider", "aria-label": "All kinds"}]
    assert {"All kinds", "pixels", "file", "bytes"} <= set(tags.texts)


def test_names_are_text_and_never_markup():
    evil = '"><script>alert(1)</script>'
    tags = Tags(slider_html([(evil, PIXELS), ("b", PIXELS)], title=evil, note=evil))
    assert tags.of("script") == []
    assert tags.of("img")[0]["alt"] == evil
    assert tags.texts.count(evil) == 3


def test_one_picture_is_nothing_to_compare():
    with pytest.raises(ValueError, match="1 pictures"):
        slider_html([("a", PIXELS)])


def test_bytes_that_are_no_picture_are_refused():
    with pytest.raises(ValueError, match="no PNG, JPEG or WebP"):
        slider_html([("a", PIXELS), ("b", b"GIF89a and so on")])


def test_a_jpeg_in_bytes_that_lies_on_its_side_has_the_size_it_is_shown_in():
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 8
    Image.fromarray(PIXELS).save(stream, "JPEG", exif=exif)
    image = Tags(slider_html([("a", stream.getvalue()), ("b", PIXELS)])).of("img")[0]
    assert (image["width"], image["height"]) == ("20", "30")


def test_style_and_script_are_whole_and_fetch_nothing():
    assets = page_assets()
    folder = Path(xpsr_cli.evaluation.__file__).parent / "assets"
    for name in ("slider.css", "slider.js"):
        assert (folder / name).read_text(encoding="utf-8") in assets
    assert [tag for tag, _ in Tags(assets).found] == ["style", "script"]
    assert re.findall(r"https?:|//[a-z]|@import|fetch\(|XMLHttpRequest|url\(", assets) == []
