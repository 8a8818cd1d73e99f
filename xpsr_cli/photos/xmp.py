"""XMP packets: properties are read, put in and taken out without touching the others.

A packet stays the user's own bytes but for what is taken out and for one description that is added at its end, so
prefixes, order and comments survive. A packet that is no well-formed XML, that defines entities (which no XMP does and
bombs do), or that is beyond 8 MiB or 100,000 elements is kept as it is and gets nothing added.
Source: ISO 16684-1 (XMP), sections 7.4 and 7.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from xpsr_cli.photos.xmp_scan import RDF, Scan

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()


@dataclass(frozen=True)
class Property:
    """The name of a property: its namespace, the prefix that is usual for it, and its name there."""

    uri: str
    prefix: str
    name: str

    @property
    def tag(self) -> str:
        """The name as ElementTree writes it."""
        return f"{{{self.uri}}}{self.name}"


_DC = "http://purl.org/dc/elements/1.1/"
_XPSR = "urn:xpsr:1.0/"
MANIFEST = Property(_XPSR, "xpsr", "Manifest")
"""How xpsr made the picture, as JSON."""
TEXTS = Property(_XPSR, "xpsr", "Texts")
"""Keywords and texts of a PNG or JPEG that stand nowhere else in the packet."""
DIGITAL_SOURCE_TYPE = Property("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "Iptc4xmpExt", "DigitalSourceType")
"""What kind of picture this is, in IPTC's words."""
_RESOLUTION = tuple(
    Property("http://ns.adobe.com/tiff/1.0/", "tiff", name)
    for name in ("XResolution", "YResolution", "ResolutionUnit")
)
_KNOWN_TEXTS = {
    "Title": (Property(_DC, "dc", "title"), "Alt"),
    "Author": (Property(_DC, "dc", "creator"), "Seq"),
    "Description": (Property(_DC, "dc", "description"), "Alt"),
    "Copyright": (Property(_DC, "dc", "rights"), "Alt"),
}
# What XML 1.0 has no way to say.
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(value: str) -> str:
    """A plain value as the content of a property; characters that XML cannot hold are left out."""
    return escape(_UNSPEAKABLE.sub("", value), {"\r": "&#13;"})


def read_property(xmp: bytes, wanted: Property) -> str | None:
    """The plain text of a property (the first of several values); ``None`` without it or in a senseless packet."""
    found = next(_values(xmp, wanted), None)
    return None if found is None else found if isinstance(found, str) else "".join(found.itertext()).strip()


def with_properties(xmp: bytes | None, properties: Mapping[Property, str | None]) -> bytes | None:
    """The packet, or a new one, in which each property has this XML content in place of any it had; ``None``: none.

    Returns ``None`` for a packet in which nothing can be changed.
    """
    packet = xmp or _EMPTY
    scan = Scan.of(packet)
    if scan is None:
        return None
    if scan.end is None:  # nothing in it
        packet, scan = _EMPTY, Scan.of(_EMPTY)
        assert scan is not None
        assert scan.end is not None
    added = _description(scan.about, {p: value for p, value in properties.items() if value is not None})
    cuts = sorted([*scan.places_of({(p.uri, p.name) for p in properties}), (scan.end, scan.end)])
    parts, at = [], 0
    for start, end in cuts:
        parts.append(packet[at:start])
        at = max(at, end)
    return b"".join([*parts, added.encode(), packet[at:]])


def _description(about: str, properties: Mapping[Property, str]) -> str:
    if not properties:
        return ""
    namespaces = {"rdf": RDF} | {p.prefix: p.uri for p in properties}
    declared = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in namespaces.items())
    content = "".join(f"<{p.prefix}:{p.name}>{value}</{p.prefix}:{p.name}>" for p, value in properties.items())
    return f"<rdf:Description rdf:about={quoteattr(about)}{declared}>{content}</rdf:Description>"


def with_texts(xmp: bytes | None, texts: Sequence[tuple[str, str]]) -> bytes | None:
    """The packet with keywords and texts in it: as Dublin Core where they have a free name there, else our own.

    Texts that the packet says already are not said twice. ``None`` for a packet to which nothing can be added.
    """
    if xmp is not None and Scan.of(xmp) is None:
        return None
    own = list(read_texts(xmp)) if xmp is not None else []
    properties: dict[Property, str | None] = {}
    before = len(own)
    for keyword, text in texts:
        known, kind = _KNOWN_TEXTS.get(keyword, (None, ""))
        there = read_property(xmp, known) if known is not None and xmp is not None else None
        if known is not None and there is None and known not in properties:
            language = ' xml:lang="x-default"' if kind == "Alt" else ""
            properties[known] = f"<rdf:{kind}><rdf:li{language}>{as_text(text)}</rdf:li></rdf:{kind}>"
        elif there != text.strip() and (keyword, text) not in own:
            own.append((keyword, text))
    if len(own) > before:
        items = (
            f'<rdf:li rdf:parseType="Resource"><xpsr:keyword>{as_text(keyword)}</xpsr:keyword>'
            f"<xpsr:text>{as_text(text)}</xpsr:text></rdf:li>"
            for keyword, text in own
        )
        properties[TEXTS] = f"<rdf:Seq>{''.join(items)}</rdf:Seq>"
    return with_properties(xmp, properties) if properties else xmp


def read_texts(xmp: bytes) -> Iterator[tuple[str, str]]:
    """The keywords and texts that :func:`with_texts` put under :data:`TEXTS`."""
    for value in _values(xmp, TEXTS):
        for item in [] if isinstance(value, str) else value.iter(f"{{{RDF}}}li"):
            yield item.findtext(f"{{{_XPSR}}}keyword", ""), item.findtext(f"{{{_XPSR}}}text", "")


def _values(xmp: bytes, wanted: Property) -> Iterator[str | ElementTree.Element]:
    if Scan.of(xmp) is None:  # which refuses entities
        return
    for description in ElementTree.fromstring(xmp.rstrip(b"\0")).iter(f"{{{RDF}}}Description"):
        if wanted.tag in description.attrib:
            yield description.attrib[wanted.tag]
        yield from description.findall(wanted.tag)


def with_resolution(xmp: bytes | None, dpi: tuple[float, float]) -> bytes | None:
    """The packet, or a new one, with pixels per inch across and down; ``None`` if it takes nothing."""
    values = (*(f"{round(value * 10000)}/10000" for value in dpi), "2")
    return with_properties(xmp, dict(zip(_RESOLUTION, values, strict=True)))


def resolution(xmp: bytes) -> tuple[float, float] | None:
    """Pixels per inch across and down; ``None`` when the packet does not say or says nonsense."""
    across, down, unit = (read_property(xmp, wanted) for wanted in _RESOLUTION)
    inches = {None: 1.0, "2": 1.0, "3": 2.54}.get(unit)
    try:
        return (
            (float(Fraction(across)) * inches, float(Fraction(down)) * inches) if across and down and inches else None
        )
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
