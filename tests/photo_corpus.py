"""Small photos of every kind that matters, with a record of what must come out of each when it is enlarged.

``write_corpus(folder)`` makes the files; ``faults`` of ``photo_faults.py`` lists what a result has lost. The pictures
are smooth with soft edges, so that a difference in colour is one of colour and not of detail, which a model may
restore.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from photo_files import Tags, write_avif, write_jpeg, write_png, write_tiff, write_webp
from photo_reading import TURNS
from photos import profiles

SCALE = 2
SIZES = ((40, 28), (48, 64), (61, 45), (96, 64), (33, 57))
WIDE = {"none": None, "srgb": profiles.srgb, "p3": profiles.display_p3, "adobe": profiles.adobe_rgb}
COLOUR_PROFILES = {**WIDE, "prophoto": profiles.prophoto}


@dataclass(frozen=True)
class Record:
    """A file of the corpus and what its enlargement has to be."""

    path: Path
    result_name: str
    size: tuple[int, int]  # (width, height) of the result
    bits: int
    tags: Tags
    alpha: bool


@dataclass(frozen=True)
class Case:
    """One file to be made.

    ``mode`` is grey, rgb, cmyk, palette or bit (black and white). ``alpha`` is soft (a shape with a soft edge), hidden
    (a hard one, with noise under what is not seen), premultiplied, or key (one colour, or palette entry, is not seen).
    """

    extension: str
    mode: str = "rgb"
    bits: int = 8  # 32: float
    alpha: str = ""
    profile: Callable[[], bytes] | None = None
    orientation: int = 1
    words: bool = True
    options: tuple[tuple[str, object], ...] = ()
    about: str = ""


def cases():
    """Every case, some 200 of them."""
    return [*_png_cases(), *_jpeg_cases(), *_webp_cases(), *_avif_cases(), *_tiff_cases()]


def write_corpus(folder, every=1):
    """Write all files, or every fourth or so, into a folder; their records, in order."""
    return [_write(case, number, folder) for number, case in enumerate(cases()) if number % every == 0]


def _case(extension, about, *args, profile=None, orientation=1, words=True, mode="rgb", bits=8, alpha="", **options):
    return Case(extension, mode, bits, alpha, profile, orientation, words, tuple(options.items()), about)


def _png_cases():
    png = partial(_case, "png")
    for interlaced in (False, True):
        about = "interlaced" if interlaced else ""
        for bits in (8, 16):
            for mode in ("grey", "rgb"):
                for alpha in ("", "soft"):
                    yield png(about, mode=mode, bits=bits, alpha=alpha, interlaced=interlaced)
        for mode, alpha in (("palette", ""), ("palette", "soft"), ("palette", "key"), ("bit", "")):
            yield png(about, mode=mode, alpha=alpha, interlaced=interlaced)
    for name, profile in COLOUR_PROFILES.items():
        for bits, alpha in ((8, ""), (16, ""), (16, "soft")):
            yield png(name, bits=bits, alpha=alpha, profile=profile)
        yield png(f"bare-{name}", profile=profile, words=False)
    for bits, alpha in ((8, ""), (16, ""), (8, "soft"), (16, "soft")):
        yield png("grey-profile", mode="grey", bits=bits, alpha=alpha, profile=profiles.grey)
    for orientation in TURNS:
        yield png("", orientation=orientation)
        yield png("", orientation=orientation, bits=16, alpha="hidden", profile=profiles.adobe_rgb, words=False)
    for mode, bits in (("grey", 8), ("grey", 16), ("rgb", 8), ("rgb", 16)):
        yield png("", mode=mode, bits=bits, alpha="hidden")
        yield png("", mode=mode, bits=bits, alpha="key")


def _jpeg_cases():
    jpeg = partial(_case, "jpg")
    for progressive in (False, True):
        about = "progressive" if progressive else "baseline"
        for name, profile in COLOUR_PROFILES.items():
            yield jpeg(f"{about}-{name}", profile=profile, progressive=progressive)
        for name, profile in (("none", None), ("grey", profiles.grey)):
            yield jpeg(f"{about}-{name}", mode="grey", profile=profile, progressive=progressive)
        yield jpeg(about, mode="cmyk", profile=profiles.cmyk, progressive=progressive)
    for orientation in TURNS:
        yield jpeg("", orientation=orientation)
        yield jpeg("bare", orientation=orientation, words=False, mode="grey")
    yield jpeg("turned", orientation=6, mode="cmyk", profile=profiles.cmyk)
    for sampling in ("4:2:0", "4:4:4"):
        yield jpeg(sampling.replace(":", ""), subsampling=sampling)


def _webp_cases():
    webp = partial(_case, "webp")
    for lossless in (False, True):
        about = "lossless" if lossless else "lossy"
        for name, profile in COLOUR_PROFILES.items():
            for alpha in ("", "soft"):
                yield webp(f"{about}-{name}", alpha=alpha, profile=profile, lossless=lossless, quality=95)
        yield webp(about, alpha="hidden", lossless=lossless, quality=95)
    for orientation in TURNS:
        yield webp("lossless", orientation=orientation, lossless=True)


def _avif_cases():
    avif = partial(_case, "avif")
    for name, profile in COLOUR_PROFILES.items():
        for alpha in ("", "soft"):
            yield avif(name, alpha=alpha, profile=profile)
    for orientation in TURNS:
        yield avif("", orientation=orientation, words=orientation % 2 == 0)


def _tiff_cases():
    tiff = partial(_case, "tif")
    layouts = {"striped": {"rowsperstrip": 9}, "tiled": {"tile": (16, 32)}, "planar": {"planarconfig": "separate"}}
    kinds = {"plain": {}, "lzw": {"compression": "lzw"}, "zstd": {"compression": "zstd"}}
    kinds["deflate"] = {"compression": "deflate", "predictor": True}
    turn = 0
    for layout, shape in layouts.items():
        for kind, packing in kinds.items():
            for bits in (8, 16, 32):
                order, big = "<>"[turn % 2], turn % 3 == 0
                turn += 1
                options = {**shape, **packing, "order": order, "big": big}
                yield tiff(
                    f"{layout}-{kind}{'-big' if big else ''}-{'le' if order == '<' else 'be'}", bits=bits, **options
                )
    for layout in ("striped", "tiled"):
        shape = {"rowsperstrip": 16} if layout == "striped" else {"tile": (16, 32)}
        yield tiff(f"{layout}-jpeg", compression="jpeg", **shape)
    for name, profile in COLOUR_PROFILES.items():
        for bits in (8, 16):
            yield tiff(name, bits=bits, profile=profile, words=bits == 8)
    for bits in (8, 16, 32):
        yield tiff("grey-profile", mode="grey", bits=bits, profile=profiles.grey)
        for alpha in ("soft", "hidden", "premultiplied"):
            yield tiff("", bits=bits, alpha=alpha)
        yield tiff("", mode="grey", bits=bits, alpha="soft")
    for orientation in TURNS:
        yield tiff("", bits=16, orientation=orientation)
    for bits in (8, 16):
        yield tiff("", mode="cmyk", bits=bits, profile=profiles.cmyk)
    yield tiff("", mode="palette")
    yield tiff("", mode="bit")


def scene(width, height, seed):
    """(height, width, 3) in [0, 1]: a slow gradient with two soft discs, all of it in different colours."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    base, across, down = generator.uniform(0.3, 0.6, 3), *generator.uniform(-0.25, 0.25, (2, 3))
    picture = base + across * x[..., None] + down * y[..., None]
    for _ in range(2):
        weight = _disc(x, y, width, height, generator)[..., None]
        picture = picture * (1 - weight) + generator.uniform(0.05, 0.95, 3) * weight
    return np.clip(picture, 0, 1)


def _disc(x, y, width, height, generator, edge=2.0):
    """1 inside of a disc, 0 outside, over about four ``edge`` pixels."""
    (middle_x, middle_y), radius = generator.uniform(0.25, 0.75, 2), generator.uniform(0.15, 0.25)
    distance = np.hypot((x - middle_x) * width, (y - middle_y) * height) - radius * min(width, height)
    return 1 / (1 + np.exp(np.clip(distance / edge, -50, 50)))


def _transparency(alpha, width, height, seed):
    """(height, width) in [0, 1]."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    shape = 1 - _disc(x, y, width, height, np.random.default_rng(seed + 1))
    return np.round(shape) if alpha in ("hidden", "key") else np.where(shape < 0.02, 0, shape)


def _write(case, number, folder):
    width, height = SIZES[number % len(SIZES)]
    words = [
        case.mode,
        str(case.bits),
        case.alpha,
        f"turn{case.orientation}" if case.orientation > 1 else "",
        case.about,
    ]
    path = folder / f"{number:03d}-{'-'.join(filter(None, words))}.{case.extension}"
    tags = Tags(case.profile() if case.profile else None, case.orientation, case.words, (width, height))
    samples, options = _samples(case, width, height, number)
    writers = {"png": write_png, "jpg": write_jpeg, "webp": write_webp, "avif": write_avif, "tif": write_tiff}
    writers[case.extension](path, samples, tags, **options, **dict(case.options))
    size = (height, width) if case.orientation > 4 else (width, height)
    result = path.with_suffix(".png" if case.extension == "avif" else path.suffix).name
    doubled = (size[0] * SCALE, size[1] * SCALE)
    return Record(path, result, doubled, case.bits, tags, bool(case.alpha))


def _samples(case, width, height, seed):
    """What the file stores, (height, width, channels), and what its writer has to know about it."""
    picture = scene(width, height, seed)
    alpha = _transparency(case.alpha, width, height, seed) if case.alpha else None
    options = {}
    if case.extension == "png":
        options["mode"] = "grey" if case.mode == "bit" else case.mode
        options["bits"] = 1 if case.mode == "bit" else case.bits
    if case.extension == "tif":
        options["photometric"] = {"rgb": "rgb", "grey": "minisblack", "bit": "minisblack", "cmyk": "separated"}.get(
            case.mode, "palette"
        )
        options["premultiplied"] = (case.alpha == "premultiplied") if case.alpha else None
    if case.mode == "bit":
        bits = np.mgrid[:height, :width].sum(axis=0)[..., None] > (height + width) / 2  # white below a diagonal
        return (bits if case.extension == "tif" else bits.astype(np.uint8)), options
    if case.mode == "palette":
        return _palette_samples(case, picture, alpha, options)
    if case.mode == "grey":
        picture = picture.mean(axis=2, keepdims=True)
    if case.mode == "cmyk":
        ink = 0.8 * (1 - picture)
        picture = np.concatenate([ink, 0.5 * ink.min(axis=2, keepdims=True)], axis=2)
    if case.alpha == "key":
        return _keyed(case, picture, alpha, options)
    if case.alpha == "hidden":
        junk = np.random.default_rng(seed).random(picture.shape)
        picture = np.where(alpha[..., None] > 0, picture, junk)
    if case.alpha == "premultiplied":
        picture = picture * alpha[..., None]
    if alpha is not None:
        picture = np.concatenate([picture, alpha[..., None]], axis=2)
    return _quantized(picture, case.bits), options


def _quantized(values, bits):
    if bits == 32:
        return values.astype(np.float32)
    return np.rint(values * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)


def _palette_samples(case, picture, alpha, options):
    """A ramp of 256 colours, the first one of which is not seen with a key; with soft alpha all fade in."""
    low, high = picture.reshape(-1, 3).min(axis=0), picture.reshape(-1, 3).max(axis=0)
    ramp = np.linspace(0, 1, 256)[:, None]
    place = np.rint((picture.mean(axis=2) - picture.mean(axis=2).min()) / np.ptp(picture.mean(axis=2)) * 255)
    colours = low + (high - low) * ramp
    if case.extension == "tif":
        options["colormap"] = _quantized(colours, 16).T.copy()
        return place.astype(np.uint8)[..., None], options
    options["palette"] = _quantized(colours, 8)
    if case.alpha == "soft":
        options["transparency"] = bytes(min(255, 40 + level) for level in range(256))
    if case.alpha == "key":
        place = np.where(alpha > 0, np.maximum(place, 1), 0)
        options["transparency"] = b"\0"
    return place.astype(np.uint8)[..., None], options


def _keyed(case, picture, alpha, options):
    """One colour that nothing else has means that a pixel is not seen."""
    samples = np.maximum(_quantized(picture, case.bits), 1)
    samples[alpha == 0] = 0
    options["transparency"] = b"\0\0" * samples.shape[2]
    return samples, options


def commands(records, output):
    """Arguments of ``xpsr upscale`` that enlarge every photo into a folder.

    One run for all that become PNG, one for all that keep their format, and one by name for the first of each format.
    Without guidance and captions, which sharpen: what the files lose is looked for, not what the model adds.
    """
    settings = ("--scale", SCALE, "--guidance-scale", 1, "--captions", "none", "--quiet")
    to_png = [record for record in records if record.result_name.endswith(".png")]
    others = [record for record in records if record not in to_png]
    named = {record.path.suffix: record for record in reversed(others)}.values()
    kept = [record for record in others if record not in named]
    for chosen, how in ((to_png, ()), (kept, ("--format", "same"))):
        if chosen:
            yield ("upscale", *(record.path for record in chosen), "--output", f"{output}/", *how, *settings)
    for record in named:
        yield ("upscale", record.path, "--output", output / record.result_name, *settings)
