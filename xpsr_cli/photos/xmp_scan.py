"""Where the properties of an XMP packet stand, in bytes, so that it can be changed without being written anew.

Source: ISO 16684-1 (XMP), section 7.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

_MAX_BYTES = 2**23
_MAX_ELEMENTS = 2**17  # as objects they take fifty times their bytes
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


@dataclass
class _Place:
    """Where a property or a description stands in a packet, in bytes, and what a description holds."""

    name: tuple[str, str]
    start: int
    end: int = 0
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    children: list[_Place] = field(default_factory=list)


class Scan:
    """The places of what a packet says; made by :meth:`of`."""

    def __init__(self, packet: bytes) -> None:
        self.about = ""
        self.end: int | None = None  # where the last description ends
        self._packet = packet
        self._descriptions: list[_Place] = []
        self._elements = 0
        self._path: list[tuple[str, str]] = []
        self._rdf, self._start = -1, 0  # the depth and the place of the element that holds the descriptions
        self._parser = parser = expat.ParserCreate("UTF-8", "\n")
        parser.namespace_prefixes = True
        parser.StartElementHandler = self._enter
        parser.EndElementHandler = self._leave
        parser.StartDoctypeDeclHandler = self._refuse
        parser.Parse(packet.rstrip(b"\0"), True)

    @classmethod
    def of(cls, packet: bytes) -> Scan | None:
        """The scan of a packet; ``None`` when it is huge, no XML, has entities of its own, or holds no RDF."""
        if len(packet) > _MAX_BYTES:
            return None
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
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise ValueError("XMP with too many elements")
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
