"""XMP packets get properties, and what the user had in them stays as it was, byte for byte."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest

from xpsr_cli.photos import xmp, xmp_size
from xpsr_cli.photos.xmp import DIGITAL_SOURCE_TYPE, MANIFEST, TEXTS, Property

TITLE = Property("http://purl.org/dc/elements/1.1/", "dc", "title")
HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
DECLARED = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:lr="http://ns.example/lr/" '
EXT = 'xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
BODY = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Some Toolkit 5.6">\n <rdf:RDF {declared}>\n'
    "{descriptions}\n </rdf:RDF>\n</x:xmpmeta>\n{padding}<?xpacket end='w'?>"
)
USERS = (
    '  <rdf:Description rdf:about="uuid:1&amp;2" lr:rating=\'5 > "4"\' lr:label="T\u00f6ne">\n'
    "   <!-- a note --><lr:nested><rdf:Bag><rdf:li>one</rdf:li><rdf:li>two</rdf:li></rdf:Bag></lr:nested>\n"
    "   <lr:empty/>\n  </rdf:Description>"
)


def packet(descriptions=USERS, declared=DECLARED, padding=" " * 200 + "\n"):
    return (HEAD + BODY.format(declared=declared, descriptions=descriptions, padding=padding)).encode()


def count(made, wanted):
    """How often a property stands in a packet, as an attribute or an element, by another parser."""
    tree = ElementTree.fromstring(made)
    return sum((element.tag == wanted.tag) + (wanted.tag in element.attrib) for element in tree.iter())


def test_a_new_packet_is_well_formed_and_says_it():
    made = xmp.with_properties(None, {MANIFEST: xmp.as_text('{"a":"<&>\\"\u00e9"}')})
    assert xmp.read_property(made, MANIFEST) == '{"a":"<&>\\"\u00e9"}'
    assert made.startswith(HEAD.strip().encode())
    assert made.endswith(b'<?xpacket end="w"?>')


def test_what_the_user_had_stays_byte_for_byte():
    before = packet()
    made = xmp.with_properties(before, {MANIFEST: "{}", DIGITAL_SOURCE_TYPE: "one"})
    at = before.index(b"</rdf:RDF>")
    assert made.startswith(before[:at])
    assert made.endswith(before[at:])
    assert xmp.read_property(made, MANIFEST) == "{}"
    assert b'rdf:about="uuid:1&amp;2" xmlns' in made


def test_properties_are_replaced_and_never_doubled():
    made = packet()
    for number in range(5):
        made = xmp.with_properties(made, {MANIFEST: str(number), DIGITAL_SOURCE_TYPE: f"type {number}"})
    assert count(made, MANIFEST) == count(made, DIGITAL_SOURCE_TYPE) == 1
    assert xmp.read_property(made, MANIFEST) == "4"
    assert len(made) == len(xmp.with_properties(packet(), {MANIFEST: "0", DIGITAL_SOURCE_TYPE: "type 0"}))


@pytest.mark.parametrize(
    "had",
    [
        '<rdf:Description rdf:about="" ext:DigitalSourceType="a"/>',
        "<rdf:Description rdf:about='' ext:DigitalSourceType = 'a > b' lr:x=\" ext:DigitalSourceType='z'\">"
        "</rdf:Description>",
        "<rdf:Description><ext:DigitalSourceType>a</ext:DigitalSourceType><lr:y/></rdf:Description>",
        '<rdf:Description><ext:DigitalSourceType rdf:resource="a" /><lr:y>b</lr:y></rdf:Description>',
        '<rdf:Description lr:y="&gt;"><ext:DigitalSourceType>a</ext:DigitalSourceType ></rdf:Description>',
        "<rdf:Description><ext:DigitalSourceType><lr:DigitalSourceType>a</lr:DigitalSourceType></ext:DigitalSourceType>"
        "</rdf:Description><rdf:Description ext:DigitalSourceType='b'/>",
    ],
)
def test_a_property_the_user_had_is_replaced_however_it_was_written(had):
    before = packet(USERS + had, DECLARED + EXT)
    made = xmp.with_properties(before, {DIGITAL_SOURCE_TYPE: "new"})
    assert count(made, DIGITAL_SOURCE_TYPE) == 1
    assert xmp.read_property(made, DIGITAL_SOURCE_TYPE) == "new"
    users = {element.tag for element in ElementTree.fromstring(before).iter()}
    kept = {element.tag for element in ElementTree.fromstring(made).iter()}
    assert users - kept <= {"{http://ns.example/lr/}DigitalSourceType"}
    for value in (b'5 > "4"', b"<!-- a note -->", *([b" ext:DigitalSourceType='z'"] if b"'z'" in before else [])):
        assert value in made


def test_properties_can_be_taken_out():
    made = xmp.with_properties(packet(), {MANIFEST: "{}"})
    assert xmp.with_properties(made, {MANIFEST: None}) == packet()


def test_an_empty_packet_is_filled():
    for rdf in (packet(""), packet("").replace(b" >\n\n </rdf:RDF>", b"/>")):
        assert xmp.read_property(xmp.with_properties(rdf, {MANIFEST: "x"}), MANIFEST) == "x"


BOMB = (
    '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1 if n else str()};" * 10}">' for n in range(9))
    + "]>"
).encode()


@pytest.mark.parametrize(
    "broken",
    [
        b"nonsense",
        b"<x:xmpmeta>",
        packet()[:-250],
        packet().replace(b"</rdf:RDF>", b""),
        packet().replace("\u00f6".encode(), b"\xf6"),
        packet().decode().encode("utf-16"),
        b"<a>no rdf</a>",
        BOMB + packet().split(b"?>", 1)[1].replace(b"one", b"&a8;"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">' + packet().split(b"?>", 1)[1],
    ],
    ids=["text", "cut", "truncated", "unclosed", "latin", "utf-16", "other", "bomb", "external"],
)
def test_senseless_packets_are_left_alone(broken):
    start = time.process_time()
    assert xmp.with_properties(broken, {MANIFEST: "{}"}) is None
    assert xmp.with_texts(broken, [("a", "b")]) is None
    assert xmp.read_property(broken, MANIFEST) is None
    assert list(xmp.read_texts(broken)) == []
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "huge",
    [
        b"<xmp:Thumbnails>" * 2**18,
        b"<xmp:Thumbnails></xap:Thumbnails>" * 2**17,
        b"mwg-rs:AppliedToDimensions stDim:w=" * 2**17,
        packet("<rdf:Description>" + "<a/>" * 2**18 + "</rdf:Description>"),
        packet("<rdf:Description>" + "<a>" * 2**16 + "</a>" * 2**16 + "</rdf:Description>"),
        packet("<rdf:Description" + "".join(f' a{n}="\'"' for n in range(2**15)) + "/>"),
        packet("<rdf:Description>" + "<a/>" * 2**22 + "</rdf:Description>"),
        b'<a b="' * 2**20,
    ],
    ids=["open", "unlike", "regions", "wide", "deep", "attributes", "beyond", "quotes"],
)
def test_packets_made_to_take_long_do_not(huge):
    start = time.process_time()
    xmp_size.with_size(xmp_size.upright(huge), 70, 80)
    xmp.with_properties(huge, {MANIFEST: "{}", DIGITAL_SOURCE_TYPE: "x"})
    assert xmp.read_property(huge, MANIFEST) is None
    assert time.process_time() - start < 5


def test_thumbnails_are_taken_out():
    parts = [
        b"<a>",
        b"<xmp:Thumbnails><rdf:Alt>AA</rdf:Alt></xmp:Thumbnails>",
        b"<b/>",
        b"<xap:Thumbnails></xap:Thumbnails>",
    ]
    assert xmp_size.upright(b"".join([*parts, b"</a>"])) == b"<a><b/></a>"
    assert xmp_size.upright(b"<a><xmp:Thumbnails></a>") == b"<a><xmp:Thumbnails></a>"


def test_zeros_behind_a_packet_do_no_harm():
    made = xmp.with_properties(packet() + bytes(3), {MANIFEST: "{}"})
    assert xmp.read_property(made, MANIFEST) == "{}"


def test_texts_go_to_dublin_core_or_to_our_own_list():
    texts = [
        ("Title", "A <title>"),
        ("Author", "somebody"),
        ("Comment", "two\r\nlines \u00e9\u4e2d\U0001f600"),
        ("k", ""),
    ]
    made = xmp.with_texts(packet(), texts)
    assert xmp.read_property(made, TITLE) == "A <title>"
    assert list(xmp.read_texts(made)) == texts[2:]
    assert xmp.with_texts(made, texts) == made  # said already


def test_a_title_that_is_there_is_not_replaced():
    made = xmp.with_texts(xmp.with_texts(None, [("Title", "first")]), [("Title", "second"), ("Title", "first")])
    assert xmp.read_property(made, TITLE) == "first"
    assert list(xmp.read_texts(made)) == [("Title", "second")]
    assert count(made, TEXTS) == 1
    more = xmp.with_texts(made, [("Other", "third")])
    assert list(xmp.read_texts(more)) == [("Title", "second"), ("Other", "third")]
    assert count(more, TEXTS) == 1


def test_characters_that_xml_cannot_hold_are_left_out():
    made = xmp.with_texts(None, [("Comment", "a\0b\x07c\ud800d\te")])
    assert list(xmp.read_texts(made)) == [("Comment", "abcd\te")]


def test_numbers_are_corrected_in_packets_that_are_no_xml_too():
    assert xmp_size.with_size(b'<broken tiff:ImageWidth="3" exif:PixelYDimension="4"', 70, 80) == (
        b'<broken tiff:ImageWidth="70" exif:PixelYDimension="80"'
    )
    assert xmp_size.orientation(b"<tiff:Orientation>6</tiff:Orientation>") == 6
    assert xmp_size.orientation(b"<tiff:Orientation>60</tiff:Orientation>") is None
    assert xmp_size.orientation(b"<a/>") is None


def test_a_panorama_stays_the_same_part_of_its_sphere():
    before = (
        b'<a GPano:CroppedAreaImageWidthPixels="300" GPano:FullPanoWidthPixels="400" GPano:CroppedAreaLeftPixels="5">'
        b"<GPano:CroppedAreaImageHeightPixels>100</GPano:CroppedAreaImageHeightPixels>"
        b'<GPano:FullPanoHeightPixels>200</GPano:FullPanoHeightPixels><b GPano:CroppedAreaTopPixels="33"/></a>'
    )
    assert xmp_size.with_size(before, 600, 200) == (
        b'<a GPano:CroppedAreaImageWidthPixels="600" GPano:FullPanoWidthPixels="800" GPano:CroppedAreaLeftPixels="10">'
        b"<GPano:CroppedAreaImageHeightPixels>200</GPano:CroppedAreaImageHeightPixels>"
        b'<GPano:FullPanoHeightPixels>400</GPano:FullPanoHeightPixels><b GPano:CroppedAreaTopPixels="66"/></a>'
    )


@pytest.mark.parametrize(
    "size",
    [b'<mwg-rs:AppliedToDimensions stDim:h="%d" stDim:w="%d"/>', b"<stDim:h>%d</stDim:h> <stDim:w>%d</stDim:w>"],
)
def test_the_size_that_faces_were_found_in_is_corrected(size):
    packet = b'<p stDim:w="8"/><mwg-rs:AppliedToDimensions>' + size + b"<mwg-rs:RegionList><stArea:w>7</stArea:w>"
    assert xmp_size.with_size(packet % (3, 4), 40, 30) == packet % (30, 40)


@pytest.mark.parametrize(
    ("across", "unit", "dpi"),
    [("3000000/10000", "2", 300), ("100", "3", 254), ("72/1", None, 72), ("1/0", "2", None), ("x", "2", None)],
)
def test_resolution_is_read(across, unit, dpi):
    content = f"<tiff:XResolution>{across}</tiff:XResolution><tiff:YResolution>{across}</tiff:YResolution>"
    content += f"<tiff:ResolutionUnit>{unit}</tiff:ResolutionUnit>" if unit else ""
    declared = DECLARED + 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    found = xmp.resolution(packet(f"<rdf:Description>{content}</rdf:Description>", declared))
    assert found == (dpi and (dpi, dpi))


def test_resolution_is_put_in_and_without_one_there_is_none():
    made = xmp.with_resolution(packet(), (300.0, 240.5))
    assert xmp.resolution(made) == (300.0, 240.5)
    assert xmp.resolution(packet()) is None
    assert xmp.with_resolution(b"<broken", (72.0, 72.0)) is None
