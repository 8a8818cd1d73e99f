"""What a file is by its first bytes, and which formats can be read, which written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import formats


@pytest.mark.parametrize("photo_format", formats.INPUT_FORMATS, ids=lambda f: f.name)
def test_every_format_is_known_by_what_a_writer_of_it_makes(photo_format):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, photo_format.name)
    assert formats.identify(buffer.getvalue()[:16]) is photo_format
    assert photo_format.name in formats.FORMAT_NAMES
    assert set(photo_format.extensions) <= set(formats.EXTENSIONS)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PDF", "JPEG2000"])
def test_other_kinds_are_no_photos_but_have_a_name(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, kind)
    head = buffer.getvalue()[:16]
    assert formats.identify(head) is None
    assert kind.replace("JPEG2000", "JPEG 2000") in formats.other_kind(head)


def test_unknown_bytes_are_nothing():
    assert formats.identify(b"hello, world....") is None
    assert formats.other_kind(b"hello, world....") is None
    assert formats.identify(b"") is None


@pytest.mark.parametrize("name", ["a.PNG", "b.jpeg", "c.webp", "d.tif", "e.TIFF"])
def test_outputs_are_told_by_extension(name):
    assert Path(name).suffix.lower() in formats.format_of_output(Path(name)).extensions


@pytest.mark.parametrize("name", ["a.avif", "b.gif", "c"])
def test_outputs_that_cannot_be_written_name_those_that_can(name):
    with refusal(PhotoError, name, ".png, .jpg, .jpeg, .webp, .tif, .tiff.") as caught:
        formats.format_of_output(Path(name))
    assert ".avif" not in caught.value.hint


def test_limits_are_the_specifications():
    assert formats.JPEG.max_exif_bytes == 65527
    assert formats.JPEG.max_xmp_bytes == 65504
    assert formats.WEBP.max_side_px == 2**14 - 1
