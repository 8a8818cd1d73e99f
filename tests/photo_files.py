"""Photo files of every kind, written by other libraries than the program reads with, or byte by byte.

Every writer takes the samples as the file stores them, (h, w, channels), and a :class:`Tags` with what else goes in.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import tifffile
from photos.png_maker import make_png
from PIL import Image

MAKE, COPYRIGHT, TAKEN = "Corpus Camera", "Somebody 2021", "2021:03:04 05:06:07"
LATITUDE = (47.0, 22.0, 8.5)
CITY, CAPTION, COMMENT = "Zürich", "A scene of gradients", "made for a test"
DPI = 240
PNG_TYPES = {"grey": 0, "rgb": 2, "palette": 3}


@dataclass(frozen=True)
class Tags:
    """What travels with the pixels; ``words`` are EXIF, XMP, IPTC, DPI and a comment, where the format has them."""

    icc: bytes | None = None
    orientation: int = 1
    words: bool = True
    size: tuple[int, int] = (0, 0)  # (width, height) as stored, which EXIF and XMP repeat


def exif_block(tags):
    """From the TIFF header on; ``None`` when there is nothing to say."""
    if not tags.words and tags.orientation == 1:
        return None
    exif = Image.Exif()
    exif[0x0112] = tags.orientation
    if tags.words:
        exif[0x010F], exif[0x8298] = MAKE, COPYRIGHT
        under = exif.get_ifd(0x8769)
        under[0x9003], under[0xA002], under[0xA003] = TAKEN, *tags.size
        exif.get_ifd(0x8825).update({1: "N", 2: LATITUDE})
    return exif.tobytes()[6:]


def xmp_packet(tags):
    """A packet as an editor leaves it: a city, and the size and orientation once more."""
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:City="{CITY}" tiff:Orientation="{tags.orientation}"
 exif:PixelXDimension="{tags.size[0]}" exif:PixelYDimension="{tags.size[1]}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def iptc_records():
    """A caption, as IPTC-IIM 2:120, after the statement 1:90 that it is in UTF-8."""
    text = CAPTION.encode()
    return b"\x1c\x01\x5a" + struct.pack(">H", 3) + b"\x1b%G" + b"\x1c\x02\x78" + struct.pack(">H", len(text)) + text


def write_png(path, samples, tags, *, mode, bits=8, interlaced=False, palette=None, transparency=None):
    """``mode`` is grey, rgb or palette; one channel more than it has is alpha."""
    alpha = samples.shape[2] in (2, 4)
    per_metre = round(DPI / 0.0254)
    before = [
        (b"iCCP", b"profile\0\0" + zlib.compress(tags.icc)) if tags.icc else None,
        (b"PLTE", palette.tobytes()) if palette is not None else None,
        (b"tRNS", transparency) if transparency is not None else None,
        (b"eXIf", block) if (block := exif_block(tags)) else None,
    ]
    after = []
    if tags.words:
        before.append((b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
        before.append((b"tEXt", b"Comment\0" + COMMENT.encode()))
        after.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_packet(tags)))
    kind = PNG_TYPES[mode] + 4 * alpha
    data = make_png(samples, bits, kind, interlaced=interlaced, before=[c for c in before if c], after=after)
    path.write_bytes(data)


def write_jpeg(path, samples, tags, **options):
    """Grey, RGB or CMYK (255 is full ink) by the number of channels."""
    words = {"dpi": (DPI, DPI), "comment": COMMENT, "xmp": xmp_packet(tags)} if tags.words else {}
    data = _by_pillow(samples, "JPEG", tags, quality=95, **words, **options)
    if tags.words:
        data = data[:2] + _photoshop_segment() + data[2:]
    path.write_bytes(data)


def write_webp(path, samples, tags, **options):
    """RGB or RGBA; colours under full transparency are kept."""
    words = {"xmp": xmp_packet(tags)} if tags.words else {}
    path.write_bytes(_by_pillow(samples, "WEBP", tags, exact=True, **words, **options))


def write_avif(path, samples, tags, **options):
    """Grey, RGB or RGBA, without subsampling."""
    words = {"xmp": xmp_packet(tags)} if tags.words else {}
    path.write_bytes(_by_pillow(samples, "AVIF", tags, quality=95, subsampling="4:4:4", speed=9, **words, **options))


def write_tiff(path, samples, tags, *, photometric="rgb", premultiplied=None, big=False, order="<", **options):
    """As tifffile writes it; ``premultiplied`` is that of the last channel, ``None`` where that is no alpha."""
    extra = [(274, "H", 1, tags.orientation, True)]
    if tags.words:
        xmp, iptc = xmp_packet(tags), iptc_records()
        extra += [(271, "s", 0, MAKE, True), (33432, "s", 0, COPYRIGHT, True)]
        extra += [(700, "B", len(xmp), xmp, True), (33723, "B", len(iptc), iptc, True)]
        extra += [(tag - 1, "Q" if big else "I", 1, 0, True) for tag in (34665, 34853)]  # tifffile refuses the tags
        options |= {"resolution": (DPI, DPI), "resolutionunit": "INCH"}
    if premultiplied is not None:
        options["extrasamples"] = ["ASSOCALPHA" if premultiplied else "UNASSALPHA"]
    if options.get("planarconfig") == "separate":
        samples = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
    elif samples.shape[2] == 1:
        samples = samples[..., 0]
    tifffile.imwrite(
        path,
        samples,
        photometric=photometric,
        bigtiff=big,
        byteorder=order,
        iccprofile=tags.icc,
        extratags=extra,
        metadata=None,
        software=False,
        **options,
    )
    if tags.words:
        width, height = tags.size
        camera = [(0x9003, 2, TAKEN.encode() + b"\0"), (0xA002, 4, width), (0xA003, 4, height)]
        place = [(1, 2, b"N\0"), (2, 5, LATITUDE)]
        _append_directories(path, {34665: camera, 34853: place}, order, big)


def _by_pillow(samples, kind, tags, **options):
    height, width, channels = samples.shape
    mode = {1: "L", 3: "RGB", 4: "CMYK" if kind == "JPEG" else "RGBA"}[channels]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(samples).tobytes())
    if block := exif_block(tags):
        options["exif"] = b"Exif\0\0" + block
    buffer = io.BytesIO()
    image.save(buffer, kind, icc_profile=tags.icc or b"", **options)
    return buffer.getvalue()


def _photoshop_segment():
    records = iptc_records()
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)
    data = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(data) + 2) + data


def _append_directories(path, directories, order, big):
    """Put EXIF directories behind everything else, and their places into the tags of the first page."""
    with tifffile.TiffFile(path) as tiff:
        places = {tag: tiff.pages[0].tags[tag - 1] for tag in directories}
    data = bytearray(path.read_bytes())
    for tag, entries in directories.items():
        data += bytes(-len(data) % 8)
        struct.pack_into(order + "H", data, places[tag].offset, tag)
        struct.pack_into(order + ("Q" if big else "I"), data, places[tag].valueoffset, len(data))
        data += _directory(entries, order, big, len(data))
    path.write_bytes(data)


def _directory(entries, order, big, start):
    """A TIFF directory of (tag, type, value) that lies at ``start``, with its long values behind it."""
    count_type, entry_type, offset_type, inline = ("Q", "HHQ", "Q", 8) if big else ("H", "HHI", "I", 4)
    body = struct.pack(order + count_type, len(entries))
    behind_at = start + len(body) + len(entries) * (struct.calcsize("<" + entry_type) + inline) + inline
    behind = b""
    for tag, kind, value in entries:
        count = len(value) if isinstance(value, bytes | tuple) else 1
        body += struct.pack(order + entry_type, tag, kind, count)
        data = _value(kind, value, order)
        if len(data) <= inline:
            body += data.ljust(inline, b"\0")
        else:
            body += struct.pack(order + offset_type, behind_at + len(behind))
            behind += data + bytes(len(data) % 2)
    return body + bytes(inline) + behind


def _value(kind, value, order):
    if kind == 2:
        return value
    if kind == 4:
        return struct.pack(order + "I", value)
    return b"".join(struct.pack(order + "II", round(number * 10), 10) for number in value)
