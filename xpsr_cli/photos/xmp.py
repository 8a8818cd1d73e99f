"""XMP packets: corrected where the picture changed, and given properties without touching the others.

A packet stays the user's own bytes but for what is taken out and for one description that is added at its end, so
prefixes, order and comments survive. A packet that is no well-formed XML, or that defines entities (which no XMP does
and bombs do), is kept as it is and gets nothing added.
Source: ISO 16684-1 (XMP), sections 7.4 and 7.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
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
    scan = _Scan.of(packet)
    if scan is None:
        return None
    if scan.end is None:  # nothing in it
        packet, scan = _EMPTY, _Scan.of(_EMPTY)
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
    if xmp is not None and _Scan.of(xmp) is None:
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
    if _Scan.of(xmp) is None:  # which refuses entities
        return
    for description in ElementTree.fromstring(xmp.rstrip(b"\0")).iter(f"{{{RDF}}}Description"):
        if wanted.tag in description.attrib:
            yield description.attrib[wanted.tag]
        yield from description.findall(wanted.tag)


@dataclass
class _Place:
    """Where a property or a description stands in a packet, in bytes, and what a description holds."""

    name: tuple[str, str]
    start: int
    end: int = 0
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    children: list[_Place] = field(default_factory=list)


class _Scan:
    """The places of what a packet says; made by :meth:`of`."""

    def __init__(self, packet: bytes) -> None:
        self.about = ""
        self.end: int | None = None  # where the last description ends
        self._packet = packet
        self._descriptions: list[_Place] = []
        self._path: list[tuple[str, str]] = []
        self._rdf, self._start = -1, 0  # the depth and the place of the element that holds the descriptions
        self._parser = parser = expat.ParserCreate("UTF-8", "\n")
        parser.namespace_prefixes = True
        parser.StartElementHandler = self._enter
        parser.EndElementHandler = self._leave
        parser.StartDoctypeDeclHandler = self._refuse
        parser.Parse(packet.rstrip(b"\0"), True)

    @classmethod
    def of(cls, packet: bytes) -> _Scan | None:
        """The scan of a packet; ``None`` when it is no XML, has entities of its own, or holds no RDF."""
        try:
            scan = cls(packet)
        except (expat.ExpatError, ValueError):
            return None
        return scan if scan._rdf >= 0 else None

    def places_of(self, names: set[tuple[str, str]]) -> Iterator[tuple[int, int]]:
        """Where properties of these names start and end; a description that has no others goes as a whole."""
        for description in self._descriptions:
            attributes = [a for a in description.attributes if a[:2] in names]
            children = [child for child in description.children if child.name in names]
            others = [a for a in description.attributes if a[:2] not in names and a[:2] != (RDF, "about")]
            if not attributes and not children:
                continue
            if not others and len(children) == len(description.children):
                yield description.start, description.end
                continue
            yield from ((child.start, child.end) for child in children)
            raw = {f"{prefix}:{name}".encode() for _, name, prefix in attributes}
            for found in _ATTRIBUTE.finditer(self._packet, description.start, self._tag_end(description.start)):
                if found[1] in raw:
                    yield found.span()

    def _enter(self, name: str, attributes: dict[str, str]) -> None:
        at, (uri, local, _) = self._parser.CurrentByteIndex, _split(name)
        if (uri, local) == (RDF, "RDF") and self._rdf < 0:
            self._rdf, self._start = len(self._path), at
        depth = len(self._path) - self._rdf if self._rdf >= 0 and self.end is None else 0
        if depth == 1:
            names = [_split(attribute) for attribute in attributes]
            self._descriptions.append(_Place((uri, local), at, attributes=names))
            self.about = self.about or next((v for k, v in attributes.items() if k.startswith(f"{RDF}\nabout\n")), "")
        elif depth == 2:
            self._descriptions[-1].children.append(_Place((uri, local), at))
        self._path.append((uri, local))

    def _leave(self, _: str) -> None:
        at = self._parser.CurrentByteIndex
        self._path.pop()
        depth = len(self._path) - self._rdf if self._rdf >= 0 and self.end is None else -1
        if depth == 0:
            self.end = at if self._element_end(self._start, at) != self._tag_end(self._start) else None
        elif depth == 1:
            self._descriptions[-1].end = self._element_end(self._descriptions[-1].start, at)
        elif depth == 2:
            child = self._descriptions[-1].children[-1]
            child.end = self._element_end(child.start, at)

    def _element_end(self, start: int, closing: int) -> int:
        """The end of an element whose first tag starts at ``start``; the parser sees it close at ``closing``."""
        end = self._tag_end(start)
        return end if self._packet.startswith(b"/>", end - 2) else self._tag_end(closing)

    def _tag_end(self, start: int) -> int:
        found = _TAG.match(self._packet, start)
        if found is None:
            raise ValueError("a tag without an end")
        return found.end()

    def _refuse(self, *_: object) -> None:
        raise ValueError("XMP with a document type")


_TAG = re.compile(rb"<(?:[^\"'>]|\"[^\"]*\"|'[^']*')*>")
_ATTRIBUTE = re.compile(rb"\s+([^\s=<>\"']+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")


def _split(name: str) -> tuple[str, str, str]:
    """Namespace, name and prefix as the parser joins them."""
    parts = name.split("\n")
    return ("", name, "") if len(parts) == 1 else (parts[0], parts[1], parts[2] if len(parts) > 2 else "")


# A property is an attribute (tiff:Orientation="6") or an element (<tiff:Orientation>6</tiff:Orientation>). These work
# on packets that are no well-formed XML too.
_NUMBER = rb"((?:%s)\s*(?:=\s*[\"']|>)\s*)(\d+)"
_ORIENTATION = re.compile(_NUMBER % rb"tiff:Orientation")
_WIDTH = re.compile(_NUMBER % rb"tiff:ImageWidth|exif:PixelXDimension")
_HEIGHT = re.compile(_NUMBER % rb"tiff:ImageLength|exif:PixelYDimension")
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)


def orientation(xmp: bytes) -> int | None:
    """How the stored picture is turned, 1 (upright) to 8; ``None`` when the packet does not say."""
    found = _ORIENTATION.search(xmp)
    return int(found[2]) if found and found[2] in b"12345678" else None


def upright(xmp: bytes) -> bytes:
    """The packet of a picture that has been turned upright: no other orientation, no thumbnail."""
    return _THUMBNAILS.sub(b"", _ORIENTATION.sub(rb"\g<1>1", xmp))


def with_size(xmp: bytes, width: int, height: int) -> bytes:
    """The packet with every property that states the picture's size, in pixels, corrected."""
    return _HEIGHT.sub(_becomes(height), _WIDTH.sub(_becomes(width), xmp))


def _becomes(value: int) -> Callable[[re.Match[bytes]], bytes]:
    return lambda found: found[1] + str(value).encode()
