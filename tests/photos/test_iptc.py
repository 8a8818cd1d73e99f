"""IPTC records are found wherever files keep them, and stay the same bytes."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, IptcImagePlugin, JpegImagePlugin

from xpsr_cli.photos.iptc import PNG_KEYWORD, iptc_of, photoshop_segment, png_text

RECORDS = (  # character set UTF-8, title, caption, city
    b"\x1c\x01\x5a\x00\x03\x1b%G\x1c\x02\x05\x00\x05T\xc3\xb6ne\x1c\x02\x78\x00\x08A caption"[:-1]
    + b"\x1c\x02\x5a\x00\x05Paris"
)


def resource(number, data, name=b""):
    named = bytes([len(name)]) + name
    named += bytes(len(named) % 2)
    return b"8BIM" + struct.pack(">H", number) + named + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)


BLOCKS = {
    "alone": resource(0x0404, RECORDS),
    "behind others": resource(0x03ED, bytes(16)) + resource(0x0425, b"digest.", b"named") + resource(0x0404, RECORDS),
    "before others": resource(0x0404, RECORDS) + resource(0x040C, b"thumbnail"),
}


def hexadecimal(data, name="iptc"):
    return f"\n{name}\n{len(data):8d}\n" + "\n".join(data.hex()[at : at + 72] for at in range(0, 2 * len(data), 72))


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_records_are_found_among_resources(block):
    assert iptc_of({"iptc": block}) == RECORDS
    assert iptc_of({PNG_KEYWORD: hexadecimal(block)}) == RECORDS
    assert iptc_of({"Raw profile type 8bim": hexadecimal(block, "8bim")}) == RECORDS


def test_bare_records_are_taken_as_they_are():
    assert iptc_of({"iptc": RECORDS}) == RECORDS
    assert iptc_of({"iptc": RECORDS + b"\0\0\0"}) == RECORDS  # TIFFs round up to four bytes
    assert iptc_of({PNG_KEYWORD: hexadecimal(RECORDS)}) == RECORDS
    assert iptc_of({"photoshop": {0x0404: RECORDS, 0x03ED: b"x"}}) == RECORDS


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"iptc": b""},
        {"iptc": b"nonsense"},
        {"iptc": b"8BIM"},
        {"iptc": b"8BIM\x04\x04\0\0\0"},
        {"iptc": b"8BIM\x04\x04\xff\0"},
        {"iptc": resource(0x03ED, bytes(16))},
        {"photoshop": {0x03ED: b"x"}},
        {"photoshop": b"raw"},
        {PNG_KEYWORD: "\niptc\n 4\nzz"},
        {PNG_KEYWORD: ""},
    ],
)
def test_without_records_there_are_none(info):
    assert iptc_of(info) is None


@pytest.mark.parametrize("records", [RECORDS, RECORDS + b"\x1c\x02\x19\x00\x01x", RECORDS * 100])
def test_pillow_reads_the_segment_of_a_jpeg(records):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    segment = photoshop_segment(records)
    plain = buffer.getvalue()
    marked = plain[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(marked))
    assert iptc_of(image.info) == records
    if records == RECORDS:
        assert IptcImagePlugin.getiptcinfo(image)[(2, 5)] == b"T\xc3\xb6ne"


def test_the_text_of_a_png_is_what_imagemagick_writes():
    text = png_text(RECORDS)
    name, size, *lines = text.strip("\n").split("\n")
    assert name == "iptc"
    assert int(size) == len(bytes.fromhex("".join(lines)))
    assert all(len(line) <= 72 for line in lines)
    assert iptc_of({PNG_KEYWORD: text}) == RECORDS


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_padding_goes_and_an_empty_last_record_stays(padding):
    records = RECORDS + b"\x1c\x02\x05\x00\x00"
    assert iptc_of({"iptc": records + bytes(padding)}) == records
