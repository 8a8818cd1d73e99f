"""PNGs of every kind, with every filter: also those that no library here writes."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(samples, bits, colour_type, *, interlaced=False, before=(), after=(), idat=97):
    """A file of ``samples`` (H, W, C); ``before`` and ``after`` are chunks around the pixels.

    The filters none, sub, up, average and Paeth take turns; the pixels lie in chunks of ``idat`` bytes.
    """
    height, width = samples.shape[:2]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(filtered(samples[y::down, x::across], bits) for x, y, across, down in passes)
    packed = zlib.compress(rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced))
    pixels = [chunk(b"IDAT", packed[at : at + idat]) for at in range(0, len(packed), idat)]
    parts = [head, *(chunk(*pair) for pair in before), *pixels, *(chunk(*pair) for pair in after)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def filtered(samples, bits):
    if not samples.size:
        return b""
    step = max(samples.shape[2] * bits // 8, 1)
    rows = [packed_row(row, bits) for row in samples]
    above, out = np.zeros(len(rows[0]), int), b""
    for number, row in enumerate(rows):
        kind = number % 5
        left = np.concatenate([np.zeros(step, int), row])[: len(row)]
        corner = np.concatenate([np.zeros(step, int), above])[: len(row)]
        guess = (0 * left, left, above, (left + above) // 2, paeth(left, above, corner))[kind]
        out += bytes([kind]) + ((row - guess) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def packed_row(row, bits):
    """The bytes of (W, C) samples as integers."""
    if bits == 16:
        return np.frombuffer(row.astype(">u2").tobytes(), np.uint8).astype(int)
    if bits == 8:
        return row.reshape(-1).astype(int)
    places = (row.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(places.reshape(-1)).astype(int)


def paeth(left, above, corner):
    guess = left + above - corner
    distances = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
    return np.choose(distances.argmin(axis=0), [left, above, corner])


def random_samples(colour_type, bits, height=41, width=37):
    generator = np.random.default_rng(bits + colour_type)
    samples = generator.integers(0, 2**bits, (height, width, SAMPLES[colour_type]))
    return samples.astype(np.uint16 if bits == 16 else np.uint8)


def palette(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (256, 3), dtype=np.uint8)


def expected_01(samples, bits, colour_type):
    """Colour (H, W, 3) and alpha (H, W) or ``None`` as float32, of samples of any kind."""
    white = np.float32(2**bits - 1)
    if colour_type == 3:
        return palette()[samples[..., 0]].astype(np.float32) / np.float32(255), None
    values = samples.astype(np.float32) / white
    colour = np.repeat(values[..., :1], 3, axis=2) if colour_type in (0, 4) else values[..., :3]
    return colour, values[..., -1] if colour_type in (4, 6) else None
