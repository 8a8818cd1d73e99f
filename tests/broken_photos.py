"""Files that are no proper photos: cut short, flipped bits, lies about their size, loops, and names that mislead.

``write_broken(folder, count)`` makes them, always the same ones for a seed. A mutated file may still be a photo; those
that cannot be are marked.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import tifffile
from photo_corpus import write_corpus
from photos.png_maker import chunk
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMB_BYTES = 200_000_000
"""What a few kilobytes of the zlib bombs unfold to."""
SIGNATURES = {
    "png": PNG_SIGNATURE,
    "jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "webp": b"RIFF\xff\xff\0\0WEBPVP8 ",
    "tif": b"II*\0\x08\0\0\0",
    "avif": b"\0\0\0\x20ftypavif",
}


@dataclass(frozen=True)
class Broken:
    """A file, or whatever is called like one. ``hopeless``: no program could make a photo of it."""

    path: Path
    kind: str
    hopeless: bool = False


def write_broken(folder, count=300, seed=0):
    """``count`` broken files in a folder that is there: each kind of trap once, mutations of good photos for the rest.

    The good photos that they are made from are put beside the folder and taken away again.
    """
    generator = np.random.default_rng(seed)
    good = _good_photos(folder)
    made = [make(folder) for make in _TRAPS]
    while len(made) < count:
        name, data = good[len(made) % len(good)]
        kind, mutate = _MUTATIONS[int(generator.integers(len(_MUTATIONS)))]
        path = folder / f"{len(made):03d}-{kind}-{name}"
        path.write_bytes(mutate(data, generator))
        made.append(Broken(path, kind))
    return made[:count]


def _good_photos(folder):
    """One small photo of every fourth kind in the corpus: name and bytes."""
    place = folder.parent / f"{folder.name}-good"
    place.mkdir()
    records = write_corpus(place, every=4)
    photos = [(record.path.name, record.path.read_bytes()) for record in records]
    for record in records:
        record.path.unlink()
    place.rmdir()
    return photos


def _flip_bits(data, generator, within=None):
    """One to thirty bits, anywhere or near the beginning."""
    mutated = bytearray(data)
    for at in generator.integers(0, min(len(data), within or len(data)), int(generator.integers(1, 31))):
        mutated[at] ^= 1 << int(generator.integers(8))
    return bytes(mutated)


def _cut(data, generator):
    return data[: int(generator.integers(1, len(data)))]


def _blank(data, generator):
    """A stretch of zeros, as a bad disk leaves."""
    start = int(generator.integers(len(data)))
    length = int(generator.integers(1, len(data)))
    return (data[:start] + bytes(length) + data[start + length :])[: len(data)]


def _scramble(data, generator):
    """The pieces of a file in another order."""
    cuts = sorted(int(at) for at in generator.integers(0, len(data), 2))
    return data[: cuts[0]] + data[cuts[1] :] + data[cuts[0] : cuts[1]]


def _grow_numbers(data, generator):
    """Four bytes in the header at their most, where sizes, counts and offsets lie."""
    mutated = bytearray(data)
    at = int(generator.integers(min(len(data), 256) - 4))
    mutated[at : at + 4] = generator.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\x0f\xff\xff"])
    return bytes(mutated)


_MUTATIONS = [
    ("flipped", _flip_bits),
    ("flipped-head", partial(_flip_bits, within=128)),
    ("cut", _cut),
    ("blank", _blank),
    ("scrambled", _scramble),
    ("numbers", _grow_numbers),
]


def _file(name, kind, data, folder, hopeless=True):
    path = folder / name
    path.write_bytes(data() if callable(data) else data)
    return Broken(path, kind, hopeless)


def _random(extension):
    body = np.random.default_rng(len(extension)).bytes(3000)
    return SIGNATURES[extension] + body


def _encoded(kind, **options):
    ramp = np.linspace(0, 255, 40 * 28 * 3).reshape(28, 40, 3).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, kind, **options)
    return buffer.getvalue()


def _png(width, height, idat=b"", depth=8, colour=2, more=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG_SIGNATURE + head + more + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


@cache
def _zlib_bomb():
    """A stream of zeros that is a thousandth of their length."""
    packer, piece = zlib.compressobj(9), bytes(10_000_000)
    return b"".join(packer.compress(piece) for _ in range(BOMB_BYTES // len(piece))) + packer.flush()


def _png_with_bomb(kind, head):
    """A proper small picture with a chunk that unfolds to much more."""
    return lambda: _png(40, 28, zlib.compress(bytes(28 * 121)), more=chunk(kind, head + _zlib_bomb()))


def _huge_jpeg():
    data = bytearray(_encoded("JPEG"))
    start = data.find(b"\xff\xc0")
    struct.pack_into(">HH", data, start + 5, 65500, 65500)
    return bytes(data)


def _huge_webp():
    canvas = (2**24 - 1).to_bytes(3, "little")
    vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + canvas
    body = b"WEBP" + vp8x + _encoded("WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _huge_avif():
    data = bytearray(_encoded("AVIF"))
    struct.pack_into(">II", data, data.find(b"ispe") + 8, 100_000, 100_000)
    return bytes(data)


def _tiff(entries, order="<", body=b"", following=0):
    """A classic TIFF of one directory of (tag, type, count, value), with the body behind it."""
    table = b"".join(struct.pack(order + "HHII", *entry) for entry in sorted(entries))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(entries)) + table + struct.pack(order + "I", following) + body


def _grey_tiff(width=40, height=28, **changes):
    """The entries of a small grey picture with its pixels at byte 200."""
    values = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 200,
        277: 1,
        278: height,
        279: min(width * height, 2**32 - 1),
    }
    values |= {int(tag[1:]): value for tag, value in changes.items()}
    return [(tag, 4, 1, value) for tag, value in values.items() if value is not None]


def _grey_file(following=0, order="<", **changes):
    body = bytes(200 - 8 - 2 - 12 * 9 - 4) + bytes(range(256)) * 5
    return _tiff(_grey_tiff(**changes), order, body, following)


def _tiff_bomb():
    """A strip that unfolds to far more than its rows."""
    packed = _zlib_bomb()
    return _tiff(_grey_tiff(t259=8, t279=len(packed)), body=bytes(200 - 8 - 2 - 12 * 9 - 4) + packed)


def _big_tiff_of(width, height):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((28, 40), np.uint8), bigtiff=True, metadata=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        places = {tag: tiff.pages[0].tags[tag] for tag in (256, 257)}
    for tag, value in ((256, width), (257, height)):
        struct.pack_into("<HHQQ", data, places[tag].offset, tag, 16, 1, value)
    return bytes(data)


def _looping_exif():
    """An EXIF directory that points to itself, in an otherwise proper JPEG."""
    block = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)
    return _encoded("JPEG", exif=b"Exif\0\0" + block)


def _dangling_link(folder):
    path = folder / "link-to-nowhere.png"
    path.symlink_to("there-is-no-such-file.png")
    return Broken(path, "link", hopeless=True)


def _looping_link(folder):
    path = folder / "link-to-itself.jpg"
    path.symlink_to(path.name)
    return Broken(path, "link", hopeless=True)


def _folder(name, folder):
    path = folder / name
    path.mkdir()
    return Broken(path, "folder", hopeless=True)


def _sparse(folder):
    """Sixteen gigabytes of nothing behind a signature, none of them on the disk."""
    path = folder / "sparse.png"
    path.write_bytes(PNG_SIGNATURE)
    os.truncate(path, 16 * 2**30)
    return Broken(path, "sparse", hopeless=True)


_TRAPS = [
    *(partial(_file, f"empty.{extension}", "empty", b"") for extension in SIGNATURES),
    *(partial(_file, f"signature-only.{extension}", "cut", data) for extension, data in SIGNATURES.items()),
    *(partial(_file, f"random-behind-signature.{e}", "random", partial(_random, e)) for e in SIGNATURES),
    *(partial(_file, f"random.{e}", "random", np.random.default_rng(len(e)).bytes(500)) for e in SIGNATURES),
    *(partial(_file, f"zeros.{extension}", "zeros", bytes(5000)) for extension in SIGNATURES),
    *(partial(_file, f"text.{extension}", "text", b"I am no photo.\n") for extension in SIGNATURES),
    partial(_file, "png-called.jpg", "wrong-extension", partial(_encoded, "PNG"), hopeless=False),
    partial(_file, "jpeg-called.png", "wrong-extension", partial(_encoded, "JPEG"), hopeless=False),
    partial(_file, "tiff-called.webp", "wrong-extension", partial(_encoded, "TIFF"), hopeless=False),
    partial(_file, "webp-called.tif", "wrong-extension", partial(_encoded, "WEBP"), hopeless=False),
    partial(_file, "avif-called.jpg", "wrong-extension", partial(_encoded, "AVIF"), hopeless=False),
    partial(_file, "gif-called.png", "wrong-extension", partial(_encoded, "GIF")),
    partial(_file, "bmp-called.jpg", "wrong-extension", partial(_encoded, "BMP")),
    partial(_file, "huge.png", "bomb", _png(100_000, 100_000, zlib.compress(bytes(1000)))),
    partial(_file, "huge-one-bit.png", "bomb", _png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000)), 1, 0)),
    partial(_file, "wide.png", "bomb", _png(2**31 - 1, 1, zlib.compress(bytes(1000)))),
    partial(_file, "huge.jpg", "bomb", _huge_jpeg),
    partial(_file, "huge.webp", "bomb", _huge_webp),
    partial(_file, "huge.avif", "bomb", _huge_avif),
    partial(_file, "huge.tif", "bomb", _grey_file(width=100_000, height=100_000)),
    partial(_file, "huge-big.tif", "bomb", partial(_big_tiff_of, 10**9, 10**9)),
    partial(_file, "pixels.png", "zlib-bomb", lambda: _png(40, 28, _zlib_bomb()), hopeless=False),
    partial(_file, "profile.png", "zlib-bomb", _png_with_bomb(b"iCCP", b"a\0\0"), hopeless=False),
    partial(_file, "text-chunk.png", "zlib-bomb", _png_with_bomb(b"zTXt", b"a\0\0"), hopeless=False),
    partial(_file, "strip.tif", "zlib-bomb", _tiff_bomb, hopeless=False),
    partial(_file, "no-width.png", "zero", _png(0, 28, zlib.compress(b""))),
    partial(_file, "no-height.tif", "zero", _grey_file(height=0, t278=28)),
    partial(_file, "no-pixels.png", "zero", PNG_SIGNATURE + chunk(b"IEND", b"")),
    partial(_file, "no-bits.tif", "zero", _grey_file(t258=0)),
    partial(_file, "no-rows-per-strip.tif", "zero", _grey_file(t278=0), hopeless=False),
    partial(_file, "next-is-itself.tif", "loop", _grey_file(following=8), hopeless=False),
    partial(_file, "directory-in-itself.tif", "loop", _grey_file(t277=None, t330=8), hopeless=False),
    partial(_file, "exif-in-itself.tif", "loop", _grey_file(t277=None, t34665=8), hopeless=False),
    partial(_file, "exif-in-itself.jpg", "loop", _looping_exif, hopeless=False),
    partial(_file, "directory-at-zero.tif", "loop", b"II*\0" + bytes(100)),
    partial(_file, "strip-beyond-end.tif", "lies", _grey_file(t273=10**9)),
    partial(_file, "strip-longer-than-file.tif", "lies", _grey_file(t279=2**32 - 1), hopeless=False),
    partial(_file, "a-million-directory-entries.tif", "lies", b"II*\0\x08\0\0\0\xff\xff" + bytes(100)),
    partial(_file, "unknown-compression.tif", "lies", _grey_file(t259=65000)),
    partial(_file, "pieces-of-nothing.png", "lies", lambda: _png(40, 28, more=chunk(b"IDAT", b"") * 50_000)),
    _dangling_link,
    _looping_link,
    *(partial(_folder, f"folder.{extension}") for extension in ("png", "jpg", "tif")),
    _sparse,
]
