"""What a new size and an upright picture mean for an XMP packet, well-formed or not."""

from __future__ import annotations

import re
from collections.abc import Callable

# A property is an attribute (tiff:Orientation="6") or an element (<tiff:Orientation>6</tiff:Orientation>). These work
# on packets that are no well-formed XML too.
_NUMBER = rb"((?:%s)\s*(?:=\s*[\"']|>)\s*)(\d+)"
_ORIENTATION = re.compile(_NUMBER % rb"tiff:Orientation")
_WIDTH = re.compile(_NUMBER % rb"tiff:ImageWidth|exif:PixelXDimension")
_HEIGHT = re.compile(_NUMBER % rb"tiff:ImageLength|exif:PixelYDimension")
_ACROSS, _DOWN = re.compile(_NUMBER % rb"stDim:w"), re.compile(_NUMBER % rb"stDim:h")
_REGIONS = re.compile(
    rb"mwg-rs:AppliedToDimensions.*?(?=mwg-rs:|\Z)", re.DOTALL
)  # of faces: the size they were seen in
_SPHERE_ACROSS, _SPHERE_DOWN = (  # one that has the picture's size, and all
    (re.compile(_NUMBER % (rb"GPano:" + own)), re.compile(_NUMBER % (rb"GPano:(?:" + own + rb"|" + others + rb")")))
    for own, others in (
        (rb"CroppedAreaImageWidthPixels", rb"FullPanoWidthPixels|CroppedAreaLeftPixels"),
        (rb"CroppedAreaImageHeightPixels", rb"FullPanoHeightPixels|CroppedAreaTopPixels"),
    )
)
_THUMBNAILS = re.compile(rb"<((?:xmp|xap):Thumbnails)\b")


def orientation(xmp: bytes) -> int | None:
    """How the stored picture is turned, 1 (upright) to 8; ``None`` when the packet does not say."""
    found = _ORIENTATION.search(xmp)
    return int(found[2]) if found and found[2] in b"12345678" else None


def upright(xmp: bytes) -> bytes:
    """The packet of a picture that has been turned upright: no other orientation, no thumbnail."""
    return _without_thumbnails(_ORIENTATION.sub(rb"\g<1>1", xmp))


def with_size(xmp: bytes, width: int, height: int) -> bytes:
    """The packet with every property that states the picture's size, in pixels, corrected.

    The pixels of a panorama's sphere are scaled with the picture's.
    """
    for extent, (own, scaled) in ((width, _SPHERE_ACROSS), (height, _SPHERE_DOWN)):
        before = own.search(xmp)
        if before and int(before[2]):
            xmp = scaled.sub(_times(extent / int(before[2])), xmp)
    xmp = _HEIGHT.sub(_becomes(height), _WIDTH.sub(_becomes(width), xmp))
    return _REGIONS.sub(lambda found: _DOWN.sub(_becomes(height), _ACROSS.sub(_becomes(width), found[0])), xmp)


def _without_thumbnails(xmp: bytes) -> bytes:
    kept, at = [], 0
    while found := _THUMBNAILS.search(xmp, at):
        closing = b"</" + found[1] + b">"
        end = xmp.find(closing, found.end())
        if end < 0:
            break
        kept.append(xmp[at : found.start()])
        at = end + len(closing)
    return b"".join([*kept, xmp[at:]])


def _becomes(value: int) -> Callable[[re.Match[bytes]], bytes]:
    return lambda found: found[1] + str(value).encode()


def _times(factor: float) -> Callable[[re.Match[bytes]], bytes]:
    return lambda found: found[1] + str(round(int(found[2]) * factor)).encode()
