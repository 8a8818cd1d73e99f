"""What a photo file holds, as other libraries than the program's own reader see it: Pillow, tifffile, imagecodecs."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
import tifffile
from color_difference import colour_space
from PIL import Image, IptcImagePlugin

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""From rows and columns as stored to the upright picture, by EXIF orientation."""
EXIF_NAMES = {
    0x010F: "Make",
    0x8298: "Copyright",
    0x9003: "DateTimeOriginal",
    0xA002: "PixelXDimension",
    0xA003: "PixelYDimension",
}


@dataclass
class Contents:
    """A decoded file: ``values`` (h, w, channels) in [0, 1] without alpha, which is (h, w) or ``None``."""

    bits: int
    values: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    orientation: int = 1
    exif: dict = field(default_factory=dict)
    latitude: tuple | None = None
    xmp: str = ""
    iptc: bytes = b""
    dpi: float | None = None
    comments: list = field(default_factory=list)

    @property
    def size(self):
        """(width, height)."""
        return self.values.shape[1::-1]

    @property
    def xmp_orientation(self):
        """1 when XMP says none."""
        found = re.search(r"tiff:Orientation(?:=[\"']|>)(\d)", self.xmp)
        return int(found[1]) if found else 1

    def over_grey(self):
        """Values as they look on a background of middle grey."""
        if self.alpha is None:
            return self.values
        return self.values * self.alpha[..., None] + 0.5 * (1 - self.alpha[..., None])

    def upright(self):
        """The same picture with its orientation applied."""
        self.values = TURNS[self.orientation](self.values)
        if self.alpha is not None:
            self.alpha = TURNS[self.orientation](self.alpha)
        return self


def read(path):
    """The contents of a file of any of the program's formats."""
    if path.suffix == ".png":
        return _read_png(path.read_bytes())
    if path.suffix == ".tif":
        return _read_tiff(path)
    return _read_by_pillow(path)


def _contents(samples, **rest):
    """From stored samples; two or four channels have alpha, unless four are inks."""
    values = samples[..., None] if samples.ndim == 2 else samples
    white = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    bits = 8 * values.dtype.itemsize
    values = values.astype(np.float32) / white
    icc = rest.get("icc")
    if values.shape[2] in (2, 4) and not (icc and colour_space(icc) == "cmyk"):
        return Contents(bits, values[..., :-1], values[..., -1], **rest)
    return Contents(bits, values, **rest)


def _read_png(data):
    chunks = list(_png_chunks(data))
    first = dict(reversed(chunks))
    texts = dict(_png_texts(chunks))
    bits, interlaced = first[b"IHDR"][8], first[b"IHDR"][12]
    found = _contents(
        _interlaced_samples(data) if interlaced else imagecodecs.png_decode(data),
        icc=zlib.decompress(first[b"iCCP"].split(b"\0", 1)[1][1:]) if b"iCCP" in first else None,
        xmp=texts.get("XML:com.adobe.xmp", ""),
        comments=[texts["Comment"]] if "Comment" in texts else [],
        dpi=struct.unpack(">I", first[b"pHYs"][:4])[0] * 0.0254 if b"pHYs" in first else None,
    )
    found.bits = max(bits, 8)
    if b"eXIf" in first:
        exif = Image.Exif()
        exif.load(first[b"eXIf"])
        _take_exif(found, exif)
    return found


def _interlaced_samples(data):
    """8 bits of them: imagecodecs has libpng complain about every such file."""
    with Image.open(io.BytesIO(data)) as image:
        alpha, grey = "transparency" in image.info, image.mode in ("L", "1", "I;16")
        if alpha or image.mode in ("P", "1"):
            image = image.convert(("L" if grey else "RGB") + ("A" if alpha else ""))
        return np.asarray(image)


def _png_chunks(data):
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        yield kind, body
        at += 12 + length


def _png_texts(chunks):
    for kind, body in chunks:
        key, _, rest = body.partition(b"\0")
        if kind == b"tEXt":
            yield key.decode("latin-1"), rest.decode("latin-1")
        elif kind == b"zTXt":
            yield key.decode("latin-1"), zlib.decompress(rest[1:]).decode("latin-1")
        elif kind == b"iTXt":
            compressed, text = rest[0], rest[2:].split(b"\0", 2)[2]
            yield key.decode("latin-1"), (zlib.decompress(text) if compressed else text).decode()


def _read_by_pillow(path):
    with Image.open(path) as image:
        image.load()
        info = image.info
        xmp = info.get("xmp", b"")
        found = _contents(
            np.asarray(image),
            icc=info.get("icc_profile"),
            xmp=xmp if isinstance(xmp, str) else xmp.decode(),
            comments=[data.decode() for kind, data in getattr(image, "applist", []) if kind == "COM"],
            dpi=float(info["dpi"][0]) if "dpi" in info else None,
            iptc=_iptc(IptcImagePlugin.getiptcinfo(image)) if path.suffix == ".jpg" else b"",
        )
        _take_exif(found, image.getexif())
        return found


def _iptc(records):
    return (records or {}).get((2, 120), b"")


def _take_exif(found, exif):
    under = exif.get_ifd(0x8769)
    both = {**exif, **under}
    found.exif = {name: both[tag] for tag, name in EXIF_NAMES.items() if tag in both}
    found.orientation = exif.get(0x0112, 1)
    latitude = exif.get_ifd(0x8825).get(2)
    found.latitude = tuple(map(float, latitude)) if latitude else None
    if found.dpi is None and 0x011A in exif:
        found.dpi = float(exif[0x011A])


def _read_tiff(path):
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        tags = {tag.code: tag.value for tag in page.tags}
        samples = page.asarray()
        if page.planarconfig == 2 and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        if page.photometric == 3:
            samples = np.moveaxis(page.colormap, 0, -1)[samples]
        if samples.dtype == bool:
            samples = samples.astype(np.uint8) * 255
        found = _contents(
            samples,
            icc=tags.get(34675),
            orientation=tags.get(274, 1),
            xmp=bytes(tags.get(700, b"")).decode(),
            iptc=_iptc_of_tiff(tags.get(33723)),
        )
        if 282 in tags:
            found.dpi = tags[282][0] / tags[282][1]
        if page.extrasamples and page.extrasamples[0] == 1:
            solid = np.maximum(found.alpha, 1e-6)[..., None]
            found.values = np.clip(found.values / solid, 0, 1)
        camera, place = tags.get(34665) or {}, tags.get(34853) or {}
        found.exif = {name: camera[name] for name in EXIF_NAMES.values() if name in camera}
        found.exif |= {name: tags[tag] for tag, name in EXIF_NAMES.items() if tag in tags}
        if latitude := place.get("GPSLatitude"):
            found.latitude = tuple(a / b for a, b in zip(latitude[::2], latitude[1::2], strict=True))
        return found


def _iptc_of_tiff(value):
    data = b"" if value is None else value if isinstance(value, bytes) else np.asarray(value).tobytes()
    at = data.find(b"\x1c\x02\x78")
    return data[at + 5 : at + 5 + struct.unpack_from(">H", data, at + 3)[0]] if at >= 0 else b""
